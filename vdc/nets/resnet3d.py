"""The three 18-layer residual nets of cross-architecture tables: I3D, R(2+1)D and SlowOnly."""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vdc.nets.base import Scheme, VideoNet
from vdc.spec import ClipSpec

Triple = tuple[int, int, int]
WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class Layout:
    """What tells the three apart, as in mmaction2's `_base_/models` for them.

    Args:
        stem_kernel: of the first convolution; padding is half of it.
        stem_stride: of the first convolution.
        pool_stride: of the max-pool after it, kernel (1, 3, 3).
        pool2: a further (2, 1, 1) max-pool after the first stage.
        temporal_strides: of the first block of each stage.
        inflate: per stage and block, whether convolutions span 3 frames.
        factorised: each convolution is a spatial one, batch norm, ReLU, and a temporal one.
    """

    stem_kernel: Triple
    stem_stride: Triple
    pool_stride: Triple
    pool2: bool
    temporal_strides: tuple[int, int, int, int]
    inflate: tuple[tuple[bool, bool], ...]
    factorised: bool


BOTH, FIRST, NONE = (True, True), (True, False), (False, False)
LAYOUTS = {
    "i3d": Layout((5, 7, 7), (2, 2, 2), (2, 2, 2), True, (1, 1, 1, 1), (BOTH, FIRST, FIRST, FIRST), False),
    "r2plus1d": Layout((3, 7, 7), (1, 2, 2), (1, 2, 2), False, (1, 2, 2, 2), (BOTH,) * 4, True),
    "slowonly": Layout((1, 7, 7), (1, 2, 2), (1, 2, 2), False, (1, 1, 1, 1), (NONE, NONE, BOTH, BOTH), False),
}


def mid_width(inputs: int, outputs: int, kernel: Triple) -> int:
    """Channels between the halves of a factorised convolution, which then has the parameters of a full one.

    Tran 2018, section 3.5; mmaction2 keeps a temporal extent of 3 in it even where the temporal kernel is 1.
    """
    area = kernel[1] * kernel[2]
    return 3 * inputs * outputs * area // (inputs * area + 3 * outputs)


class Factorised(nn.Module):
    """A spatial convolution, batch norm, ReLU, and a temporal convolution."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple) -> None:
        super().__init__()
        (kt, kh, kw), (st, sh, sw) = kernel, stride
        mid = mid_width(inputs, outputs, kernel)
        self.spatial = nn.Conv3d(inputs, mid, (1, kh, kw), (1, sh, sw), (0, kh // 2, kw // 2), bias=False)
        self.norm = nn.BatchNorm3d(mid)
        self.temporal = nn.Conv3d(mid, outputs, (kt, 1, 1), (st, 1, 1), (kt // 2, 0, 0), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> (N, C', T', H', W')."""
        return self.temporal(F.relu(self.norm(self.spatial(x))))  # type: ignore[no-any-return]


class ConvNorm(nn.Module):
    """A convolution without bias, whole or factorised, and its batch norm."""

    def __init__(self, inputs: int, outputs: int, kernel: Triple, stride: Triple, factorised: bool) -> None:
        super().__init__()
        if factorised:
            self.conv: nn.Module = Factorised(inputs, outputs, kernel, stride)
            self.norm = nn.BatchNorm3d(outputs, eps=1e-3)  # mmaction2 synchronises this one over GPUs
        else:
            padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
            self.conv = nn.Conv3d(inputs, outputs, kernel, stride, padding, bias=False)
            self.norm = nn.BatchNorm3d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> (N, C', T', H', W')."""
        return self.norm(self.conv(x))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: Triple, inflate: bool, factorised: bool) -> None:
        super().__init__()
        kernel = (3 if inflate else 1, 3, 3)
        self.conv1 = ConvNorm(inputs, outputs, kernel, stride, factorised)
        self.conv2 = ConvNorm(outputs, outputs, kernel, (1, 1, 1), factorised)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != (1, 1, 1):
            self.shortcut = ConvNorm(inputs, outputs, (1, 1, 1), stride, factorised)

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, C, T, H, W) -> (N, C', T', H', W')."""
        return F.relu(self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class ResNet3d(VideoNet):
    """18 layers, widths 64 to 512, head: global average, dropout, linear.

    MCG-NJU/Video-DC@d51660d8:mmaction2/configs/_base_/models/{i3d_r18,r2plus1d_r18,slowonly_r18}.py. Any
    size; I3D needs 5 frames, and keeps one of 8 from its second stage on.

    Args:
        num_classes: K.
        spec: the clips it is built for.
        name: `i3d`, `r2plus1d` or `slowonly`.
    """

    kaiming_convs: ClassVar[bool] = True

    def __init__(self, num_classes: int, spec: ClipSpec, name: str) -> None:
        super().__init__(name, num_classes, spec)
        layout = LAYOUTS[name]
        self.stem = ConvNorm(3, WIDTHS[0], layout.stem_kernel, layout.stem_stride, layout.factorised)
        self.stem_pool = nn.MaxPool3d((1, 3, 3), layout.pool_stride, (0, 1, 1))
        self.pool2: nn.Module = nn.MaxPool3d((2, 1, 1)) if layout.pool2 else nn.Identity()
        stages, inputs = [], WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            space = 1 if stage == 0 else 2
            stride = (layout.temporal_strides[stage], space, space)
            first, second = layout.inflate[stage]
            stages.append(
                nn.Sequential(
                    Block(inputs, width, stride, first, layout.factorised),
                    Block(width, width, (1, 1, 1), second, layout.factorised),
                )
            )
            inputs = width
        self.stages = nn.ModuleList(stages)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(WIDTHS[-1], num_classes)

    def maps(self, x: Tensor) -> Tensor:
        """Last map (N, 512, t, h, w); 8x112 px gives 1x4x4, SlowOnly 8x4x4."""
        x = F.relu(
            self.stem_pool(self.stem(self.entry(x)))
        )  # the pool's padding is -inf: it commutes with ReLU
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index == 0:
                x = self.pool2(x)
        return x

    def pool(self, maps: Tensor) -> Tensor:
        """Mean over time and space, (N, 512)."""
        return maps.mean((2, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        return self.fc(self.dropout(self.pool(self.maps(x))))  # type: ignore[no-any-return]

    def reset_parameters(self, scheme: Scheme, generator: torch.Generator) -> None:
        """Start afresh; under `kaiming` each residual branch starts at zero, as mmaction2's runner does."""
        super().reset_parameters(scheme, generator)
        if scheme == "kaiming":
            for block in self.modules():
                if isinstance(block, Block):
                    nn.init.zeros_(block.conv2.norm.weight)
