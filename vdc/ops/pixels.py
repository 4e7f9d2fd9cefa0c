"""Pixels between what a file holds (uint8) and what a network sees (normalised float)."""

import torch
from torch import Tensor

from vdc.spec import MEAN, STD


def _statistics(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel, (C, 1, 1, 1) each, in [0, 1]."""
    both = torch.tensor([MEAN, STD]).to(device, non_blocking=True).view(2, -1, 1, 1, 1)
    return both[0], both[1]


def to_clips(frames: Tensor) -> Tensor:
    """Decoded frames as a network sees them.

    Args:
        frames: (N, T, H, W, C) uint8 RGB.

    Returns:
        (N, C, T, H, W) float32, normalised, contiguous.
    """
    mean, std = _statistics(frames.device)
    clips = frames.movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format)
    return clips.div_(255).sub_(mean).div_(std)


def to_frames(clips: Tensor) -> Tensor:
    """Clips as they are stored and shown: rounded to the nearest grey level, clamped to 0..255.

    Args:
        clips: (N, C, T, H, W) normalised.

    Returns:
        (N, T, H, W, C) uint8, contiguous.
    """
    mean, std = _statistics(clips.device)
    levels = clips.detach().float().mul(std).add_(mean).mul_(255).round_().clamp_(0, 255)
    return levels.to(torch.uint8).movedim(1, -1).contiguous()


def valid_range(device: torch.device) -> tuple[Tensor, Tensor]:
    """Normalised values of black and white, (C, 1, 1, 1) each: the bounds of a displayable clip."""
    mean, std = _statistics(device)
    return -mean / std, (1 - mean) / std
