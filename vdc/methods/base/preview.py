"""What a condenser has learnt so far, as videos that play in TensorBoard."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from vdc.condensed.memory import Memory
from vdc.condensed.preview import enlarge, grid, lettered, write_gif
from vdc.ops.pixels import to_frames
from vdc.system.logs import log_image, takes_images

SIDE = 96  # pixels a clip is shown at


class Preview(Callback):
    """Log clips of the memory as animated images; plays in the Images tab and needs no moviepy.

    Args:
        every: steps between two previews; one more is logged at the end.
        classes: shown at most, a row each.
        items: shown at most of a class.
    """

    def __init__(self, every: int = 500, classes: int = 8, items: int = 4) -> None:
        if min(every, classes, items) < 1:
            raise ValueError(
                f"preview every {every}, classes {classes}, items {items}: all must be at least 1"
            )
        self.every, self.classes, self.items = every, classes, items

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log if it is time."""
        if trainer.global_step and trainer.global_step % self.every == 0:  # 0: a selection's whole pass
            self.show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the result."""
        self.show(trainer, pl_module)

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the memory as it is."""
        memory = pl_module.memory
        assert isinstance(memory, Memory)
        if trainer.is_global_zero and takes_images(trainer.loggers):
            film = self.film(memory, getattr(trainer.datamodule, "classes", ()))  # type: ignore[attr-defined]
            log_image(trainer.loggers, "memory", write_gif(film), film.shape[1:3], trainer.global_step)

    @torch.no_grad()
    def film(self, memory: Memory, classes: Sequence[str] = ()) -> Tensor:
        """The shown clips side by side, a row per class with its name, (T, H, W, C) uint8."""
        columns = min(self.items, memory.ipc) * memory.per_item
        rows = memory.prefix(min(self.items, memory.ipc))[: columns * self.classes]
        device = next((t.device for t in (*memory.parameters(), *memory.buffers())), torch.device("cpu"))
        frames = to_frames(memory.render(rows.to(device))[0]).cpu()
        film = grid(enlarge(frames, SIDE), columns)
        return lettered(film, classes[: self.classes]) if classes else film
