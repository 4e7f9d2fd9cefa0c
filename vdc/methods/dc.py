"""DC and DSA: gradient matching with networks that train on the synthetic clips."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vdc.methods.base.gradient import GradientMatching
from vdc.methods.base.per_class import classes_of
from vdc.ops.augment import diff_augment
from vdc.ops.match import Metric
from vdc.ops.windows import draw_starts
from vdc.spec import ClipSpec

LOOPS = {1: (1, 1), 5: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


class DC(GradientMatching):
    """Gradient matching with networks that train on the synthetic clips.

    Zhao 2021 (ICLR), VICO-UoE/DatasetCondensation@53f63a6:main.py; five items per class as Wang 2024. With
    more than one step per network classes depend on one another: then all of them must be one block.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        ipc: items per class.
        outer: steps with one network; `None` takes the published number for 1, 5, 10, 20, 30, 40 or 50 items.
        inner: epochs that the network trains on the synthetic clips between two steps; `None` likewise.
        init: as `Classwise`; noise as published.
        metric: see `ops.match.gradient_distance`.
        net_lr: of the network's SGD.
        net_batch: clips per step of the network.
        options: see `Classwise`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        ipc: int = 1,
        outer: int | None = None,
        inner: int | None = None,
        init: str = "noise",
        metric: Metric = "ours",
        net_lr: float = 0.01,
        net_batch: int = 256,
        **options: Any,
    ) -> None:
        if (outer is None or inner is None) and ipc not in LOOPS:
            raise ValueError(
                f"no published loops for --model.init_args.ipc {ipc}: set model.init_args.outer and inner"
            )
        steps, epochs = LOOPS.get(ipc, (1, 1))
        super().__init__(
            num_classes,
            spec,
            steps if outer is None else outer,
            metric,
            False,
            net_lr,
            0.0,
            0.0,
            net_batch,
            ipc=ipc,
            init=init,
            **options,
        )
        self.inner = epochs if inner is None else inner
        if self.outer > 1 and len(self.blocks) > 1:
            raise ValueError(
                f"model.init_args.outer {self.outer}: networks train on the items of all classes: these "
                f"must be one block, leave model.init_args.block out or set it to {num_classes * ipc}"
            )

    def net_clips(self, clips: int) -> int:
        """Of the synthetic ones, all at most."""
        return min(self.net_batch, clips)

    def net_losses(self) -> Iterator[Tensor]:
        """`inner` epochs of the synthetic clips."""
        rng = self.rng("network batches")
        for _ in range(self.inner):
            for rows in torch.split(torch.randperm(len(self.memory), generator=rng), self.net_batch):
                with torch.no_grad():
                    clips, labels = self.memory.render(rows.to(self.device))
                    seen = self.view(clips, draw_starts(len(rows), self.spec, rng))
                    if self.augment is not None:
                        seen = diff_augment(seen, rng, self.augment, self.augment_mode, shared=False)
                yield F.cross_entropy(self.net(seen), classes_of(labels))


class DSA(DC):
    """DC with one augmentation for real and synthetic clips of a class (Zhao & Bilen 2021, ICML).

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        init: as `Classwise`; real as published.
        augment: as `Classwise`; leave out flip where mirrored clips have another class.
        options: see `DC`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        init: str = "real",
        augment: str | None = "color_crop_cutout_flip_scale_rotate",
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, init=init, augment=augment, **options)
