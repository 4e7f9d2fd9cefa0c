"""Distribution matching: synthetic clips whose features are distributed like those of real ones."""

from typing import Any, Literal

import torch
from torch import Tensor

from vdc.methods.base.features import FeatureMatching
from vdc.methods.base.learner import Terms
from vdc.methods.base.memory_estimate import load_of
from vdc.methods.base.networks import chunked_features
from vdc.methods.base.per_class import Classwise, StepContext, classes_of
from vdc.nets import VideoNet
from vdc.ops.match import mean_distance
from vdc.ops.windows import temporal_segments
from vdc.spec import Batch


class DM(FeatureMatching, Classwise):
    """Distribution matching: class means of features in a new random network at every step.

    Zhao & Bilen 2023; for videos Wang 2024, yuz1wan/video_distillation@5871dc5b:distill_baseline.py. The
    loss is the sum over classes of the squared distance of the means.

    Args:
        features: what is averaged: the flattened last map, as published, or the pooled one.
        options: see `Classwise`.
    """

    def __init__(
        self,
        *args: Any,
        features: Literal["embed", "pooled"] = "embed",
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.pooled = features == "pooled"
        if not self.pooled:
            self.same_length("last maps")

    def prepare(self) -> None:
        """Build the network, whose weights nothing here differentiates."""
        super().prepare()
        self.net.requires_grad_(False)

    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """A chunk's graph, and the features."""
        one, chunk = load_of(net, self.longest, net.embed), self.chunk
        held = max(one.backward(min(clips, chunk)), one.forward(min(real, chunk)))
        return {"activations": held, "features": 4 * one.width * (3 * clips + real + len(self.blocks[0]))}

    def _features(self, seen: Tensor) -> Tensor:
        """Features (N, D) of seen clips, of one segment after another: their distances add up."""
        cut = temporal_segments(seen, self.real.segments)
        return chunked_features(self.net, cut, self.chunk, self.pooled).view(len(seen), -1)

    def context(self, batch: Batch | None) -> StepContext:
        """Window, network, and the class means of real clips."""
        self.renew()
        start, means = self.draw_starts(1), list[Tensor]()
        with torch.no_grad():
            for clips, classes in self.real_batches(start):
                features = self._features(self.transform(clips, start)).float()
                means.append(features.view(len(classes), -1, features.shape[1]).mean(1))
        return StepContext(torch.cat(means), torch.arange(len(self.classes), device=self.device), start)

    def features(self, clips: Tensor, context: StepContext) -> Tensor:
        """Features (N, D) of stored clips in the step's network."""
        return self._features(self.transform(clips, context.start))

    def match(self, features: Tensor, labels: Tensor, context: StepContext) -> Terms:
        """Distance of class means."""
        own = classes_of(labels)
        return {"means": mean_distance(context.real, context.labels, features, own, len(self.classes))}
