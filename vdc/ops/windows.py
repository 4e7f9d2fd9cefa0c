"""Time: which raw frames a clip takes, and how a stored item becomes the clip a network sees."""

from collections.abc import Callable

import torch
from torch import Tensor

from vdc.spec import ClipSpec, Interpolation

# -- raw videos --------------------------------------------------------------------------------


def interval(length: int, frames: int, stride: int) -> int:
    """Raw frames from one sampled frame to the next: `stride`, or fewer in a video too short for it.

    Video-DC samples short videos densely instead of wrapping them, MCG-NJU/Video-DC@d51660d8:dataset.py.

    Args:
        length: frames of the video.
        frames: frames to sample.
        stride: wanted spacing.
    """
    if length < 1:
        raise ValueError(f"a video of {length} frames cannot be sampled")
    return stride if length >= frames * stride else max(length // frames, 1)


def max_start(length: int, frames: int, stride: int) -> int:
    """Last start at which all sampled frames lie in the video; 0 if it has fewer than `frames`."""
    return max(length - 1 - (frames - 1) * interval(length, frames, stride), 0)


def frame_indices(length: int, frames: int, stride: int, start: int) -> list[int]:
    """Raw frames of a clip from `start` on, 0-based; past the end the last frame repeats."""
    step = interval(length, frames, stride)
    return [min(start + i * step, length - 1) for i in range(frames)]


def key_frames(frames: int, count: int, ends: bool = False) -> list[int]:
    """Positions of `count` frames spread evenly over a clip: the middles of equal parts, or from end to end.

    Either way equal parts of the clip hold equal parts of them, in order (the paired segments of Wang 2024).

    Args:
        frames: of the clip.
        count: in 1..frames; at least 2 with `ends`.
        ends: the first and last frame are among them.
    """
    if ends:
        return [(2 * i * (frames - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]
    return [(2 * i + 1) * frames // (2 * count) for i in range(count)]


def kept_frames(spec: ClipSpec, stored: int | None = None) -> tuple[int, list[int] | None]:
    """How an item is cut from a video: frames of a clip at `spec.stride`, and which of them it keeps.

    Args:
        spec: of the item.
        stored: frames it keeps; `None` takes those of `spec`.

    Returns:
        The length of the clip; positions in it, `None` for all of them.
    """
    stored = spec.stored if stored is None else stored
    if spec.window != "none" or stored == 1 or stored >= spec.frames:  # a single one: any of the video
        return stored, None
    return spec.frames, key_frames(spec.frames, stored, spec.interpolation == "linear_ends")


# -- stored items ------------------------------------------------------------------------------


def draw_starts(n: int, spec: ClipSpec, generator: torch.Generator) -> Tensor:
    """Random window starts of n stored items, (n,) int64 on the CPU.

    `slide` starts anywhere in {0..T_c - cut}, `segment` at one of the equal segments, `none` at 0.
    """
    if spec.window == "slide":
        return torch.randint(spec.stored - spec.cut + 1, (n,), generator=generator)
    if spec.window == "segment":
        return torch.randint(spec.stored // spec.cut, (n,), generator=generator) * spec.cut
    return torch.zeros(n, dtype=torch.int64)


def centre_starts(n: int, spec: ClipSpec) -> Tensor:
    """Starts of the middle window (for `segment`: of the middle segment, the earlier of two), (n,) int64."""
    start = (spec.stored - spec.cut) // 2
    return torch.full((n,), start - start % spec.cut if spec.window == "segment" else start)


def take_window(clips: Tensor, starts: Tensor, length: int) -> Tensor:
    """`length` consecutive frames of every clip, each from its own start.

    Args:
        clips: (N, C, T_c, H, W).
        starts: (N,) int64, in {0..T_c - length}.
        length: frames to take.

    Returns:
        (N, C, length, H, W).
    """
    if clips.shape[2] == length:
        return clips
    starts = starts.to(clips.device, non_blocking=True)
    times = starts[:, None] + torch.arange(length, device=clips.device)
    rows = torch.arange(len(clips), device=clips.device)[:, None]
    return clips.transpose(1, 2)[rows, times].transpose(1, 2)  # ten times faster than gather on a CPU


def temporal_segments(clips: Tensor, count: int) -> Tensor:
    """Equal parts of clips in time, those of one clip after one another.

    Args:
        clips: (N, C, T, H, W).
        count: parts, which must divide T.

    Returns:
        (N * count, C, T / count, H, W).
    """
    return clips if count == 1 else torch.stack(clips.chunk(count, 2), 1).flatten(0, 1)


def interpolate(clips: Tensor, frames: int, kind: Interpolation) -> Tensor:
    """Stretch clips in time.

    `duplicate`: frame i is f[floor(i * t / T)]; `linear` samples pixel centres, clamped at the ends
    (Video-DC); `linear_ends` keeps the first and last frame (Wang 2024, sec. 3).

    Args:
        clips: (N, C, t, H, W).
        frames: T.
        kind: any but `parametric`, whose network takes the duplicated clip.

    Returns:
        (N, C, T, H, W).
    """
    length = clips.shape[2]
    if length == frames:
        return clips
    at = torch.arange(frames, dtype=torch.float64)
    if kind == "duplicate":
        repeats = torch.arange(frames) * length // frames
        return clips.index_select(2, repeats.to(clips.device, non_blocking=True))
    if kind == "linear":
        at = ((at + 0.5) * length / frames - 0.5).clamp(0, length - 1)
    elif kind == "linear_ends" and frames > 1:
        at = at * (length - 1) / (frames - 1)
    else:
        raise ValueError(f"spec.interpolation {kind} cannot turn {length} frames into {frames}")
    low = at.floor().long()
    share = (at - low).to(clips.device, clips.dtype, non_blocking=True).view(-1, 1, 1)
    pair = torch.stack([low, (low + 1).clamp(max=length - 1)]).to(clips.device, non_blocking=True)
    return torch.lerp(clips.index_select(2, pair[0]), clips.index_select(2, pair[1]), share)


def apply_view(
    clips: Tensor,
    spec: ClipSpec,
    starts: Tensor | None = None,
    interpolator: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Stored clips as a network sees them: cut, then stretched.

    Args:
        clips: (N, C, T_c, H, W), T_c of `spec`.
        spec: the window and the interpolation.
        starts: (N,) int64 from `draw_starts`; `None` takes the middle window.
        interpolator: of duplicated clips (N, C, T, H, W), for `interpolation: parametric`.

    Returns:
        (N, C, T, H, W).
    """
    if clips.shape[2] != spec.stored:
        raise ValueError(f"spec.stored_frames is {spec.stored}, but these clips hold {clips.shape[2]} frames")
    cut = take_window(clips, centre_starts(len(clips), spec) if starts is None else starts, spec.cut)
    if spec.cut == spec.frames:
        return cut
    if spec.interpolation != "parametric":
        return interpolate(cut, spec.frames, spec.interpolation)
    if interpolator is None:
        raise ValueError("spec.interpolation parametric needs its trained interpolator, and none was loaded")
    return interpolator(interpolate(cut, spec.frames, "duplicate"))
