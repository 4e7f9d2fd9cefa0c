"""What a run of condensation costs, for the manifest of its set."""

import resource
import time
from typing import Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vdc.system.memory import RSS_UNIT


class Cost(Callback):
    """Measure a fit, over all runs that it took; the condenser writes it down at the end."""

    def __init__(self) -> None:
        self.spent = 0.0  # seconds of earlier runs
        self.largest: dict[str, int] = {}
        self.started = time.monotonic()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to count."""
        self.started = time.monotonic()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def now(self) -> dict[str, Any]:
        """Seconds, and the most memory at once of this process and of its device, in bytes."""
        peaks = {"peak_bytes": RSS_UNIT * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
        if torch.cuda.is_available():
            peaks["device_peak_bytes"] = torch.cuda.max_memory_allocated()
        largest = {name: max(value, self.largest.get(name, 0)) for name, value in peaks.items()}
        return {"seconds": round(self.spent + time.monotonic() - self.started, 2), **largest}

    def state_dict(self) -> dict[str, Any]:
        """So far."""
        return self.now()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.spent = state_dict["seconds"]
        self.largest = {name: value for name, value in state_dict.items() if name != "seconds"}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Hand it to the condenser, before it writes its set."""
        cast(Any, pl_module).cost = self.now() | {"steps": trainer.global_step}
