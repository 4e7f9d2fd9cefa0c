"""Distribution matching: synthetic clips whose features are distributed like those of real ones."""

from typing import Any, Literal

import torch
from torch import Tensor

from vdc.methods.base.memory_estimate import load_of
from vdc.methods.base.multisize import Seen, Terms
from vdc.methods.base.networks import embed
from vdc.methods.base.per_class import Classwise, Draw, classes_of
from vdc.nets import VideoNet
from vdc.ops.match import mean_distance
from vdc.ops.windows import pieces
from vdc.spec import Batch, ClipSpec


class DM(Classwise):
    """Distribution matching: class means of features in a new random network at every step.

    Zhao & Bilen 2023; for videos Wang 2024, yuz1wan/video_distillation@5871dc5b:distill_baseline.py. The
    loss is the sum over classes of the squared distance of the means.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        features: what is averaged: the flattened last map, as published, or the pooled one.
        options: see `Classwise`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        features: Literal["embed", "pooled"] = "embed",
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, **options)
        self.features = features
        if features == "embed":
            self.same_length("last maps")

    def prepare(self) -> None:
        """Build the network, whose weights nothing here differentiates."""
        super().prepare()
        self.net.requires_grad_(False)
        self._found = torch.empty(0)  # features of the items in the current step

    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """A chunk's graph, and the features."""
        one, chunk = load_of(net, self.longest, net.embed), self.chunk
        held = max(one.backward(min(clips, chunk)), one.forward(min(real, chunk)))
        return {"activations": held, "features": 4 * one.width * (3 * clips + real + len(self.blocks[0]))}

    def features_of(self, clips: Tensor) -> Tensor:
        """Features (N, D) of seen clips, of one segment after another: their distances add up."""
        cut = pieces(clips, self.segments)
        return embed(self.net, cut, self.chunk, pooled=self.features == "pooled").view(len(clips), -1)

    def context(self, batch: Batch | None) -> Draw:
        """Window, network, and the class means of real clips."""
        self.renew()
        start, means = self.draw_starts(1), list[Tensor]()
        with torch.no_grad():
            for clips, classes in self.real_batches(start):
                features = self.features_of(self.look(clips, start)).float()
                means.append(features.view(len(classes), -1, features.shape[1]).mean(1))
        return Draw(start, torch.cat(means), torch.arange(len(self.classes), device=self.device))

    def loss(self, clips: Tensor, labels: Tensor, context: Draw) -> dict[str, Tensor]:
        """Distance of class means."""
        return self._distance(self._compared(clips, context), classes_of(labels), context)

    def _compared(self, clips: Tensor, context: Draw) -> Tensor:
        """Features (n, D) of stored clips in the step's network."""
        features = self.features_of(self.look(clips, context.start))
        self._found = features.detach()
        return features

    def _distance(self, features: Tensor, own: Tensor, context: Draw) -> Terms:
        """Distance of class means of features (n, D) of classes (n,)."""
        return {"means": mean_distance(context.real, context.labels, features, own, len(self.classes))}

    def losses(self, clips: Tensor, labels: Tensor, context: Draw, prefix: Tensor) -> tuple[Terms, Terms]:
        """`loss` of all clips and of the rows `prefix` (n,), from the same features."""
        features, own = self._compared(clips, context), classes_of(labels)
        part = self._distance(features[prefix], own[prefix], context)
        return self._distance(features, own, context), part

    def embedded(self, clips: Tensor, earlier: Tensor, context: Draw) -> Seen:
        """The features that were compared, those of earlier clips, and the means of real ones that the step has."""
        then = self.features_of(self.look(earlier, context.start))
        return Seen(self._found, then, context.real, torch.ones(len(context.real)))
