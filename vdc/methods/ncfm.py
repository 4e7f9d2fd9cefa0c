"""NCFM: synthetic clips whose features follow the law of those of real ones."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.condensed.memory import MultiFormation
from vdc.methods.base.condenser import MemoryCallable
from vdc.methods.base.features import FeatureMatching
from vdc.methods.base.learner import Terms
from vdc.methods.base.memory_estimate import load_of
from vdc.methods.base.networks import chunked_features, load_flat_parameters
from vdc.methods.base.options import Augmentation, at_least_one
from vdc.methods.base.per_class import Classwise, StepContext, classes_of
from vdc.nets import VideoNet
from vdc.ops.match import ncf_distance
from vdc.ops.windows import temporal_segments
from vdc.spec import Batch

PUBLISHED = Augmentation("color_crop_cutout", "all")


def published_adamw(parameters: Any) -> torch.optim.AdamW:
    """NCFM's rate of 0.001 for pixels in [0, 1], over their deviation of 0.225."""
    return torch.optim.AdamW(parameters, lr=0.0045, weight_decay=0.0)


@dataclass(frozen=True)
class CharacteristicContext(StepContext):
    """Everything random about a step.

    Args:
        frequencies: arguments t of the characteristic functions (F, D).
    """

    frequencies: Tensor


class NCFM(FeatureMatching, Classwise):
    """Neural characteristic function matching: the whole law of the features of a class, not only its mean.

    Wang 2025 (CVPR), see `ops.match.ncf_distance`. With experts, a step's network lies on the line from an
    expert's first to its last snapshot, and the last one also classifies the synthetic clips (calibration);
    without, a step draws a random network and there is no calibration.

    Args:
        memory: what is stored and learnt; packed 2 x 2 as published.
        optimizer: of one block's parameters.
        frequencies: arguments t of the characteristic functions, drawn at every step.
        weight: of the distance.
        calibration: weight of the cross-entropy in trained networks, averaged over the clips of a class.
        options: see `Classwise`.
    """

    def __init__(
        self,
        *args: Any,
        memory: MemoryCallable = MultiFormation,
        optimizer: OptimizerCallable = published_adamw,
        augment: Augmentation = PUBLISHED,
        frequencies: int = 1024,
        weight: float = 300.0,
        calibration: float = 1.0,
        **options: Any,
    ) -> None:
        options |= {"memory": memory, "optimizer": optimizer, "augment": augment}
        super().__init__(*args, **options)
        at_least_one(frequencies=frequencies)
        self.same_length("last maps")
        self.frequencies = frequencies
        self.weight = weight
        self.calibration = calibration

    @property
    def calibrates(self) -> bool:
        """Whether the synthetic clips are classified too."""
        return self.experts is not None and self.calibration > 0

    def prepare(self) -> None:
        """Build the networks, whose weights nothing here differentiates."""
        super().prepare()
        self.net.requires_grad_(False)
        self.trained = copy.deepcopy(self.net)

    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """A chunk's graph, or that of all clips where they are classified too; features, and their angles."""
        one, chunk = load_of(net, self.longest, net.embed), self.chunk
        graph = clips if self.calibrates else min(clips, chunk)
        rows, angles = clips + self.data.per_class * len(self.blocks[0]), self.frequencies
        return {
            "activations": max(one.backward(graph), one.forward(min(real, chunk))),
            "features": 4 * one.width * (3 * rows + angles),
            "characteristic functions": 4 * 5 * rows * angles,  # angle, sine, cosine, both, and a gradient
        }

    def renew(self) -> None:
        """A network between the ends of a random expert; without experts, a random one."""
        if self.experts is None:
            super().renew()
            return
        rng = self.rng("network")
        expert = int(torch.randint(len(self.experts), (), generator=rng))
        first, last = (self.experts.snapshot(expert, epoch) for epoch in (0, self.experts.epochs))
        load_flat_parameters(self.net, torch.lerp(last, first, torch.rand((), generator=rng)))
        load_flat_parameters(self.trained, last)

    def _features(self, seen: Tensor) -> Tensor:
        """Features (N, D) of seen clips, those of every segment of unit length."""
        maps = chunked_features(self.net, temporal_segments(seen, self.real.segments), self.chunk).float()
        return F.normalize(maps, dim=1).view(len(seen), -1)

    def context(self, batch: Batch | None) -> CharacteristicContext:
        """Window, network, frequencies, and the features of real clips."""
        self.renew()
        start = self.draw_starts(1)
        with torch.no_grad():
            features = torch.cat([
                self._features(self.transform(clips, start)) for clips, _ in self.real_batches(start)
            ])  # fmt: skip
        labels = torch.arange(len(self.classes), device=self.device).repeat_interleave(self.data.per_class)
        each = features.shape[1] // self.real.segments
        drawn = torch.randn(self.frequencies, each, generator=self.rng("frequencies"))
        return CharacteristicContext(features, labels, start, drawn.to(self.device))

    def features(self, clips: Tensor, context: CharacteristicContext) -> tuple[Tensor, Tensor | None]:
        """Features (N, D) of stored clips, and their logits (N, K) in the trained network, if these count."""
        seen = self.transform(clips, context.start)
        return self._features(seen), self.trained(seen) if self.calibrates else None

    def match(
        self, features: tuple[Tensor, Tensor | None], labels: Tensor, context: CharacteristicContext
    ) -> Terms:
        """Distance of characteristic functions, and cross-entropy in the trained network."""
        (items, logits), own, classes = features, classes_of(labels), len(self.classes)
        pairs = zip(*(part.chunk(self.real.segments, 1) for part in (context.real, items)), strict=True)
        law = [
            ncf_distance(real, context.labels, syn, own, classes, context.frequencies) for real, syn in pairs
        ]
        terms = {"law": self.weight * torch.stack(law).sum()}
        if logits is not None:
            wrong = F.cross_entropy(logits, own + self.classes[0], reduction="none")
            count = torch.bincount(own, minlength=classes).clamp_min(1)
            terms["calibration"] = self.calibration * (wrong / count[own]).sum()
        return terms
