"""Tiny videos whose frames tell their own index, and which video they are of."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

STEP = 3  # red levels per frame: up to 85 frames


def write(
    path: Path,
    frames: int = 24,
    tag: int = 0,
    size: tuple[int, int] = (32, 48),
    codec: str = "libx264rgb",
    pixels: str = "rgb24",
    gop: int = 12,
    times: list[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    noise: bool = False,
    settings: dict[str, str] | None = None,
) -> Path:
    """A video of flat frames: red tells the frame, green the video. Lossless unless `codec` is another.

    `times`: of the frames in milliseconds, for a variable frame rate; `noise`: in blue, makes a file large; `settings`:
    of the encoder, in place of x264's.
    """
    dice = np.random.default_rng(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=container or {}) as file:
        settings = {"crf": "0", "preset": "ultrafast", "bf": "2"} if settings is None else settings
        settings = {**settings, **(options or {})}
        stream = file.add_stream(codec, rate=25, options=settings)
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size, stream.thread_count = pixels, gop, 1
        if times:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for t in range(frames):
            flat = np.full((*size, 3), (STEP * t % 256, tag, 255 - STEP * t % 256), np.uint8)
            if noise:
                flat[..., 2] = dice.integers(0, 256, size)
            frame = av.VideoFrame.from_ndarray(flat, format="rgb24")
            if times:
                frame.pts, frame.time_base = times[t], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def indices(frames: Tensor) -> list[int]:
    """Which frames these are, of any shape (..., H, W, C) uint8."""
    return (frames[..., 0].double().mean((-1, -2)) / STEP).round().flatten().int().tolist()


def tags(frames: Tensor) -> list[int]:
    """Which videos these frames are of."""
    return frames[..., 1].double().mean((-1, -2)).round().flatten().int().tolist()


def in_order(path: Path) -> np.ndarray:
    """All frames, decoded from first to last without a seek, (T, H, W, C): what a player shows."""
    shown = []
    with av.open(str(path), metadata_errors="replace") as file:
        stream = file.streams.best("video")
        started = False
        for packet in file.demux(stream):
            started = started or packet.is_keyframe
            try:
                shown += [frame.to_ndarray(format="rgb24") for frame in packet.decode()]
            except av.InvalidDataError:  # players pass over what refers to frames that were cut off
                assert not started
    return np.stack(shown)
