"""Nets of 2-D convolutions: one for stills, and three that read a clip frame by frame."""

from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor, nn

from vdc.nets.base import VideoNet
from vdc.spec import ClipSpec

CHANNELS = 128


def channels(name: str, width: float) -> int:
    """Channels of a net of some width; raises on an invalid width."""
    if not 0 < width <= 4:
        raise ValueError(f"net {name}: width must be in (0, 4], got {width}")
    return max(1, round(width * CHANNELS))


def conv_blocks(depth: int, wide: int) -> nn.Sequential:
    """`depth` times convolution, affine instance norm, ReLU, halving: (N, 3, H, W) -> (N, `wide`, H', W')."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [
            nn.Conv2d(wide if index else 3, wide, 3, padding=1),
            nn.GroupNorm(wide, wide),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
    return nn.Sequential(*layers)


def cells(name: str, size: int, depth: int) -> int:
    """Positions of the map that `conv_blocks(depth)` leaves of a frame; none left is an error."""
    if size < 2**depth:
        raise ValueError(
            f"net {name} needs spec.size at least {2**depth}, not {size}: it halves it {depth} times"
        )
    return int((size // 2**depth) ** 2)


class ConvNet2d(VideoNet):
    """ConvNet-D4 on clips of one frame: what stills are learnt with.

    yuz1wan/video_distillation@5871dc5:networks.py

    Args:
        num_classes: K.
        spec: the clips it is built for: one frame, a size from 16 px, which its classifier is bound to.
        width: channels over the published 128.
    """

    def __init__(self, num_classes: int, spec: ClipSpec, *, width: float = 1.0) -> None:
        super().__init__("convnet2d", num_classes, spec, width=width)
        if spec.frames != 1:
            raise ValueError(f"net convnet2d sees stills: spec.frames must be 1, got {spec.frames}")
        wide = channels(self.name, width)
        self.blocks = conv_blocks(4, wide)
        self.fc = nn.Linear(wide * cells(self.name, spec.size, 4), num_classes)

    def maps(self, x: Tensor) -> Tensor:
        """Last map (N, 128 x width, H/16, W/16) of clips (N, C, 1, H, W)."""
        return self.blocks(self.entry(x).squeeze(2))  # type: ignore[no-any-return]

    def pool(self, maps: Tensor) -> Tensor:
        """The whole map flattened: it is classified without pooling."""
        return maps.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, 1, H, W)."""
        return self.fc(self.embed(x))  # type: ignore[no-any-return]


class FrameNet(VideoNet):
    """ConvNet-D3 on every frame, a recurrent layer or none, and the mean over time.

    Wang 2024, yuz1wan/video_distillation@5871dc5:networks.py. Any length; the size, from 8 px, binds the
    first layer after the frames. At 64 px a frame is 8192 numbers: the GRU has 1024 units (28.7 M
    parameters), the LSTM 8192 (537 M).

    Args:
        num_classes: K.
        spec: the clips it is built for.
        head: `mean`; `gru` with an eighth of a frame's features as units; `lstm` with as many as features.
        crop: side of the centre of a frame that is looked at: 64 of 112 as published; `None` takes all of it.
        width: channels over the published 128; the recurrent layer's units go with them.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        head: Literal["mean", "gru", "lstm"],
        *,
        crop: int | None = None,
        width: float = 1.0,
    ) -> None:
        super().__init__(f"cnn_{head}", num_classes, spec, crop=crop, width=width)
        self.crop = crop
        if crop is not None and not 1 <= crop <= spec.size:
            raise ValueError(f"net {self.name}: crop {crop} must be in 1..{spec.size}, the spec.size")
        wide = channels(self.name, width)
        self.blocks = conv_blocks(3, wide)
        features = wide * cells(self.name, crop or spec.size, 3)
        hidden = max(1, features // 8) if head == "gru" else features
        self.rnn: nn.RNNBase | None = None
        if head != "mean":
            self.rnn = (nn.GRU if head == "gru" else nn.LSTM)(features, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, num_classes)

    def maps(self, x: Tensor) -> Tensor:
        """Features of every frame (N, T, D), after the recurrent layer where there is one."""
        x = self.entry(x)
        if self.crop is not None:
            top, left = ((side - self.crop) // 2 for side in x.shape[3:])
            x = x[..., top : top + self.crop, left : left + self.crop]
        frames: Tensor = self.blocks(x.transpose(1, 2).flatten(0, 1)).flatten(1)
        frames = frames.view(len(x), x.shape[2], -1)
        if self.rnn is None:
            return frames
        # cuDNN's has no second derivative, and in eval mode not even a first: learning pixels goes without it
        plain = x.requires_grad or not self.training
        with torch.backends.cudnn.flags(enabled=False) if plain else nullcontext():
            return self.rnn(frames)[0]  # type: ignore[no-any-return]

    def pool(self, maps: Tensor) -> Tensor:
        """Mean over time, (N, D)."""
        return maps.mean(1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        return self.fc(self.pool(self.maps(x)))  # type: ignore[no-any-return]
