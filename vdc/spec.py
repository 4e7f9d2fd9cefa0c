"""The shapes and batch types every part shares.

Axis letters: N clips, C channels, T frames, H height, W width; K classes; ipc items per class; T_c stored frames.
A clip on a device is `(N, C, T, H, W)` normalised float32; off a decoder `(T, H, W, C)` uint8. Items are class-major.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor

MEAN = (0.485, 0.456, 0.406)  # ImageNet, RGB in [0, 1]: what every published video condensation number uses
STD = (0.229, 0.224, 0.225)

INTERPOLATOR = ("interpolator.json", "interpolator.safetensors")  # files of a trained interpolator
Window = Literal["none", "segment", "slide"]
Interpolation = Literal["none", "duplicate", "linear", "linear_ends", "parametric"]


@dataclass(frozen=True)
class ClipSpec:
    """What a network sees, and how a stored item becomes that.

    Args:
        frames: frames T of a clip a network sees.
        size: height and width in pixels.
        stride: raw frames from one sampled frame to the next (denser in videos too short for it).
        stored_frames: frames T_c of a stored item; `None` stores `frames`. Fewer than `frames` without a window
            span the same time: they are spread over the clip that a network sees.
        window: how a view cuts the stored frames: whole, one of the equal segments, or a slide-window.
        window_frames: frames of that cut; `None` means `frames` (with `window: none`, the whole item).
        interpolation: how a cut shorter than `frames` is stretched to it. `linear` keeps pixel-centre alignment
            (Video-DC), `linear_ends` keeps the end frames (Wang 2024), `parametric` asks a trained network.
        interpolator: folder of that network, from `vdc pretrain --net interpolator`.
    """

    frames: int = 8
    size: int = 112
    stride: int = 8
    stored_frames: int | None = None
    window: Window = "none"
    window_frames: int | None = None
    interpolation: Interpolation = "none"
    # where it lies is no part of what clips are
    interpolator: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("frames", "size", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"spec.{name} must be at least 1, got {getattr(self, name)}")
        if self.stored < 1 or self.cut < 1:
            raise ValueError("spec.stored_frames and spec.window_frames must be at least 1")
        if self.cut > self.stored:
            raise ValueError(
                f"spec.stored_frames is {self.stored}: shorter than its window of {self.cut} frames"
            )
        if self.window == "none" and self.cut != self.stored:
            raise ValueError(
                f"spec.window_frames {self.cut} needs spec.window segment or slide (stored: {self.stored})"
            )
        if self.window == "segment" and self.stored % self.cut:
            raise ValueError(
                f"spec.window segment: {self.cut} frames do not divide the {self.stored} stored ones"
            )
        if self.interpolation == "none" and self.cut != self.frames:
            raise ValueError(
                f"a view of {self.cut} frames is not the {self.frames} a network sees: set spec.interpolation"
            )
        if self.interpolation == "linear_ends" and self.cut < 2:
            raise ValueError("spec.interpolation linear_ends needs at least 2 frames: use duplicate")
        if self.interpolation == "parametric" and self.interpolator is None:
            raise ValueError(
                "spec.interpolation parametric needs a trained network: set spec.interpolator to its folder, "
                "from `vdc pretrain --net interpolator`"
            )

    @property
    def stored(self) -> int:
        """Frames T_c of a stored item."""
        return self.frames if self.stored_frames is None else self.stored_frames

    @property
    def cut(self) -> int:
        """Frames of one view before interpolation."""
        if self.window_frames is not None:
            return self.window_frames
        return self.stored if self.window == "none" else self.frames

    @property
    def nbytes(self) -> int:
        """Bytes of a stored clip, as uint8."""
        return self.stored * self.size * self.size * 3


class RawBatch(NamedTuple):
    """What workers send: m clips of each of N videos, not yet cropped. Host memory holds uint8 only."""

    frames: Tensor  # (N, m, T, H, W, C) uint8
    labels: Tensor  # (N,) int64
    rows: Tensor  # (N,) int64, index of the video in its split
    boxes: Tensor  # (N, m, 5) float32: top, left, height, width in pixels of `frames`, and 1.0 where flipped

    def to(self, device: torch.device) -> Self:
        """The same on a device; from pinned memory, nobody waits for it."""
        return type(self)(*(part.to(device, non_blocking=True) for part in self))


class Batch(NamedTuple):
    """What a LightningModule receives, on its device."""

    clips: Tensor  # (N*m, C, T, H, W) float32, normalised
    labels: Tensor  # (N*m,) int64
    rows: Tensor  # (N*m,) int64, video index, or clip row of a condensed set
    targets: Tensor | None = None  # (N*m, K) teacher or learnt logits
    mix: tuple[Tensor, Tensor] | None = None  # CutMix: labels of the pasted clips (N*m,), kept share (scalar)
