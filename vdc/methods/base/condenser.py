"""Condenser: what every condensation method is, a LightningModule whose parameters are the stored items."""

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Memory, Pixels
from vdc.data import RealData
from vdc.methods.base import multisize as sizes
from vdc.methods.base.multisize import MultiSize, Seen, prefixes_of
from vdc.methods.base.nonfinite import stop_if_not_finite
from vdc.nets.interpolator import Interpolator, interpolator_of
from vdc.ops.rng import derive, generator
from vdc.ops.windows import apply_view, draw_starts
from vdc.spec import Batch, ClipSpec

MemoryCallable = Callable[[int, int, ClipSpec], Memory]


class Condenser(LightningModule):
    """Learn or choose a few videos per class that teach a network what the full set teaches.

    A method says what to match: `context` draws everything random about a step once, `loss` compares. They
    are apart so that a smaller prefix of the set can be compared under the same context (multi-size). A
    method that chooses instead of learning writes its own `training_step` (see `selection.py`).

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        ipc: items per class.
        memory: what is stored and learnt.
        optimizer: of the memory's parameters.
        init: `real` (random training clips), `noise`, or the folder of a condensed set of the same shape.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
        multisize: match prefixes of the items too, so that they can be used alone; `None` does not.
    """

    batches: ClassVar[Literal["every_clip", "per_class", "shuffled", "none"]]
    selects: ClassVar[bool] = False  # it chooses real clips, most preferred first, and learns nothing
    separable: ClassVar[bool] = False  # classes do not interact: ranks own class blocks, nothing is averaged

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        optimizer: OptimizerCallable = torch.optim.Adam,
        init: str = "real",
        seed: int = 0,
        out: str | None = None,
        multisize: MultiSize | None = None,
    ) -> None:
        super().__init__()
        if multisize is not None and type(self).embedded is Condenser.embedded:
            raise ValueError(
                f"{type(self).__name__} measures no features to choose prefixes by: leave "
                "model.init_args.multisize out, or write its `embedded`"
            )
        self.num_classes, self.spec, self.ipc = num_classes, spec, ipc
        self.memory = memory(num_classes, ipc, spec)
        self.optimizer, self.init, self.seed, self.out = optimizer, init, seed, out
        self.config: dict[
            str, Any
        ] = {}  # the whole run's configuration, set by the command line, for the manifest
        self.strict_loading = False  # a checkpoint holds the memory, not the teachers
        self._resumed = False
        self.multisize = multisize
        self.prefixes = prefixes_of(self.memory, multisize)
        self.step_seen: Seen | None = None  # what multi-size measured in this step
        self._total: Tensor | None = None  # loss of the step

    # -- what a method writes ----------------------------------------------------------------------------

    def prepare(self) -> None:
        """Load teachers and cache statistics: once per process, on the device, before the first step."""

    def context(self, batch: Batch | None) -> Any:
        """Everything random about one step, drawn once: networks, real features, windows, augmentation."""
        return batch

    def rows(self, context: Any) -> Tensor:
        """Clip rows the step renders; all of them unless a method takes blocks."""
        return torch.arange(len(self.memory), device=self.device)

    def rendered(self, context: Any, memory: Memory) -> tuple[Tensor, Tensor]:
        """Clips and labels of the step's rows of a memory, as `loss` takes them."""
        return memory.render(self.rows(context), self.frozen)

    def loss(self, clips: Tensor, labels: Tensor, context: Any) -> dict[str, Tensor]:
        """Named terms, whose sum is minimised.

        Args:
            clips: rendered stored clips (N, C, T_c, H, W).
            labels: (N,) int64 or (N, K) logits.
            context: from `context`.
        """
        raise NotImplementedError(f"{type(self).__name__} writes neither `loss` nor its own `training_step`")

    def losses(
        self, clips: Tensor, labels: Tensor, context: Any, prefix: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """`loss` of all clips and of the rows `prefix` (n,), in one context; a method that can, shares work."""
        return self.loss(clips, labels, context), self.loss(clips[prefix], labels[prefix], context)

    def embedded(self, clips: Tensor, earlier: Tensor, context: Any) -> Seen:
        """What a network of the step makes of clips and of real ones: multi-size chooses prefixes by it.

        Args:
            clips: all, as `loss` or `losses` just had them: a method that can, gives their features.
            earlier: the same, as they were when a prefix was chosen last.
            context: of the step.
        """
        raise NotImplementedError

    def about_step(self) -> str:
        """What the current step is made of, for the message when it fails."""
        return type(self).__name__

    def take_back(self) -> None:
        """Undo what the current step changed beside the memory, before its state is saved for good."""

    # -- what methods use --------------------------------------------------------------------------------

    @property
    def classes(self) -> range:
        """Classes that the memory holds."""
        return range(self.num_classes)

    @property
    def step(self) -> int:
        """Step since the memory was filled."""
        return self.global_step

    @property
    def frozen(self) -> int | Tensor:
        """First items of every class that the step must not change, 0 or (classes,)."""
        frozen = 0 if self.prefixes is None else self.prefixes.frozen
        return frozen if isinstance(frozen, Tensor) and bool(frozen.any()) else 0

    @property
    def data(self) -> RealData:
        """The real videos."""
        return cast("RealData", self.trainer.datamodule)  # type: ignore[attr-defined]

    def rng(self, *purpose: int | str, per_rank: bool = False) -> torch.Generator:
        """A generator for one purpose of the current step, equal after a resume; per rank where asked."""
        rank = self.global_rank if per_rank else 0
        return generator(self.seed, *purpose, self.global_step, rank)

    def view(self, clips: Tensor, starts: Tensor | None) -> Tensor:
        """Stored clips (N, C, T_c, H, W) -> seen clips (N, C, T, H, W), at `starts` from `draw_starts`."""
        return apply_view(clips, self.spec, starts, self.interpolator)

    @cached_property
    def interpolator(self) -> Interpolator | None:
        """What stretches items, where the spec asks for a trained network; no part of this module's state."""
        return interpolator_of(self.spec, self.device)

    def draw_starts(self, n: int) -> Tensor:
        """Window starts for n clips of this step."""
        return draw_starts(n, self.spec, self.rng("view"))

    # -- Lightning ---------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Prepare, and fill the memory unless a checkpoint did."""
        if str(self.trainer.precision) in ("bf16-true", "16-true"):
            raise ValueError(
                f"--trainer.precision {self.trainer.precision} rounds the learnt pixels: use bf16-mixed"
            )
        self.prepare()
        if self._resumed:
            self.memory.clamp()
        else:
            self.fill()

    def fill(self) -> None:
        """Give the memory the clips it starts from."""
        self.memory.redraw(derive(self.seed, "memory"))
        self.memory.initialise(self.initial_clips())

    def initial_clips(self) -> Tensor:
        """Clips (K, wants, C, T_c, H, W) that the memory starts from, per `init`."""
        shape = (self.num_classes, self.memory.wants, 3, self.spec.stored, self.spec.size, self.spec.size)
        if self.init == "noise":
            return torch.randn(shape, generator=generator(self.seed, "init")).to(self.device)
        if self.init == "real":
            return self.data.sample(self.memory.wants, self.seed).to(self.device)
        stored = self.start_set().to(self.device)
        with torch.no_grad():
            clips, _ = stored.render(torch.arange(len(stored), device=self.device))
        return clips.view(self.num_classes, -1, *clips.shape[1:])[:, : self.memory.wants]

    def start_set(self) -> Memory:
        """The condensed set that `init` names, of this run's classes and shapes.

        Raises:
            ValueError: the set is of other classes or shapes, or smaller.
        """
        source, wants = load(self.init), self.memory.wants
        stored = source.memory()
        per_class, shape = len(stored) // stored.num_classes, (stored.spec.stored, stored.spec.size)
        wanted = (shape[0] if self.memory.any_length else self.spec.stored, self.spec.size)
        if source.classes != self.data.classes or per_class < wants or shape != wanted:
            raise ValueError(
                f"--model.init_args.init {self.init}: {stored.num_classes} classes x {per_class} clips of "
                f"{shape[0]} frames, {shape[1]} px; needed the {self.num_classes} classes of the data x "
                f"{wants} of {wanted[0]} frames, {wanted[1]} px"
            )
        return stored

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Keep the stored pixels displayable; make dropout and friends depend on the step alone.

        Here, because checkpoints are written before a step's end hook, and a resumed run repeats the other.
        """
        self.memory.clamp()
        self.memory.redraw(derive(self.seed, "memory", self.global_step))
        sizes.choose(self)
        torch.manual_seed(derive(self.seed, "step", self.global_step, self.global_rank))

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step of condensation."""
        context = self.context(batch)
        clips, labels = self.rendered(context, self.memory)
        terms = sizes.terms(self, clips, labels, context)
        total = torch.stack(list(terms.values())).sum()
        self._total = total.detach()
        self.log("loss", self._total, prog_bar=True)
        self.log_dict({f"loss/{name}": value.detach() for name, value in terms.items()})
        self.log_dict(self.memory.curves())
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop at a loss or gradient that is not finite."""
        stop_if_not_finite(self, self._total, optimizer, self.about_step(), self.take_back)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """Leave frozen items as they are, whatever momentum and weight decay say."""
        with sizes.held(self, cast(Optimizer, self.optimizers(use_pl_optimizer=False))):
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        sizes.count(self)  # only now: a step that is not finite stops before

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what multi-size has chosen and measured."""
        if self.prefixes is not None:
            checkpoint["multisize"] = sizes.saved(self, self.prefixes)

    def configure_optimizers(self) -> Any:
        """The memory's optimiser; teachers and students never see it."""
        return self.optimizer(self.memory.groups())

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """The memory only."""
        return {k: v for k, v in super().state_dict(*args, **kwargs).items() if k.startswith("memory.")}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Strict where it matters: the whole memory must be there."""
        if missing := self.state_dict().keys() - checkpoint["state_dict"].keys():
            raise ValueError(
                f"--ckpt_path: the checkpoint lacks {', '.join(sorted(missing))}: it is of another memory"
            )
        if (self.prefixes is None) != ("multisize" not in checkpoint):
            raise ValueError("--ckpt_path: one of checkpoint and this run is multi-size, the other is not")
        if self.prefixes is not None:
            self.prefixes.load_state(checkpoint["multisize"], self.memory)
        self._resumed = True

    def stored_labels(self) -> Labels:
        """Labels written with the set: hard, or the learnt logits."""
        logits = self.memory.logits
        return Labels(hard=self.memory.labels, soft=None if logits is None else logits.detach().half().cpu())

    def learnt(self) -> dict[str, Any]:
        """Numbers learnt beside clips and labels, for the manifest."""
        return {}

    def on_train_end(self) -> None:
        """Keep the stored pixels displayable after the last step too."""
        self.memory.clamp()

    def on_fit_end(self) -> None:
        """Write the condensed set."""
        if self.out is None or not self.trainer.is_global_zero or self.trainer.interrupted:
            return
        save(
            self.out,
            self.memory,
            self.stored_labels(),
            classes=self.data.classes,
            source=self.data.fingerprint(),
            method=type(self).__name__,
            selects=self.selects,
            config=self.config,
            seed=self.seed,
            learnt=self.learnt() | ({} if self.multisize is None else {"multisize": asdict(self.multisize)}),
        )
