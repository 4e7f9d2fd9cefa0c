"""Space: crop boxes, batched resized crops, differentiable augmentation; one draw for all frames of a clip.

A box is a row (top, left, height, width, flip) of float32: whole source pixels, and 1.0 where mirrored.
"""

import math
from random import Random

import torch
from torch import Tensor

TRIES = 10  # of torchvision's RandomResizedCrop, before it falls back to the centre

# -- boxes -----------------------------------------------------------------------------------------------


def random_boxes(
    n: int,
    height: int,
    width: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: float = 0.5,
) -> Tensor:
    """Boxes by the law of torchvision's RandomResizedCrop, and a mirror coin.

    Args:
        n: boxes.
        height: of the source, pixels.
        width: of the source, pixels.
        generator: on the CPU.
        scale: range of the box's share of the area, uniform.
        ratio: range of width / height, log-uniform.
        flip: probability of mirroring.

    Returns:
        (n, 5) float32, on the CPU.
    """
    dice = Random(int(torch.randint(2**62, (), generator=generator)))  # ten tensor calls cost more than a box
    boxes = [(*_random_box(height, width, dice, scale, ratio), float(dice.random() < flip)) for _ in range(n)]
    return torch.tensor(boxes, dtype=torch.float32).view(n, 5)


def _random_box(
    height: int, width: int, dice: Random, scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """One (top, left, height, width): the first of ten random shapes that fits, anywhere, or the centre."""
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(TRIES):
        area = height * width * dice.uniform(*scale)
        aspect = math.exp(dice.uniform(low, high))
        wide, tall = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < tall <= height:
            return dice.randrange(height - tall + 1), dice.randrange(width - wide + 1), tall, wide
    return _fallback(height, width, ratio)


def _fallback(height: int, width: int, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """The centre box torchvision takes when no try fitted: as large as the ratio range allows."""
    tall, wide = height, width
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def full_boxes(n: int, height: int, width: int) -> Tensor:
    """Boxes of the whole source, not mirrored, (n, 5)."""
    return torch.tensor([[0.0, 0.0, height, width, 0.0]]).repeat(n, 1)


def centre_boxes(n: int, height: int, width: int, share: float = 1.0) -> Tensor:
    """Centred square boxes, not mirrored, (n, 5).

    Args:
        n: boxes.
        height: of the source, pixels.
        width: of the source, pixels.
        share: side of the box over the short side of the source, in (0, 1].
    """
    side = max(round(share * min(height, width)), 1)
    top, left = round((height - side) / 2), round((width - side) / 2)  # torchvision's CenterCrop rounds so
    return torch.tensor([[float(top), left, side, side, 0.0]]).repeat(n, 1)


# -- resampling ------------------------------------------------------------------------------------------


def resized_crop(clips: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Crop every clip to its box, resize it to a square and mirror it, by torchvision's antialiased bilinear.

    That is separable and linear, so a frame is `rows @ frame @ columns`: two batched matrix products,
    differentiable as often as needed.

    Args:
        clips: (N, C, T, H, W) float.
        boxes: (N, 5) float32, inside the source.
        size: height and width of the result.

    Returns:
        (N, C, T, size, size).
    """
    top, left, height, width, flip = boxes.to(clips.device, non_blocking=True).unbind(1)
    rows = _resize_weights(top, height, torch.zeros_like(flip), clips.shape[3], size)
    columns = _resize_weights(left, width, flip, clips.shape[4], size)
    return _resample(clips, rows, columns)


def _resize_weights(start: Tensor, length: Tensor, flip: Tensor, source: int, size: int) -> Tensor:
    """Share of every source pixel in every output pixel along one axis, (N, size, source), rows summing to 1.

    A triangle of the width of an output pixel (of a source pixel when growing), cut off at the box, because
    torchvision crops before it resizes.

    Args:
        start: first source pixel of the boxes, (N,).
        length: source pixels of the boxes, (N,).
        flip: 1 where the axis is mirrored, (N,).
        source: pixels of the source.
        size: pixels of the result.
    """
    start, length, flip = start[:, None, None], length[:, None, None], flip[:, None, None]
    out = torch.arange(size, device=start.device)[:, None] + 0.5
    out = torch.where(flip > 0, size - out, out)
    step = length / size
    pixel = torch.arange(source, device=start.device) + 0.5 - start
    weights = (1 - (pixel - out * step).abs() / step.clamp(min=1)).clamp(min=0)
    weights = torch.where((pixel > 0) & (pixel < length), weights, 0)
    return weights / weights.sum(2, keepdim=True)


def _resample(clips: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """`rows @ frame @ columns^T` for every frame, in full precision.

    Args:
        clips: (N, C, T, H, W).
        rows: (N, H', H).
        columns: (N, W', W).

    Returns:
        (N, C, T, H', W').
    """
    n, channels, frames, height, width = clips.shape
    with torch.autocast(clips.device.type, enabled=False):  # bfloat16 would round the pixels to 8 bits
        dtype = torch.promote_types(clips.dtype, torch.float32)
        wide = clips.to(dtype).reshape(n, channels * frames * height, width) @ columns.to(dtype).mT
        both = rows.to(dtype)[:, None] @ wide.view(n, channels * frames, height, -1)
    return both.view(n, channels, frames, rows.shape[1], -1).to(clips.dtype)
