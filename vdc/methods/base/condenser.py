"""Condenser: what every condensation method is, a LightningModule that fills a memory and stores it."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

from lightning.pytorch import LightningModule
from torch import Tensor

from vdc.condensed.format import save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Memory, Pixels
from vdc.data import RealData
from vdc.nets.interpolator import Interpolator, interpolator_of
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

Batches = Literal["every_clip", "per_class", "shuffled", "none"]
MemoryCallable = Callable[[int, int, ClipSpec], Memory]


class Condenser(LightningModule, ABC):
    """A few videos per class that teach what the full set teaches, learnt (`Learner`) or chosen (`Selection`).

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        ipc: items per class.
        memory: what is stored.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
    """

    batches: ClassVar[Batches]
    selects: ClassVar[bool] = False  # it chooses real clips, most preferred first, and learns nothing

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        seed: int = 0,
        out: str | None = None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.spec = spec
        self.ipc = ipc
        self.memory = memory(num_classes, ipc, spec)
        self.seed = seed
        self.out = out
        self.config: dict[str, Any] = {}  # of the whole run, set by the command line, for the manifest
        self.notes: dict[str, Any] = {}  # what callbacks add to `learnt`; the same when a run goes on
        self.cost: dict[str, Any] = {}  # see `Cost`
        self.strict_loading = False  # a checkpoint holds the memory, not the teachers
        self._resumed = False

    def prepare(self) -> None:
        """Load teachers and cache statistics: once per process, on the device, before the first step."""

    @abstractmethod
    def fill(self) -> None:
        """Give the memory the clips it starts from."""

    @abstractmethod
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """One step of condensation."""

    def learnt(self) -> dict[str, Any]:
        """Numbers learnt beside clips and labels, for the manifest."""
        return {}

    @property
    def data(self) -> RealData:
        """The real videos."""
        return cast("RealData", self.trainer.datamodule)  # type: ignore[attr-defined]

    def view(self, clips: Tensor, starts: Tensor | None) -> Tensor:
        """Stored clips (N, C, T_c, H, W) -> seen clips (N, C, T, H, W), at `starts` from `draw_starts`."""
        return apply_view(clips, self.spec, starts, self.interpolator)

    @cached_property
    def interpolator(self) -> Interpolator | None:
        """What stretches items, where the spec asks for a trained network; no part of this module's state."""
        return interpolator_of(self.spec, self.device)

    def on_fit_start(self) -> None:
        """Prepare, and fill the memory unless a checkpoint did."""
        if (precision := str(self.trainer.precision)) in ("bf16-true", "16-true"):
            raise ValueError(f"--trainer.precision {precision} rounds the learnt pixels: use bf16-mixed")
        self.prepare()
        if self._resumed:
            self.memory.clamp()
        else:
            self.fill()

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The memory only."""
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if k.startswith("memory.")}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what must not be different when the run goes on."""
        checkpoint["notes"] = dict(self.notes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Strict where it matters: the whole memory must be there, learnt in the same way."""
        if missing := self.state_dict().keys() - checkpoint["state_dict"].keys():
            raise ValueError(
                f"--ckpt_path: the checkpoint lacks {', '.join(sorted(missing))}: it is of another memory"
            )
        if (notes := checkpoint.get("notes", {})) != self.notes:
            raise ValueError(f"--ckpt_path was written by a run of {notes}, this one is of {self.notes}")
        self._resumed = True

    def stored_labels(self) -> Labels:
        """Labels written with the set: hard, or the learnt logits."""
        logits = self.memory.logits
        return Labels(hard=self.memory.labels, soft=None if logits is None else logits.detach().half().cpu())

    def on_fit_end(self) -> None:
        """Write the condensed set."""
        if self.out is None or not self.trainer.is_global_zero or self.trainer.interrupted:
            return
        about: dict[str, Any] = {"method": type(self).__name__, "selects": self.selects, "seed": self.seed}
        about |= {"classes": self.data.classes, "source": self.data.fingerprint()}
        about |= {"config": self.config, "learnt": self.learnt() | self.notes, "cost": self.cost}
        save(self.out, self.memory, self.stored_labels(), **about)
