"""Multi-size condensation: one run whose first n items of every class are a good set of n, for every n."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn
from torch.optim import Optimizer

from vdc.condensed.memory import Memory
from vdc.data.sampler import PerClass
from vdc.methods.base.features import FeatureMatching, RealFeatures
from vdc.methods.base.learner import Learner, Terms
from vdc.methods.base.prefixes import MultiSize, Prefixes, StepFeatures
from vdc.ops.match import class_means
from vdc.ops.rng import derive

# -- in a memory ------------------------------------------------------------------------------------------


def prefix_rows(memory: Memory, sizes: Tensor) -> Tensor:
    """Clip rows of the first sizes[k] items of class k, class-major."""
    rows = torch.arange(len(memory))
    return rows[rows // memory.per_item % memory.ipc < sizes[rows // (memory.ipc * memory.per_item)]]


def frozen_parts(memory: Memory, frozen: Tensor) -> Iterator[tuple[nn.Parameter, Any]]:
    """Learnt tensors, and the index of what a step must leave: the first frozen[k] items of class k.

    What items share stays as it is while any item is frozen: else frozen ones would be rendered differently.
    """
    first = (torch.arange(memory.ipc) < frozen[:, None]).flatten()
    for name, parameter in memory.named_parameters():
        if "." not in name and parameter.ndim and len(parameter) % len(first) == 0:
            rows = first.repeat_interleave(len(parameter) // len(first)).nonzero().flatten()
            yield parameter, rows.to(parameter.device)
        else:
            yield parameter, ...


# -- around a learner -------------------------------------------------------------------------------------


class MatchPrefixes(Callback):
    """Match a prefix beside the whole set in a run of any `Learner`, which knows nothing of it.

    The prefix has the loss of the method on the items of the prefix, in the context of the step: of the same
    features, where the method is `FeatureMatching`. Distances are those of these features to those of the step's real
    clips, where its context is of `RealFeatures`; else of what `Learner.embed` makes of the items and of
    `data.per_class` real clips of each class.

    Args:
        plan: intervals and rules.
    """

    def __init__(self, plan: MultiSize) -> None:
        self.plan = plan
        self.prefixes: Prefixes | None = None  # of the learner's memory; with one item there are none
        self.learner: Learner
        self.measured: StepFeatures | None = None  # in this step
        self._kept: list[tuple[nn.Parameter, Any, Tensor]] = []  # frozen parts before the optimiser's step
        self._optimizer: Optimizer | None = None  # that puts them back

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stand between a learner and its loss.

        Raises:
            ValueError: it learns nothing.
        """
        if not isinstance(pl_module, Learner):
            raise ValueError(f"{type(pl_module).__name__} learns nothing that has sizes: leave multisize out")
        self.learner = pl_module
        pl_module.notes["multisize"] = asdict(self.plan)
        if pl_module.ipc > 1:
            pl_module.terms = self.terms
            pl_module.copies.append("earlier items")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a memory whose rows are not in the order in which a set is cut."""
        if getattr(self.learner.memory, "order", "image") != "image":
            raise ValueError("multisize needs memory.order image: stored sets are cut in the order of items")

    def terms(self, clips: Tensor, labels: Tensor, context: Any) -> Terms:
        """Terms of a step: of the whole set and, beside it, of the prefix to match.

        Args:
            clips: of all rows (N, C, T_c, H, W).
            labels: (N,) int64 or (N, K) logits.
            context: of the step.
        """
        learner, memory = self.learner, self.learner.memory
        if self.prefixes is None or not learner.step:  # a memory that was just filled, e.g. of the next block
            self.prefixes = Prefixes(self.plan, memory.num_classes, memory.ipc)
        prefixes = self.prefixes
        if prefixes.due(learner.step):
            self._share(prefixes)
            prefixes.choose()
            prefixes.keep(memory)
        rows = prefix_rows(memory, prefixes.matched).to(clips.device)
        given: Any = clips
        compare: Callable[[Any, Tensor, Any], Terms] = learner.loss
        if isinstance(learner, FeatureMatching) and type(learner).loss is FeatureMatching.loss:  # type: ignore[comparison-overlap]
            given = learner.features(clips, context)  # once, for both
            compare = learner.match
        terms = compare(given, labels, context)
        if len(rows):
            part = apply_to_collection(given, Tensor, lambda t: t[rows])
            terms |= {f"prefix_{name}": term for name, term in compare(part, labels[rows], context).items()}
        if prefixes.earlier is not None and prefixes.measuring(learner.step):
            self.measured = self._measure(prefixes.earlier, clips, given, context)
        sizes = {"prefix": prefixes.matched, "frozen": prefixes.frozen}
        learner.log_dict({name: items.float().mean() for name, items in sizes.items()})
        return terms

    def _share(self, prefixes: Prefixes) -> None:
        """Average what was measured over the processes that share classes: each goes on with what all of them saw."""
        if self.learner.separable or self.learner.trainer.world_size == 1:
            return
        for name in ("sums", "counts"):
            own = getattr(prefixes, name).to(self.learner.device)
            setattr(prefixes, name, self.learner.trainer.strategy.reduce(own, reduce_op="mean").cpu())

    @torch.no_grad()
    def _measure(self, earlier: Memory, clips: Tensor, given: Any, context: Any) -> StepFeatures:
        """What the step's networks make of clips (N, C, T_c, H, W), of earlier ones, and of real ones."""
        learner = self.learner
        earlier.to(learner.device)
        for old, now in zip(earlier.buffers(), learner.memory.buffers(), strict=True):
            old.copy_(now)  # items at the last choice, rendered with this step's draws
        before, _ = learner.render(earlier, context)
        if isinstance(learner, FeatureMatching) and isinstance(context, RealFeatures):
            features = learner.features(clips, context) if given is clips else given
            both = (features, learner.features(before, context))
            now, then = (f[0] if isinstance(f, tuple) else f for f in both)
            means, counts = class_means(context.real, context.labels, len(learner.classes))
            return StepFeatures(now.detach(), then, means, counts)
        classes = learner.memory.labels.to(clips.device)
        means = torch.stack([
            learner.embed(real, torch.full((len(real),), label, device=real.device), context).float().mean(0)
            for label, real in enumerate(self._real_clips())
        ])  # fmt: skip
        now, then = (learner.embed(some, classes, context).float() for some in (clips, before))
        return StepFeatures(now, then, means, torch.ones(len(means)))

    def _real_clips(self) -> Iterator[Tensor]:
        """`data.per_class` random real clips (n, C, T_c, H, W) of each class of the memory, others in every step."""
        learner, data, n = self.learner, self.learner.data, self.learner.data.per_class
        seed = derive(learner.seed, "measured", learner.classes[0], learner.step)
        keys = PerClass(data.labels, n, learner.classes, seed, steps=1)
        for raw in data.by_key(keys, seed, n, stored=True):
            yield data.to_batch(raw.to(learner.device)).clips

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Keep what is frozen, and drop its gradient; every block brings an optimiser of its own."""
        self._kept.clear()
        if self.prefixes is None or not self.prefixes.frozen.any():
            return
        if optimizer is not self._optimizer:
            optimizer.register_step_post_hook(self._put_back)
            self._optimizer = optimizer
        for parameter, rows in frozen_parts(self.learner.memory, self.prefixes.frozen):
            self._kept.append((parameter, rows, parameter.detach()[rows].clone()))
            if parameter.grad is not None:
                parameter.grad[rows] = 0

    @torch.no_grad()
    def _put_back(self, optimizer: Optimizer, *_: Any) -> None:
        """Restore frozen items and zero their moments after `step()`, whatever momentum and weight decay say."""
        for parameter, rows, values in self._kept:
            parameter[rows] = values
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment[rows] = 0
        self._kept.clear()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Count what was measured; only now, as a step that is not finite stops before."""
        if self.prefixes is not None and self.measured is not None:
            self.prefixes.add(self.measured)
        self.measured = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add what was chosen and measured, by all processes: one of them writes."""
        if self.prefixes is not None:
            self._share(self.prefixes)
            checkpoint["multisize"] = self.prefixes.state()

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with it."""
        if "multisize" in checkpoint:
            memory = self.learner.memory
            self.prefixes = Prefixes(self.plan, memory.num_classes, memory.ipc)
            self.prefixes.load_state(checkpoint["multisize"], memory)
