"""Frames of one video file by decord, as published pipelines read them.

decord 0.6 seeks by times alone. Measured against sequential decoding: the same frames in closed groups of H.264,
HEVC, VP8, VP9 and MJPEG and in MPEG-4 without B-pictures; other frames, without an error, in open groups, in MPEG-1,
-2 and -4 with B-pictures (most of HMDB51) and in transport and program streams; it hung on one WMV file.
"""

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, TypeVar

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vdc.data.readers.base import BadVideo, Reader, naming
from vdc.data.readers.container import orientation
from vdc.data.readers.pyav import VideoFile

RIGHT = frozenset(("h264", "hevc", "vp8", "vp9", "mjpeg", "mpeg4"))  # codecs that decord reads right
PATIENCE = 120.0  # seconds after which decord is taken to hang
BATCH = 32  # frames that a check asks for at once
WARNED: set[str] = set()
R = TypeVar("R")


class DecordFile(Reader):
    """A reader of a video file by decord; what is damaged or cut off PyAV tells, for decord repeats frames instead.

    A warning names the first file of each kind that decord is known to read otherwise than players show it.

    Args:
        path: of the file.

    Raises:
        BadVideo: it is no video, cut off, or decord cannot open it.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with naming(path):
            stat = os.stat(path)
            reason = oddity(path, stat.st_mtime_ns, stat.st_size)
            if reason and reason not in WARNED:
                WARNED.add(reason)
                rank_zero_warn(
                    f"{path}: {reason}: decord is known to read other frames than players show; such files are read "
                    "right with --data.decoder pyav"
                )
            self._video: Any = self._within(lambda: decord().VideoReader(path, num_threads=1))
            self._length = len(self._video)
        if not self._length:
            raise BadVideo(f"{path}: cannot be decoded: no frames")

    def __len__(self) -> int:
        """See `Reader`; as decord counts them."""
        return self._length

    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """See `Reader`."""
        order = sorted(set(indices))
        with naming(self.path):
            frames = self._within(lambda: self._video.get_batch(order).asnumpy())
            found = {i: _resized(frame, size) for i, frame in zip(order, frames, strict=True)}
            return torch.from_numpy(np.stack([found[i] for i in indices]))

    def check(self) -> None:
        """See `Reader`."""
        VideoFile(self.path).check()
        with naming(self.path):
            for start in range(0, len(self), BATCH):
                order = range(start, min(start + BATCH, len(self)))
                self._within(partial(self._video.get_batch, list(order)))

    def _within(self, work: Callable[[], R]) -> R:
        """What `work` gives, in a thread of its own that is left alone if it never ends."""
        results: list[R] = []
        errors: list[Exception] = []

        def run() -> None:
            try:
                results.append(work())
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if errors:
            raise BadVideo(f"{self.path}: cannot be decoded: decord: {_reason(errors[0])}") from errors[0]
        if not results:
            raise BadVideo(f"{self.path}: cannot be decoded: decord gave no answer in {PATIENCE:.0f} s")
        return results[0]


def decord() -> Any:
    """The decord package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import decord as package
    except ImportError as error:
        raise ValueError(
            "--data.decoder decord: decord is not installed (it has wheels for Linux and Windows on x86-64 alone): "
            "use --data.decoder pyav"
        ) from error
    return package


@cache
def oddity(path: str, mtime: int, size: int) -> str:
    """What decord does not read right in a file; nothing if it does. Kept, because workers open files every epoch.

    Args:
        path: of the file.
        mtime: of the file, so that a changed file is looked at again.
        size: of the file, likewise.

    Raises:
        BadVideo: it cannot be decoded at all.
    """
    video = VideoFile(path)
    timeline, context = video.timeline, video.stream.codec_context
    if not timeline.sought:
        return "frames that must be counted"
    if timeline.hidden:
        return "an edit list that hides frames"
    if timeline.open_groups:
        return "open groups of pictures"
    if context.name not in RIGHT or (context.name == "mpeg4" and context.has_b_frames):
        return f"the codec {context.name}" + " with B-pictures" * bool(context.has_b_frames)
    swap, rows, columns = orientation(next(video.frames()))
    return "a mirrored picture" if swap + rows + columns in (1, 3) else ""


def _resized(pixels: np.ndarray, size: tuple[int, int] | None) -> np.ndarray:
    """Pixels (H, W, C) of another height and width, by the same filter as PyAV's reader."""
    if size is None:
        return pixels
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    height, width = size
    rgb = VideoReformatter().reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
    return np.asarray(rgb.to_ndarray())


def _reason(error: Exception) -> str:
    """The last sentence of one of decord's errors, which begin with times, files and lines of its own."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].rsplit(": ", 1)[-1] if lines else type(error).__name__
