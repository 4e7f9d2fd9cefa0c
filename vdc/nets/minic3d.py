"""MiniC3D: three 3-D convolutions, the network most published video condensation numbers are measured on."""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from vdc.nets.base import VideoNet
from vdc.spec import ClipSpec

Norm = Literal["bn", "in", "none"]
Head = Literal["avg", "max"]

WIDTHS = (3, 64, 128, 128)
POOLS = ((1, 2, 2), (2, 2, 2), (2, 2, 2))
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "bn": nn.BatchNorm3d,
    "in": lambda channels: nn.GroupNorm(channels, channels),
    "none": lambda _: nn.Identity(),
}


class MiniC3D(VideoNet):
    """Three times convolution, norm, max-pool, ReLU, then one of two heads; any clip from 4x43 px.

    Video-DC's is `bn` (experts of DATM: `in`) with `avg`:
    MCG-NJU/Video-DC@d51660d8:mmaction2/mmaction/models/backbones/conv3d.py. The original of Wang 2024 is
    `none` with `max`: yuz1wan/video_distillation@5871dc5:networks.py.

    Args:
        num_classes: K.
        spec: the clips it is built for.
        norm: batch norm, affine instance norm, or none.
        head: `avg`: global average, dropout, linear. `max`: average over space and pairs of frames, dropout,
            linear at each time, then the maximum of each logit over time.
        dropout: share of features dropped in training; half of them leaves runs of some hundred steps at chance.
        width: channels over the published 64, 128, 128; half trains in a third of the time.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        norm: Norm = "bn",
        head: Head = "avg",
        dropout: float = 0.5,
        width: float = 1.0,
    ) -> None:
        super().__init__("minic3d", num_classes, spec, norm=norm, head=head, dropout=dropout, width=width)
        if norm not in NORMS:
            raise ValueError(f"minic3d: norm {norm!r} is unknown: choose bn, in or none")
        if head not in get_args(Head):
            raise ValueError(f"minic3d: head {head!r} is unknown: choose avg or max")
        self.head = head
        if not 0 < width <= 4:
            raise ValueError(f"minic3d: width must be in (0, 4], got {width}")
        widths = (WIDTHS[0], *(round(width * channels) for channels in WIDTHS[1:]))
        if not 0 <= dropout < 1:
            raise ValueError(f"minic3d: dropout must be in [0, 1), got {dropout}")
        self.convs = nn.ModuleList(
            nn.Conv3d(before, after, (3, 7, 7), (1, 2, 2), (1, 3, 3)) for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(NORMS[norm](channels) for channels in widths[1:])
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(widths[-1], num_classes)

    def maps(self, x: Tensor) -> Tensor:
        """Last map (N, 128 x width, T//4, h, w); 8x112 px gives 2x2x2, 16x112 px 4x2x2."""
        x = self.entry(x)
        for conv, norm, pool in zip(self.convs, self.norms, POOLS, strict=True):
            # max-pool and ReLU commute exactly, in gradients too: this order does a quarter of the work
            x = F.relu(F.max_pool3d(norm(conv(x)), pool))
        return x

    def pool(self, maps: Tensor) -> Tensor:
        """Mean over time and space, (N, 128 x width), whichever the head."""
        return maps.mean((2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        maps = self.maps(x)
        if self.head == "avg":
            return self.fc(self.dropout(self.pool(maps)))  # type: ignore[no-any-return]
        time, height, width = maps.shape[2:]
        pooled = F.avg_pool3d(maps, (min(2, time), height, width), stride=1)  # (N, 128, t, 1, 1)
        return self.fc(self.dropout(pooled[..., 0, 0].transpose(1, 2))).amax(1)  # type: ignore[no-any-return]
