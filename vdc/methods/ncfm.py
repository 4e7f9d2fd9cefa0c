"""NCFM: synthetic clips whose features follow the law of those of real ones."""

import copy
from typing import Any, Literal

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.condensed.memory import MultiFormation
from vdc.methods.base.condenser import MemoryCallable
from vdc.methods.base.memory_estimate import load_of
from vdc.methods.base.multisize import Seen, Terms
from vdc.methods.base.networks import embed, put
from vdc.methods.base.per_class import Classwise, Draw, classes_of
from vdc.nets import VideoNet
from vdc.ops.match import class_means, ncf_distance
from vdc.ops.windows import pieces
from vdc.spec import Batch, ClipSpec


def published_adamw(parameters: Any) -> torch.optim.AdamW:
    """NCFM's rate of 0.001 for pixels in [0, 1], over their deviation of 0.225."""
    return torch.optim.AdamW(parameters, lr=0.0045, weight_decay=0.0)


class NCFM(Classwise):
    """Neural characteristic function matching: the whole law of the features of a class, not only its mean.

    Wang 2025 (CVPR), see `ops.match.ncf_distance`. With a pool, a step's network lies on the line from an
    expert's first to its last snapshot, and the last one also classifies the synthetic clips (calibration);
    without, a step draws a random network and there is no calibration.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        memory: what is stored and learnt; packed 2 x 2 as published.
        optimizer: of one block's parameters.
        augment: as `Classwise`; one draw of all three as published.
        augment_mode: as `Classwise`.
        frequencies: arguments t of the characteristic functions, drawn at every step.
        weight: of the distance.
        calibration: weight of the cross-entropy in trained networks, averaged over the clips of a class.
        options: see `Classwise`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        memory: MemoryCallable = MultiFormation,
        optimizer: OptimizerCallable = published_adamw,
        augment: str | None = "color_crop_cutout",
        augment_mode: Literal["one", "all"] = "all",
        frequencies: int = 1024,
        weight: float = 300.0,
        calibration: float = 1.0,
        **options: Any,
    ) -> None:
        super().__init__(
            num_classes,
            spec,
            memory=memory,
            optimizer=optimizer,
            augment=augment,
            augment_mode=augment_mode,
            **options,
        )
        if frequencies < 1:
            raise ValueError(f"model.init_args.frequencies must be at least 1, got {frequencies}")
        self.same_length("last maps")
        self.frequencies, self.weight, self.calibration = frequencies, weight, calibration

    def prepare(self) -> None:
        """Build the networks, whose weights nothing here differentiates."""
        super().prepare()
        self.net.requires_grad_(False)
        self.trained = copy.deepcopy(self.net)
        self._found = torch.empty(0)  # features of the items in the current step

    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """A chunk's graph, or that of all clips where they are classified too; features, and their angles."""
        one, chunk = load_of(net, self.longest, net.embed), self.chunk
        graph = clips if self.experts is not None and self.calibration else min(clips, chunk)
        rows, angles = clips + self.data.per_class * len(self.blocks[0]), self.frequencies
        return {
            "activations": max(one.backward(graph), one.forward(min(real, chunk))),
            "features": 4 * one.width * (3 * rows + angles),
            "characteristic functions": 4 * 5 * rows * angles,  # angle, sine, cosine, both, and a gradient
        }

    def renew(self) -> None:
        """A network between the ends of a random expert; without a pool, a random one."""
        if self.experts is None:
            super().renew()
            return
        rng = self.rng("network")
        expert = int(torch.randint(len(self.experts), (), generator=rng))
        first, last = (self.experts.snapshot(expert, epoch) for epoch in (0, self.experts.epochs))
        put(self.net, torch.lerp(last, first, torch.rand((), generator=rng)))
        put(self.trained, last)

    def features_of(self, clips: Tensor) -> Tensor:
        """Features (N, D) of seen clips, those of every segment of unit length."""
        found = embed(self.net, pieces(clips, self.segments), self.chunk).float()
        return F.normalize(found, dim=1).view(len(clips), -1)

    def context(self, batch: Batch | None) -> Draw:
        """Window, network, frequencies, and the features of real clips."""
        self.renew()
        start = self.draw_starts(1)
        with torch.no_grad():
            features = torch.cat([self.features_of(self.look(c, start)) for c, _ in self.real_batches(start)])
        labels = torch.arange(len(self.classes), device=self.device).repeat_interleave(self.data.per_class)
        each = features.shape[1] // self.segments
        drawn = torch.randn(self.frequencies, each, generator=self.rng("frequencies"))
        return Draw(start, features, labels, drawn.to(self.device))

    def loss(self, clips: Tensor, labels: Tensor, context: Draw) -> Terms:
        """Distance of characteristic functions, and cross-entropy in the trained network."""
        features, wrong = self._compared(clips, labels, context)
        return self._terms(features, wrong, classes_of(labels), context)

    def losses(self, clips: Tensor, labels: Tensor, context: Draw, prefix: Tensor) -> tuple[Terms, Terms]:
        """`loss` of all clips and of the rows `prefix` (n,), from the same features."""
        features, wrong = self._compared(clips, labels, context)
        own = classes_of(labels)
        part = self._terms(features[prefix], None if wrong is None else wrong[prefix], own[prefix], context)
        return self._terms(features, wrong, own, context), part

    def embedded(self, clips: Tensor, earlier: Tensor, context: Draw) -> Seen:
        """The features that were compared, and those of earlier clips."""
        then = self.features_of(self.look(earlier, context.start))
        return Seen(self._found, then, *class_means(context.real, context.labels, len(self.classes)))

    def _compared(self, clips: Tensor, labels: Tensor, context: Draw) -> tuple[Tensor, Tensor | None]:
        """Features (n, D) of stored clips, and their cross-entropies (n,) in the trained network, if it counts."""
        seen = self.look(clips, context.start)
        features = self.features_of(seen)
        self._found = features.detach()
        if self.experts is None or not self.calibration:
            return features, None
        own = classes_of(labels) + self.classes[0]
        return features, F.cross_entropy(self.trained(seen), own, reduction="none")

    def _terms(self, features: Tensor, wrong: Tensor | None, own: Tensor, context: Draw) -> Terms:
        """The terms of clips of the classes `own` (n,), from what `_compared` made of them."""
        assert context.frequencies is not None
        pairs = (f.chunk(self.segments, 1) for f in (context.real, features))
        law = [
            ncf_distance(real, context.labels, syn, own, len(self.classes), context.frequencies)
            for real, syn in zip(*pairs, strict=True)
        ]
        terms = {"law": self.weight * torch.stack(law).sum()}
        if wrong is not None:
            count = torch.bincount(own, minlength=len(self.classes)).clamp_min(1)
            terms["calibration"] = self.calibration * (wrong / count[own]).sum()
        return terms
