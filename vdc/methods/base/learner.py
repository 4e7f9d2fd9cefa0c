"""Learner: a condenser whose items are learnt by gradient steps, on a loss that the method writes."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor
from torch.optim import Optimizer

from vdc.condensed.format import load
from vdc.condensed.memory import Memory
from vdc.methods.base.condenser import Condenser
from vdc.methods.base.nonfinite import stop_if_not_finite
from vdc.ops.rng import derive, generator
from vdc.ops.windows import draw_starts
from vdc.spec import Batch, ClipSpec

Terms = dict[str, Tensor]  # named terms of a loss, scalars


class Learner(Condenser):
    """A condenser that learns: `context` draws everything random about a step once, `loss` compares.

    They are apart so that a part of the items can be compared under the same context as all of them.

    Args:
        optimizer: of the memory's parameters.
        init: `real` (random training clips), `noise`, or the folder of a condensed set of the same shape.
        options: see `Condenser`.
    """

    separable: ClassVar[bool] = False  # classes do not interact: ranks own class blocks, nothing is averaged

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        optimizer: OptimizerCallable = torch.optim.Adam,
        init: str = "real",
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, **options)
        self.optimizer = optimizer
        self.init = init
        self.terms: Callable[[Tensor, Tensor, Any], Terms] | None = None  # of a callback, in place of `loss`
        self.step_terms: Terms = {}  # those of the current step, detached
        self.copies: list[str] = []  # of the items, kept by callbacks: an estimate of memory counts them

    def context(self, batch: Batch | None) -> Any:
        """Everything random about one step, drawn once: networks, real features, windows, augmentation."""
        return batch

    @abstractmethod
    def loss(self, clips: Tensor, labels: Tensor, context: Any) -> Terms:
        """Named terms, whose sum is minimised.

        Args:
            clips: rendered stored clips (N, C, T_c, H, W), of all items or of some.
            labels: (N,) int64 or (N, K) logits.
            context: from `context`.
        """

    def embed(self, clips: Tensor, classes: Tensor, context: Any) -> Tensor:
        """Vectors (N, D) whose means tell how far items are from real clips: pixels, where no network does better.

        Args:
            clips: items or real clips (N, C, T_c, H, W).
            classes: of them (N,) int64, counted from the first that the memory holds.
            context: from `context`.
        """
        return clips.flatten(1)

    def render(self, memory: Memory, context: Any) -> tuple[Tensor, Tensor]:
        """Clips and labels of all items of a memory, as `loss` takes them."""
        return memory.render(torch.arange(len(memory), device=self.device))

    def about_step(self) -> str:
        """What the current step is made of, for the message when it fails."""
        return type(self).__name__

    def rollback_step(self) -> None:
        """Roll back what the current step changed beside the memory, before the emergency checkpoint."""

    @property
    def classes(self) -> range:
        """Classes that the memory holds."""
        return range(self.num_classes)

    @property
    def step(self) -> int:
        """Step since the memory was filled."""
        return self.global_step

    def rng(self, *purpose: int | str, per_rank: bool = False) -> torch.Generator:
        """A generator for one purpose of the current step, equal after a resume; per rank where asked."""
        rank = self.global_rank if per_rank else 0
        return generator(self.seed, *purpose, self.global_step, rank)

    def draw_starts(self, n: int) -> Tensor:
        """Window starts for n clips of this step."""
        return draw_starts(n, self.spec, self.rng("view"))

    def fill(self) -> None:
        """Give the memory the clips it starts from."""
        self.memory.redraw(derive(self.seed, "memory"))
        self.memory.initialise(self.initial_clips())

    def initial_clips(self) -> Tensor:
        """Clips (C, n, 3, T_c, H, W) that the memory starts from, per `init`, of the classes that it holds."""
        count = self.memory.init_clips_per_class
        if self.init == "noise":
            return self.noise(count, 3, self.spec.stored, self.spec.size, self.spec.size).to(self.device)
        if self.init == "real":
            return self.data.sample(count, self.seed, self.classes).to(self.device)
        stored = self.start_set
        per_class = len(stored) // self.num_classes
        rows = torch.tensor([label * per_class + i for label in self.classes for i in range(count)])
        with torch.no_grad():
            clips, _ = stored.render(rows)
        return clips.view(len(self.classes), count, *clips.shape[1:]).to(self.device)

    def noise(self, *shape: int) -> Tensor:
        """Normal noise of `shape` for every class that the memory holds."""
        return torch.randn((self.num_classes, *shape), generator=generator(self.seed, "init"))

    @cached_property
    def start_set(self) -> Memory:
        """The condensed set that `init` names, of this run's classes and shapes.

        Raises:
            ValueError: the set is of other classes or shapes, or smaller.
        """
        source, count = load(self.init), self.memory.init_clips_per_class
        stored = source.memory()
        per_class, shape = len(stored) // stored.num_classes, (stored.spec.stored, stored.spec.size)
        wanted = (shape[0] if self.memory.any_length else self.spec.stored, self.spec.size)
        if source.classes != self.data.classes or per_class < count or shape != wanted:
            raise ValueError(
                f"--model.init_args.init {self.init}: {stored.num_classes} classes x {per_class} clips of "
                f"{shape[0]} frames, {shape[1]} px; needed the {self.num_classes} classes of the data x "
                f"{count} of {wanted[0]} frames, {wanted[1]} px"
            )
        return stored

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Keep the stored pixels displayable; make dropout and friends depend on the step alone.

        Here, because checkpoints are written before a step's end hook, and a resumed run repeats the other.
        """
        self.memory.clamp()
        self.memory.redraw(derive(self.seed, "memory", self.global_step))
        torch.manual_seed(derive(self.seed, "step", self.global_step, self.global_rank))

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step of condensation."""
        context = self.context(batch)
        clips, labels = self.render(self.memory, context)
        terms = (self.terms or self.loss)(clips, labels, context)
        total = torch.stack(list(terms.values())).sum()
        self.step_terms = {name: value.detach() for name, value in terms.items()}
        self.log("loss", total.detach(), prog_bar=True)
        self.log_dict({f"loss/{name}": value for name, value in self.step_terms.items()})
        self.log_dict(self.memory.curves())
        return total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop at a loss or gradient that is not finite."""
        terms = self.step_terms.values()
        stop_if_not_finite(self, terms, optimizer, self.about_step(), self.rollback_step)

    def configure_optimizers(self) -> Any:
        """The memory's optimiser; teachers and students never see it."""
        return self.optimizer(self.memory.groups())

    def on_train_end(self) -> None:
        """Keep the stored pixels displayable after the last step too."""
        self.memory.clamp()
