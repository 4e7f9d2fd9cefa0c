"""Integrators: what makes clips of stills and motion clips. One is shared by all items of a set."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Kind = Literal["conv", "encoder_decoder"]


def paired(stills: Tensor, motions: Tensor) -> Tensor:
    """Stills (N, 3, H, W), the same at all times, above motion clips (N, T, H, W): (N, 4, T, H, W)."""
    still = stills[:, :, None].expand(-1, -1, motions.shape[1], -1, -1)
    return torch.cat([still, motions[:, None]], 1)


class ConvIntegrator(nn.Module):
    """One convolution, 327 weights: what Wang 2024 released (yuz1wan/video_distillation@5871dc5b:utils.py)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4, 3, 3, padding=1)

    def forward(self, stills: Tensor, motions: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of stills (N, 3, H, W) and motion clips (N, T, H, W)."""
        return self.conv(paired(stills, motions))  # type: ignore[no-any-return]


class EncoderDecoder(nn.Module):
    """Two convolutions of MiniC3D down, two up, and the pair itself beside the last one.

    Wang 2024, sec. 5.3, calls the integrator a MiniC3D, and released none: the shape is ours. With its other
    weights at 0 the last convolution is `ConvIntegrator`.

    Args:
        width: channels of the first convolution; the second has twice as many.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down1 = nn.Conv3d(4, width, (3, 7, 7), (1, 2, 2), (1, 3, 3))
        self.down2 = nn.Conv3d(width, 2 * width, (3, 7, 7), (1, 2, 2), (1, 3, 3))
        self.up = nn.Conv3d(2 * width, width, 3, padding=1)
        self.last = nn.Conv3d(4 + width, 3, 3, padding=1)

    def forward(self, stills: Tensor, motions: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of stills (N, 3, H, W) and motion clips (N, T, H, W)."""
        pair = paired(stills, motions)
        half = F.relu(self.down1(pair))
        low = F.relu(self.down2(half))
        up = F.relu(self.up(_resized(low, half)) + half)
        return self.last(torch.cat([pair, _resized(up, pair)], 1))  # type: ignore[no-any-return]


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """Maps (N, C, t, h, w) with the length and size of others."""
    return F.interpolate(maps, like.shape[2:], mode="trilinear", align_corners=False)


def build(kind: Kind, width: int) -> nn.Module:
    """An integrator: stills (N, 3, H, W), motion clips (N, T, H, W) -> clips (N, 3, T, H, W).

    Args:
        kind: which.
        width: see `EncoderDecoder`.

    Raises:
        ValueError: unknown, or without channels.
    """
    if kind == "conv":
        return ConvIntegrator()
    if kind != "encoder_decoder":
        raise ValueError(f"memory.integrator must be conv or encoder_decoder, got {kind!r}")
    if width < 1:
        raise ValueError(f"memory.width must be at least 1, got {width}")
    return EncoderDecoder(width)


@torch.no_grad()
def reset(integrator: nn.Module, generator: torch.Generator) -> None:
    """Start all weights afresh by PyTorch's rule for convolutions; the same numbers on any device."""
    for layer in integrator.modules():
        if isinstance(layer, nn.Conv3d):
            bound = layer.weight[0].numel() ** -0.5
            for weights in layer.parameters():
                drawn = torch.rand(weights.shape, generator=generator)
                weights.copy_((2 * drawn - 1) * bound)


@torch.no_grad()
def pass_through(integrator: nn.Module) -> None:
    """Make clips of the still plus the motion clip, in every colour; also where an encoder stands beside."""
    last = integrator.conv if isinstance(integrator, ConvIntegrator) else integrator.last
    assert isinstance(last, nn.Conv3d)
    for weights in last.parameters():
        weights.zero_()
    for colour in range(3):  # of what `paired` makes, channel 3 is the motion clip
        last.weight[colour, [colour, 3], 1, 1, 1] = 1.0
