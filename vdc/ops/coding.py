"""Numbers as few bits: which get how many, their levels, and bits packed into bytes."""

import torch
from torch import Tensor

# Uniform quantisers of 0..8 bits for numbers of deviation 1: half their range, and the squared error that is left.
# Measured on the cosine coefficients of clips (GRID, UT-Interaction), whose law lies between Gauss and Laplace.
LIMITS = (0.0, 1.5, 2.05, 2.55, 3.2, 4.1, 5.0, 6.0, 7.0)
ERRORS = (1.0, 0.42, 0.16, 0.056, 0.019, 0.0065, 0.0022, 0.0007, 0.00023)
MOST = len(LIMITS) - 1  # bits a number gets at most


def allot(octaves: Tensor, total: int) -> Tensor:
    """Bits of numbers of different deviation, such that all squared errors add up to least.

    Reverse water-filling with the errors of real quantisers: every bit goes where it removes most error, the
    earlier of equals first.

    Args:
        octaves: log2 of the deviations, (n,) float64.
        total: bits to give away.

    Returns:
        (n,) int64 in 0..8, adding up to `total`.

    Raises:
        ValueError: more bits than n numbers can take.
    """
    if total > MOST * len(octaves):
        raise ValueError(f"{len(octaves)} numbers of at most {MOST} bits cannot take {total} bits")
    removed = -torch.tensor(ERRORS, dtype=torch.float64).diff()  # by each further bit, falling
    worth = 2 * octaves[:, None] + removed.log2()
    taken = worth.flatten().argsort(descending=True, stable=True)[:total]
    return torch.bincount(taken // MOST, minlength=len(octaves))


def quantiser(bits: Tensor) -> tuple[Tensor, Tensor]:
    """Half the range, and the step, of numbers of deviation 1 with `bits` (n,) int64; (n,) float32 each."""
    limits = torch.tensor(LIMITS)[bits]
    return limits, 2 * limits / 2.0**bits


def levels(numbers: Tensor, limits: Tensor, steps: Tensor) -> Tensor:
    """The nearest level of numbers (..., n), counted from 0, as float."""
    last = 2 * limits / steps - 1
    return torch.minimum(((numbers + limits) / steps).floor().clamp_min(0), last)


def middles(level: Tensor, limits: Tensor, steps: Tensor) -> Tensor:
    """The numbers that levels (..., n) stand for."""
    return (level + 0.5) * steps - limits


def pack(values: Tensor, widths: Tensor) -> Tensor:
    """Whole numbers side by side, each in its own count of bits, lowest bit first; the last byte is filled with 0.

    Args:
        values: (N, n) int64, number i in 0..2^widths[i] - 1.
        widths: bits of each, (n,) int64.

    Returns:
        (N, ceil(sum of widths / 8)) uint8.
    """
    owner = torch.arange(len(widths), device=widths.device).repeat_interleave(widths)
    place = torch.arange(len(owner), device=widths.device) - (widths.cumsum(0) - widths)[owner]
    bits = values[:, owner] >> place & 1
    bits = torch.nn.functional.pad(bits, (0, -len(owner) % 8)).view(len(values), -1, 8)
    return (bits << torch.arange(8, device=bits.device)).sum(2).byte()


def unpack(packed: Tensor, widths: Tensor) -> Tensor:
    """The numbers (N, n) int64 that `pack` put into (N, bytes) uint8."""
    bits = (packed[:, :, None] >> torch.arange(8, device=packed.device)).bitwise_and_(1).flatten(1)
    first, values = widths.cumsum(0) - widths, packed.new_zeros(len(packed), len(widths), dtype=torch.int64)
    for place in range(int(widths.max())):
        wide = (widths > place).nonzero().flatten()
        values[:, wide] += bits[:, first[wide] + place].long() << place
    return values
