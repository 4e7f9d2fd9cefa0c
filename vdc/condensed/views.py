"""What a student sees of a stored item at one draw: shared by training and labelling."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdc.ops.augment import diff_augment, random_boxes, resized_crop
from vdc.ops.rng import generator
from vdc.ops.windows import apply_view, draw_starts
from vdc.spec import ClipSpec


class Geometry(NamedTuple):
    """Where one draw looks in every clip row of a set."""

    starts: Tensor  # (rows,) int64, first stored frame of the window
    boxes: Tensor | None  # (rows, 5) float32, see `vdc.ops.augment`; `None` takes whole frames

    def of(self, rows: Tensor) -> "Geometry":
        """That of `rows` (N,) int64."""
        return Geometry(self.starts[rows], None if self.boxes is None else self.boxes[rows])

    def to(self, device: torch.device) -> "Geometry":
        """On a device."""
        return Geometry(self.starts.to(device), None if self.boxes is None else self.boxes.to(device))


def draw_view(
    rows: int, spec: ClipSpec, seed: int, draw: int, crop_scale: tuple[float, float] | None, flip: float
) -> Geometry:
    """One window, crop and mirror coin per clip row, the same whenever `seed` and `draw` are.

    Args:
        rows: clip rows of the whole set, also where only some of them are used: row r always gets the same.
        spec: of the set.
        seed: of all draws.
        draw: number of this one: an epoch, or a stored view.
        crop_scale: area of the crop over that of the frame; `None` takes whole frames, never mirrored.
        flip: probability of mirroring.
    """
    starts = draw_starts(rows, spec, generator(seed, "window", draw))
    if crop_scale is None:
        return Geometry(starts, None)
    rng = generator(seed, "crop", draw)
    return Geometry(starts, random_boxes(rows, spec.size, spec.size, rng, scale=crop_scale, flip=flip))


def stored_view(recipe: dict[str, Any], spec: ClipSpec, seed: int, view: int) -> Geometry:
    """The geometry of a stored view, for all clip rows of the whole set.

    Args:
        recipe: of `Views`: `rows` of the whole set, `crop_scale` or None, `flip`.
        spec: of the set.
        seed: of `Views`.
        view: its number.
    """
    scale = recipe["crop_scale"]
    crop = None if scale is None else (float(scale[0]), float(scale[1]))
    return draw_view(recipe["rows"], spec, seed, view, crop, recipe["flip"])


def look(
    clips: Tensor, spec: ClipSpec, view: Geometry, interpolator: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Stored clips (N, C, T_c, H, W) as seen: cut in time and stretched, then cropped, (N, C, T, H, W)."""
    clips = apply_view(clips, spec, view.starts, interpolator)
    return clips if view.boxes is None else resized_crop(clips, view.boxes, spec.size)


def diff_augmented(clips: Tensor, rng: torch.Generator) -> Tensor:
    """Mirror and colour, then one of shift, scale and rotation, each clip by its own draw.

    Kim 2022 evaluates so, snu-mllab/Efficient-Dataset-Condensation:train.py.
    """
    clips = diff_augment(clips, rng, "color_flip", mode="all", shared=False)
    return diff_augment(clips, rng, "crop_scale_rotate", mode="one", shared=False)


def dense(logits: Tensor, index: Tensor, num_classes: int) -> Tensor:
    """All K logits from the k strongest; the others are as low as the lowest stored one of their row.

    Args:
        logits: (N, k).
        index: their classes, (N, k).
        num_classes: K.

    Returns:
        (N, K) float32.
    """
    values = logits.float()
    floor = values.amin(1, keepdim=True).expand(-1, num_classes)
    return floor.scatter(1, index.long(), values)
