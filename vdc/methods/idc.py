"""IDC: gradient matching of packed items, in networks that train on real clips."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vdc.condensed.memory import MultiFormation
from vdc.data.sampler import Shuffled
from vdc.methods.base.condenser import MemoryCallable
from vdc.methods.base.gradient import GradientMatching
from vdc.methods.base.networks import endless
from vdc.methods.base.options import Augmentation
from vdc.ops.match import Metric
from vdc.ops.mix import cutmix
from vdc.ops.rng import derive
from vdc.ops.windows import draw_starts
from vdc.spec import RawBatch

PUBLISHED = Augmentation("color_crop_cutout", "all")


class IDC(GradientMatching):
    """Gradient matching with packed items and networks that train on real clips.

    Kim 2022 (ICML), snu-mllab/Efficient-Dataset-Condensation:condense.py. The authors step once per class
    with one momentum for all, so that a class moves on while others step: their rate is worth twice as much
    there as here. Weights of convolutions alone are compared.

    Args:
        memory: what is stored and learnt; packed 2 x 2 as published.
        inner: steps of the network on real clips between two steps.
        cutmix: probability that a batch of the network is mixed.
        options: see `GradientMatching`.
    """

    def __init__(
        self,
        *args: Any,
        memory: MemoryCallable = MultiFormation,
        outer: int = 100,
        inner: int = 8,
        augment: Augmentation = PUBLISHED,
        metric: Metric = "mse",
        net_lr: float = 0.01,
        net_momentum: float = 0.9,
        net_decay: float = 5e-4,
        net_batch: int = 64,
        cutmix: float = 0.5,
        **options: Any,
    ) -> None:
        options |= {"memory": memory, "augment": augment, "outer": outer, "metric": metric, "net_lr": net_lr}
        options |= {"net_momentum": net_momentum, "net_decay": net_decay, "net_batch": net_batch}
        super().__init__(*args, conv_only=True, **options)
        self.inner = inner
        self.cutmix = cutmix
        self._stream: Iterator[RawBatch] | None = None

    @property
    def at_once(self) -> int:
        """Also counts the network's training batch."""
        return max(super().at_once, self.net_batch)

    def begin_block(self) -> None:
        """Forget the clips that the last block's networks trained on."""
        super().begin_block()
        self._stream = None

    def _shuffled(self) -> Iterator[RawBatch]:
        """Real clips for the network, from the current step on; made late, when that is restored."""
        if self._stream is None:
            trained = self.step - 1 - (self.step - 1) // self.outer  # times that a network went on before
            keys = Shuffled(len(self.data.labels), derive(self.seed, "network", self.block))
            loader = self.read(keys, self.net_batch)
            self._stream = endless(loader, trained * self.inner)
        return self._stream

    def net_losses(self) -> Iterator[Tensor]:
        """Cross-entropy on `inner` batches of real clips, each clip augmented in its own way."""
        stream, rng = self._shuffled(), self.rng("network batches")
        for _ in range(self.inner):
            raw = next(stream)
            clips = self.on_device(raw)
            labels = raw.labels.to(self.device)
            seen = self.view(clips, draw_starts(len(clips), self.spec, rng))
            seen = self.augment(seen, rng, shared=False)
            if float(torch.rand((), generator=rng)) >= self.cutmix:
                yield F.cross_entropy(self.net(seen), labels)
                continue
            mixed, others, kept = cutmix(seen, labels, rng)
            logits = self.net(mixed)
            yield torch.lerp(F.cross_entropy(logits, others), F.cross_entropy(logits, labels), kept)
