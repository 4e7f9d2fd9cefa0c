"""Space: crop boxes, batched resized crops, differentiable augmentation; one draw for all frames of a clip.

A box is a row (top, left, height, width, flip) of float32: whole source pixels, and 1.0 where mirrored.
"""

import math
from collections.abc import Callable
from random import Random
from typing import Literal

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


# -- differentiable augmentation ---------------------------------------------------------------------------


def diff_augment(
    clips: Tensor,
    generator: torch.Generator,
    strategy: str = "color_crop_cutout_flip_scale_rotate",
    mode: Literal["one", "all"] = "one",
    shared: bool = True,
) -> Tensor:
    """Differentiable siamese augmentation, carried over to clips.

    Zhao 2021 (DSA), VICO-UoE/DatasetCondensation@53f63a6:utils.py; one set of parameters for all frames of a
    clip. With `shared`, equal generators augment real and synthetic clips alike, however many there are.

    Args:
        clips: (N, C, T, H, W), normalised.
        generator: on the CPU.
        strategy: families of augmentation, joined by underscores.
        mode: apply one family drawn per call (DSA), or all in the order of `strategy` (IDC).
        shared: one set of parameters for all clips, instead of one each.

    Returns:
        (N, C, T, H, W), differentiable twice.
    """
    names = strategy.split("_")
    if unknown := [name for name in names if name not in FAMILIES]:
        raise ValueError(f"augmentation {unknown[0]!r} in {strategy!r} is not one of {', '.join(FAMILIES)}")
    if mode == "one":
        names = [names[int(torch.randint(len(names), (), generator=generator))]]
    for name in names:
        draws = torch.rand(1 if shared else len(clips), 3, generator=generator, dtype=torch.float64)
        clips = FAMILIES[name](clips, draws.to(clips.device, clips.dtype, non_blocking=True))
    return clips


def _color(clips: Tensor, draws: Tensor) -> Tensor:
    """Brightness +-0.5, saturation x 0..2 about each pixel's grey, contrast x 0.5..1.5 about the mean."""
    brightness, saturation, contrast = draws[:, :, None, None, None, None].unbind(1)
    clips = clips + (brightness - 0.5)
    grey = clips.mean(1, keepdim=True)
    clips = torch.lerp(grey, clips, 2 * saturation)
    return torch.lerp(clips.mean((1, 2, 3, 4), keepdim=True), clips, contrast + 0.5)


def _crop(clips: Tensor, draws: Tensor) -> Tensor:
    """Shift by up to an eighth of the side, zeros moving in."""
    weights = []
    for axis, draw in zip((3, 4), draws.unbind(1), strict=False):
        side = clips.shape[axis]
        reach = int(side / 8 + 0.5)
        shift = (draw[:, None] * (2 * reach + 1)).floor() - reach
        weights.append(_hat(torch.arange(side, device=clips.device) + shift, side))
    return _resample(clips, *weights)


def _cutout(clips: Tensor, draws: Tensor) -> Tensor:
    """A zero square of half the side, centred anywhere."""
    inside = []
    for axis, draw in zip((3, 4), draws.unbind(1), strict=False):
        side = clips.shape[axis]
        hole = int(side / 2 + 0.5)
        first = (draw[:, None] * (side + 1 - hole % 2)).floor() - hole // 2
        at = torch.arange(side, device=clips.device)
        inside.append((at >= first) & (at < first + hole))
    rows, columns = inside
    hidden = rows[:, :, None] & columns[:, None, :]
    return clips.masked_fill(hidden[:, None, None], 0)


def _flip(clips: Tensor, draws: Tensor) -> Tensor:
    """Mirror with probability one half."""
    return torch.where(draws[:, :1, None, None, None] < 0.5, clips.flip(4), clips)


def _scale(clips: Tensor, draws: Tensor) -> Tensor:
    """Zoom by 1/1.2..1.2 about the centre, each axis on its own, zeros outside."""
    weights = []
    for axis, draw in zip((3, 4), draws.unbind(1), strict=False):
        side = clips.shape[axis]
        zoom = 1 / 1.2 + draw[:, None] * (1.2 - 1 / 1.2)
        at = torch.arange(side, device=clips.device) - (side - 1) / 2
        weights.append(_hat(at * zoom + (side - 1) / 2, side))
    return _resample(clips, *weights)


def _rotate(clips: Tensor, draws: Tensor) -> Tensor:
    """Turn by up to 15 degrees about the centre, bilinear, zeros outside.

    Four taps by hand: torch cannot differentiate its `grid_sample` twice.
    """
    n, channels, frames, height, width = clips.shape
    angle = (draws[:, 0, None, None] * 2 - 1) * math.radians(15)
    y = (torch.arange(height, device=clips.device, dtype=clips.dtype) * 2 + 1)[:, None] / height - 1
    x = (torch.arange(width, device=clips.device, dtype=clips.dtype) * 2 + 1) / width - 1
    across = ((angle.cos() * x - angle.sin() * y + 1) * width - 1) / 2
    down = ((angle.sin() * x + angle.cos() * y + 1) * height - 1) / 2
    pixels = clips.permute(0, 3, 4, 1, 2).reshape(n * height * width, channels * frames)
    first = torch.arange(n, device=clips.device)[:, None, None] * (height * width)
    turned = torch.zeros_like(pixels)
    for row in (down.floor(), down.floor() + 1):
        for column in (across.floor(), across.floor() + 1):
            share = (1 - (down - row).abs()) * (1 - (across - column).abs())
            share = share * ((row >= 0) & (row < height) & (column >= 0) & (column < width))
            tap = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            taken = pixels.index_select(0, (first + tap.long()).flatten())
            turned = turned + taken * share.expand(n, -1, -1).reshape(-1, 1)
    return turned.view(n, height, width, channels, frames).permute(0, 3, 4, 1, 2)


def _hat(positions: Tensor, source: int) -> Tensor:
    """Bilinear shares of the source pixels at fractional positions (N, S), zeros outside: (N, S, source)."""
    pixel = torch.arange(source, device=positions.device)
    return (1 - (positions[:, :, None] - pixel).abs()).clamp(min=0)


FAMILIES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color, "crop": _crop, "cutout": _cutout, "flip": _flip, "scale": _scale, "rotate": _rotate,
}  # fmt: skip
