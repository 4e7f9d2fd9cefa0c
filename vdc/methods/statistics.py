"""Statistics matching: items whose traces inside trained networks look like those of real clips."""

import math
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.features import FeatureMatching
from vdc.methods.base.learner import Terms
from vdc.methods.base.memory_estimate import activation_bytes
from vdc.methods.base.shard import State
from vdc.methods.teacher_statistics import PATCH, Measured, Watch, beside, measure, observe
from vdc.nets import Teacher, in_parts, load_teacher
from vdc.ops.augment import random_boxes, resized_crop
from vdc.ops.losses import ce
from vdc.ops.stats import Momentum, Stat, Variance, class_target, flatness, layer_distance, pooled, smooth_
from vdc.spec import Batch, ClipSpec

Taps = Literal["norm", "conv", "both"]
Curriculum = Literal["none", "cosine"]
SLOW_RATE, TEMPERATURE = 0.99, 4.0  # of the flatness term: Shao 2024b


def published_adam(parameters: Any) -> torch.optim.Adam:
    """What all four papers have for the pixels; the rate is EDC's."""
    return torch.optim.Adam(parameters, lr=0.05, betas=(0.5, 0.9))


class StatisticsContext(NamedTuple):
    """Everything random about a step."""

    starts: Tensor  # (N,) first stored frame of each item's window
    boxes: Tensor  # (N, 5) crops
    teachers: list[int]  # of all, by number


class TeacherFeatures(NamedTuple):
    """What a teacher makes of clips."""

    logits: Tensor  # (N, K)
    mean: Tensor  # (N, sum of S), of every tap and clip
    var: Tensor  # (N, sum of S)
    slow_logits: Tensor | None  # (N, K) of the slow copy


class Target(NamedTuple):
    """What one teacher should see in a block."""

    sizes: list[int]  # S of every tap, in forward order
    weights: Tensor  # (taps,)
    dataset: Stat  # (sum of S,)
    classes: Stat | None  # (C, sum of S) of the block's classes; not read at alpha 1


class Statistics(FeatureMatching, BlockCondenser):
    """What SRe2L, G-VBSM, EDC and CDA share: each is a class that chooses among the options below.

    Loss of a step, for one teacher (or all): cross-entropy + weight * sum over taps of [alpha *
    d(batch, data set) + (1 - alpha) * d(batch, the classes in it)] + flatness_weight * KL to a slow copy of
    the items; d: L2 distances of the channel means and of the variances of the tapped layers' inputs.

    Yin 2023 (SRe2L: alpha 1, norms, noise); Shao 2024a (G-VBSM: several teachers, convolutions too); Shao
    2024b (EDC: real start, alpha 0.5; shaoshitong/EDC@80116a79:Branch_full_ImageNet_1k/recover); Yin 2024
    (CDA: crops from easy to hard; VILA-Lab/SRe2L@2e346ff1:CDA).

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data; every step sees a new window of the stored
            frames.
        teachers: folders that `vdc pretrain` wrote.
        optimizer: of one block's parameters; its rate falls to 0 over the block by half a cosine.
        taps: whose inputs are matched: `norm` layers, `conv` layers, or both.
        alpha: share of data-set-wide matching, the rest is class-wise; in [0, 1].
        variance: of a class: mean `within` clips, as EDC's authors store it, or `pooled` over all its pixels.
        patch: match also the statistics of each cell of a grid over the inputs of convolutions.
        weight: of the statistics.
        first_multiplier: extra weight of the first tapped layer.
        momentum: of the moving average of batch statistics, 0 for none.
        flatness_weight: of the KL to the slow copy's logits, mean over items; the authors' is K times ours.
        turns: one teacher per step in turn, or the mean over all.
        crop_scale: area of the random crop of a step over that of the frame.
        shared_crop: one crop for all items of a step, as published, or one each.
        flip: probability of mirroring.
        curriculum: `cosine` lowers the least crop area from `crop_scale[1]` to `crop_scale[0]` (CDA).
        reference_quirks: averages start at zero uncorrected, and go on from block to block, as in EDC's code.
        cache: folder of measured statistics; `None`: `statistics` inside each teacher's folder.
        options: see `BlockCondenser`; a block is the batch whose statistics are matched.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        teachers: list[str],
        *,
        optimizer: OptimizerCallable = published_adam,
        taps: Taps = "both",
        alpha: float = 0.5,
        variance: Variance = "within",
        patch: bool = False,
        weight: float = 0.01,
        first_multiplier: float = 10.0,
        momentum: float = 0.8,
        flatness_weight: float = 0.0,
        turns: Literal["round_robin", "all"] = "round_robin",
        crop_scale: tuple[float, float] = (0.5, 1.0),
        shared_crop: bool = True,
        flip: float = 0.5,
        curriculum: Curriculum = "none",
        reference_quirks: bool = False,
        cache: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, optimizer=optimizer, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"model.init_args.alpha must be in [0, 1], got {alpha}")
        if not 0 <= momentum < 1:
            raise ValueError(f"model.init_args.momentum must be in [0, 1), got {momentum}")
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise ValueError(f"model.init_args.crop_scale must be 0 < low <= high <= 1, got {crop_scale}")
        if not teachers:
            raise ValueError("model.init_args.teachers is empty: name folders that `vdc pretrain` wrote")
        self.folders = teachers
        self.watch = Watch(("norm", "conv") if taps == "both" else (taps,), patch)
        self.alpha = alpha
        self.variance = variance
        self.weight = weight
        self.first_multiplier = first_multiplier
        self.flatness_weight = flatness_weight
        self.turns = turns
        self.crop_scale = crop_scale
        self.shared_crop = shared_crop
        self.flip = flip
        self.curriculum = curriculum
        self.quirks = reference_quirks
        self.cache = cache
        self.averages = Momentum(momentum, corrected=not reference_quirks)
        self.slow: Tensor | None = None  # moving average of the rendered items
        self.measured: list[Measured] = []
        self.targets: list[Target] = []

    def setup(self, stage: str) -> None:
        """Load the teachers, which say how much memory a block takes."""
        if self.quirks and self.trainer.world_size > 1:
            raise ValueError(
                "model.init_args.reference_quirks lets blocks depend on one another: use one process"
            )
        self.teachers = [load_teacher(folder, self.data.classes, self.spec) for folder in self.folders]
        super().setup(stage)

    def demand(self, clips: int) -> dict[str, int]:
        """Bytes that `clips` clips need beside pixels and optimiser."""
        each = [activation_bytes(teacher) for teacher in self.teachers]
        return {"activations": clips * (sum(each) if self.turns == "all" else max(each))}

    def prepare(self) -> None:
        """Measure the real clips inside every teacher."""
        for teacher in self.teachers:  # no part of this module's state
            teacher.to(self.device)
        self.measured = measure(self.teachers, self.data, self.watch, self.alpha < 1, self.cache)

    def begin_block(self) -> None:
        """Forget the averages of the last block, and look up what the new one's classes should look like."""
        if not self.quirks:
            self.averages.reset()
        self.slow = None
        self.targets = [self._target(measured) for measured in self.measured]

    def _target(self, measured: Measured) -> Target:
        """What a teacher should see in the current block."""
        names = list(measured.sizes)
        first = torch.tensor([name.removesuffix(PATCH) == names[0] for name in names])
        weights = torch.where(first, self.first_multiplier, 1.0).to(self.device)
        dataset, classes = Stat(*(part.float().to(self.device) for part in measured.dataset)), None
        if self.alpha < 1:
            own = (part[list(self.classes)].float() for part in measured.classes(self.variance))
            classes = Stat(*(part.to(self.device) for part in own))
        return Target(list(measured.sizes.values()), weights, dataset, classes)

    def block_state(self) -> State:
        """The moving averages."""
        state = {f"average {name}": part for name, part in self.averages.averages.items()}
        state |= {
            f"weight {name}": torch.tensor(w, dtype=torch.float64)
            for name, w in self.averages.weights.items()
        }
        return state if self.slow is None else state | {"slow": self.slow}

    def load_block_state(self, state: State) -> None:
        """Take the moving averages up again."""
        self.slow = state.get("slow")
        self.averages.reset()
        for name in (key.removeprefix("average ") for key in state if key.startswith("average ")):
            self.averages.averages[name] = state[f"average {name}"]
            self.averages.weights[name] = state[f"weight {name}"].item()

    def context(self, batch: Batch | None) -> StatisticsContext:
        """The step's windows, crops and teachers."""
        low, high = self.crop_scale
        if self.curriculum == "cosine":
            low += (high - low) * 0.5 * (1 + math.cos(math.pi * self.step / self.iterations))
        n, side = len(self.memory), self.spec.size
        drawn = 1 if self.shared_crop else n
        boxes = random_boxes(drawn, side, side, self.rng("crop"), scale=(low, high), flip=self.flip)
        count = len(self.teachers)
        turn = [self.step % count]
        teachers = list(range(count)) if self.turns == "all" else turn
        return StatisticsContext(self.draw_starts(n), boxes.expand(n, -1), teachers)

    def features(self, clips: Tensor, context: StatisticsContext) -> tuple[TeacherFeatures, ...]:
        """What each of the step's teachers makes of all clips (N, C, T_c, H, W), and of their slow copy."""
        slow = None
        if self.flatness_weight:
            self.slow = clips.detach().clone() if self.slow is None else self.slow
            slow = self._transform(self.slow, context)
        seen = self._transform(clips, context)
        features = tuple(self._observe(self.teachers[i], seen, slow) for i in context.teachers)
        if self.slow is not None:
            smooth_([self.slow], [clips.detach()], SLOW_RATE)
        return features

    def _transform(self, clips: Tensor, context: StatisticsContext) -> Tensor:
        """Stored clips (N, C, T_c, H, W) as the step's teachers see them, (N, C, T, H, W)."""
        return resized_crop(self.view(clips, context.starts), context.boxes, self.spec.size)

    def _observe(self, teacher: Teacher, seen: Tensor, slow: Tensor | None) -> TeacherFeatures:
        """What a teacher makes of seen clips (N, C, T, H, W)."""
        logits, stats = observe(teacher, seen, self.watch)
        with torch.no_grad():
            slow_logits = None if slow is None else in_parts(teacher, slow)
        return TeacherFeatures(logits, *beside(stats), slow_logits)

    def match(
        self, features: tuple[TeacherFeatures, ...], labels: Tensor, context: StatisticsContext
    ) -> Terms:
        """Mean over the step's teachers of `ce`, `statistics` and, where asked for, `flatness`.

        Args:
            features: of all clips, or of some, whose statistics have a moving average of their own.
            labels: their classes (N,), counted from the block's first.
            context: from `context`.
        """
        part = "" if len(labels) == len(self.memory) else f" of {len(labels)}"
        each = []
        for i, (logits, mean, var, slow_logits) in zip(context.teachers, features, strict=True):
            averaged = Stat(*self.averages(f"{i}{part}", torch.stack(pooled(Stat(mean, var)))))
            terms = {
                "ce": ce(logits, labels + self.classes[0]),
                "statistics": self.weight * self._distance(averaged, self.targets[i], labels),
            }
            if slow_logits is not None:
                terms["flatness"] = self.flatness_weight * flatness(logits, slow_logits, TEMPERATURE)
            each.append(terms)
        return {name: torch.stack([terms[name] for terms in each]).mean() for name in each[0]}

    def embed(self, clips: Tensor, classes: Tensor, context: StatisticsContext) -> Tensor:
        """Pooled features (N, D) of middle windows, of the step's teachers side by side."""
        seen = self.view(clips, None)
        return torch.cat([self.teachers[i].features(seen).float() for i in context.teachers], 1)

    def _distance(self, batch: Stat, target: Target, labels: Tensor) -> Tensor:
        """Weighted sum over taps of the distance of statistics (S,) to those of the set and of `labels`."""
        wanted = target.dataset if target.classes is None else class_target(target.classes, labels)
        cut = [torch.split(part, target.sizes) for stat in (batch, target.dataset, wanted) for part in stat]
        distances = [
            layer_distance(Stat(*parts[:2]), Stat(*parts[2:4]), Stat(*parts[4:]), self.alpha)
            for parts in zip(*cut, strict=True)
        ]
        return (target.weights * torch.stack(distances)).sum()
