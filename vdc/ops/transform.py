"""The cosine transform of clips, their colours apart: most of what a clip shows lies in a few numbers."""

import math

import torch
from torch import Tensor

from vdc.spec import MEAN, STD

YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # ITU-R BT.601


def dct_matrix(n: int) -> Tensor:
    """Orthonormal DCT-II, (n, n) float64: row k is the wave of k half periods."""
    wave = torch.arange(n, dtype=torch.float64)[:, None]
    basis = torch.cos(math.pi * wave * (torch.arange(n) + 0.5) / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis


def separable(clips: Tensor, time: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Clips (N, C, t, h, w) times a matrix along each axis: (T, t), (H, h) and (W, w) -> (N, C, T, H, W)."""
    found = height @ (clips @ width.mT)
    return (time @ found.flatten(3)).view(*found.shape[:2], -1, *found.shape[3:])


def colours(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Between normalised RGB and YCbCr in grey levels.

    Returns:
        forth and back, (3, 3) each; offset (3, 1), with ycbcr = forth @ rgb + offset, of float64.
    """
    matrix, mean, std = (torch.tensor(values, dtype=torch.float64) for values in (YCBCR, MEAN, STD))
    forth, offset = 255 * matrix * std, 255 * matrix @ mean
    return forth.to(device), torch.linalg.inv(forth).to(device), offset[:, None].to(device)


def log_bands(n: int, count: int) -> Tensor:
    """Which of at most `count` bands each of n frequencies lies in, (n,) int64: as wide as they are high.

    In whole numbers: no machine may put a frequency elsewhere than the machine that wrote a set.
    """
    if count >= n:
        return torch.arange(n)
    bands = [sum((n + 1) ** i <= (f + 1) ** count for i in range(1, count)) for f in range(n)]
    used = sorted(set(bands))
    return torch.tensor([used.index(band) for band in bands])
