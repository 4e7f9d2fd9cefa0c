"""DC and DSA: gradient matching with networks that train on the synthetic clips."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vdc.methods.base.gradient import GradientMatching
from vdc.methods.base.options import Augmentation
from vdc.methods.base.per_class import classes_of
from vdc.ops.windows import draw_starts

LOOPS = {1: (1, 1), 5: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
SIAMESE = Augmentation("color_crop_cutout_flip_scale_rotate")


class DC(GradientMatching):
    """Gradient matching with networks that train on the synthetic clips.

    Zhao 2021 (ICLR), VICO-UoE/DatasetCondensation@53f63a6:main.py; five items per class as Wang 2024. With
    more than one step per network classes depend on one another: then all of them must be one block.

    Args:
        ipc: items per class.
        outer: steps with one network; `None` takes the published number for 1, 5, 10, 20, 30, 40 or 50 items.
        inner: epochs that the network trains on the synthetic clips between two steps; `None` likewise.
        options: see `GradientMatching`.
    """

    def __init__(
        self,
        *args: Any,
        ipc: int = 1,
        outer: int | None = None,
        inner: int | None = None,
        init: str = "noise",
        **options: Any,
    ) -> None:
        if (outer is None or inner is None) and ipc not in LOOPS:
            raise ValueError(
                f"no published loops for --model.init_args.ipc {ipc}: set model.init_args.outer and inner"
            )
        steps, epochs = LOOPS.get(ipc, (1, 1))
        outer = steps if outer is None else outer
        super().__init__(*args, outer=outer, ipc=ipc, init=init, **options)
        self.inner = epochs if inner is None else inner
        if self.outer > 1 and len(self.blocks) > 1:
            raise ValueError(
                f"model.init_args.outer {self.outer}: networks train on the items of all classes: these "
                f"must be one block, leave model.init_args.block out or set it to {self.num_classes * ipc}"
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
                    seen = self.augment(seen, rng, shared=False)
                yield F.cross_entropy(self.net(seen), classes_of(labels))


class DSA(DC):
    """DC with one augmentation for real and synthetic clips of a class (Zhao & Bilen 2021, ICML).

    Args:
        options: see `DC`.
    """

    def __init__(
        self,
        *args: Any,
        init: str = "real",
        augment: Augmentation = SIAMESE,
        **options: Any,
    ) -> None:
        super().__init__(*args, init=init, augment=augment, **options)
