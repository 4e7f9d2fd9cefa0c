"""Frames of one video, by index; the only file that decodes.

PyAV, not decord: that was measured to return other frames than asked for after a seek in open-GOP H.264 and
HEVC and in AVI with B-frames (UCF101 and HMDB51 are AVI; dmlc/decord#195), and not to be faster.
"""

import os
import re
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from PIL import Image
from torch import Tensor

IMAGES = frozenset((".jpg", ".jpeg", ".png"))
WHOLE = 0.9  # share of the frames or seconds a file claims to hold, below which it was cut off


class BadVideo(ValueError):
    """A video that cannot be decoded; one line that starts with its path."""

    def __init__(self, message: str) -> None:
        # a DataLoader raises a worker's error anew, with the worker's traceback as its message
        super().__init__(message.strip().rsplit("BadVideo: ", 1)[-1].splitlines()[0])


class Reader(ABC):
    """A video to take frames from; made for one item and thrown away."""

    @abstractmethod
    def __len__(self) -> int:
        """Frames of the video, at least 1."""

    @abstractmethod
    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """Frames at `indices`, in that order, repeats allowed.

        Args:
            indices: 0-based.
            size: height and width to resize to, antialiased bilinear; `None` keeps the video's.

        Returns:
            (n, H, W, C) uint8 RGB.

        Raises:
            BadVideo: one of the frames cannot be decoded.
        """

    @abstractmethod
    def check(self) -> None:
        """Decode everything.

        Raises:
            BadVideo: a frame is damaged or missing.
        """


def open_video(path: str, frames: int | None = None) -> Reader:
    """A reader of a video file, or of a folder of numbered images.

    Args:
        path: file or folder.
        frames: of a folder: how many of its images to use; `None` uses all.

    Raises:
        BadVideo: it is not there, not a video, or cut off.
    """
    return FrameFolder(path, frames) if os.path.isdir(path) else VideoFile(path)


def decoder() -> str:
    """Name and version of the decoder, for manifests."""
    return f"av {av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"


class VideoFile(Reader):
    """A reader of a video file. One thread: workers run beside one another.

    Frames are found by their timestamps, so that seeking is exact in open groups of pictures and at variable
    frame rates; where timestamps are missing or unreliable, by counting from the start.
    """

    _container: Any = None

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._open()
            packets = [p for p in self._container.demux(self._stream) if p.size and not p.is_discard]
            self._refuse_cut(packets)
            self._keys = sorted(p.pts for p in packets if p.is_keyframe and p.pts is not None)
            self._times = sorted({p.pts for p in packets if p.pts is not None})
            unordered = self._container.format.name == "avi" and self._stream.codec_context.has_b_frames
            self._counted = bool(unordered or not self._keys or len(self._times) < len(packets))
            stat = os.stat(path)
            self._length = _count(path, stat.st_mtime_ns, stat.st_size) if self._counted else len(packets)
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error) from error

    def _bad(self, reason: object) -> BadVideo:
        return BadVideo(f"{self.path}: cannot be decoded: {getattr(reason, 'strerror', None) or reason}")

    def __del__(self) -> None:
        """Close the file now: libav's objects form cycles, and would wait for the garbage collector."""
        if self._container is not None:
            self._container.close()

    def _open(self) -> None:
        if self._container is not None:
            self._container.close()
        self._container = av.open(self.path)
        if not self._container.streams.video:
            raise self._bad("no video stream")
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type, self._stream.codec_context.thread_count = "NONE", 1
        self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._reformat = VideoReformatter()

    def _refuse_cut(self, packets: list[Any]) -> None:
        """Raise if the file holds nothing, or much less than its header says."""
        stream, frames = self._stream, len(packets)
        if not frames:
            raise self._bad("no frames")
        if stream.frames and frames < WHOLE * stream.frames:
            raise self._bad(f"cut off, it holds {frames} of the {stream.frames} frames it claims")
        # Matroska and WebM count no frames
        claim = next((v for k, v in stream.metadata.items() if k.startswith("DURATION")), "")
        if re.fullmatch(r"\d+:\d+:\d+(\.\d+)?", claim):
            hours, minutes, seconds = map(float, claim.split(":"))
            end = max((p.pts + (p.duration or 0) for p in packets if p.pts is not None), default=0)
            claimed, found = 3600 * hours + 60 * minutes + seconds, end * float(stream.time_base)
            if found < WHOLE * claimed:
                raise self._bad(f"cut off, it holds {found:.1f} of the {claimed:.1f} seconds it claims")

    def __len__(self) -> int:
        """See `Reader`."""
        return self._length

    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """See `Reader`."""
        order = sorted(set(indices))
        try:
            found = self._from_start(order) if self._counted else self._by_time(order)
            pixels = {i: self._pixels(frame, size) for i, frame in found}
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error) from error
        return torch.from_numpy(np.stack([pixels[i] for i in indices]))

    def _by_time(self, order: list[int]) -> Iterator[tuple[int, Any]]:
        """Frames at ascending indices, decoding from the last key frame before each."""
        times, keys = self._times, self._keys
        at = None  # time of the last decoded frame
        for i in order:
            key = keys[max(bisect_right(keys, times[i]) - 1, 0)]
            if at is None or key > at:
                self._container.seek(key, stream=self._stream)
                self._frames = self._container.decode(self._stream)
            frame = self._until(times[i])
            if frame is None and at is None:  # a container that seeks too far
                self._open()
                frame = self._until(times[i])
            if frame is None:
                raise self._bad(f"frame {i} of {len(self)} is missing")
            at = times[i]
            yield i, self._sound(frame, i)

    def _until(self, time: int) -> Any:
        """The next decoded frame of that time, or None if it does not come."""
        for frame in self._frames:
            if frame.pts is not None and frame.pts >= time:
                return frame if frame.pts == time else None
        return None

    def _from_start(self, order: list[int]) -> Iterator[tuple[int, Any]]:
        """Frames at ascending indices, decoding from the start."""
        self._open()
        wanted = set(order)
        for i, frame in enumerate(self._frames):
            if i in wanted:
                yield i, self._sound(frame, i)
            if i == order[-1]:
                return
        raise self._bad(f"frame {order[-1]} of {len(self)} is missing")

    def _sound(self, frame: Any, i: int) -> Any:
        if frame.is_corrupt:
            raise self._bad(f"frame {i} of {len(self)} is damaged")
        return frame

    def _pixels(self, frame: Any, size: tuple[int, int] | None) -> np.ndarray:
        """Upright RGB of a frame, (H, W, C) uint8."""
        turns = round(frame.rotation / 90) % 4
        height, width = size or (None, None)
        if turns % 2:
            height, width = width, height
        shape = (width or self._stream.width, height or self._stream.height)
        rgb = self._reformat.reformat(frame, *shape, "rgb24", interpolation="BILINEAR", threads=1)
        return np.rot90(rgb.to_ndarray(), turns)

    def check(self) -> None:
        """See `Reader`."""
        self._open()
        count = 0
        try:
            for i, frame in enumerate(self._frames):
                self._sound(frame, i)
                count += 1
        except (av.FFmpegError, OSError) as error:
            raise self._bad(error) from error
        if count < len(self):
            raise self._bad(f"frame {count} of {len(self)} is missing")


@cache
def _count(path: str, mtime: int, size: int) -> int:
    """Frames of a file by decoding it; kept, because a worker opens the same file every epoch.

    Args:
        path: the file.
        mtime: of the file, so that a changed file is counted again.
        size: of the file, likewise.
    """
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


class FrameFolder(Reader):
    """A reader of a folder of images, one per frame, in the order of the numbers in their names.

    Images named `flow*` (optical flow beside RGB) are left out.
    """

    def __init__(self, path: str, frames: int | None = None) -> None:
        self.path = path
        try:
            found = [entry for entry in Path(path).iterdir() if entry.suffix.lower() in IMAGES]
        except OSError as error:
            raise BadVideo(f"{path}: cannot be read: {error.strerror}") from error
        images = sorted((f for f in found if not f.name.startswith("flow")), key=lambda f: _numbers(f.name))
        if len(images) < (frames or 1):
            raise BadVideo(f"{path}: holds {len(images)} images, expected {frames or 'some'}")
        self._images = images[:frames]

    def __len__(self) -> int:
        """See `Reader`."""
        return len(self._images)

    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """See `Reader`."""
        pixels = {i: self._pixels(self._images[i], size) for i in set(indices)}
        try:
            return torch.from_numpy(np.stack([pixels[i] for i in indices]))
        except ValueError as error:
            raise BadVideo(f"{self.path}: images of different sizes") from error

    def _pixels(self, path: Path, size: tuple[int, int] | None) -> np.ndarray:
        """RGB of an image, (H, W, C) uint8."""
        try:
            with Image.open(path) as image:
                rgb = image.convert("RGB")
        except (OSError, SyntaxError) as error:  # SyntaxError: what Pillow raises for a broken PNG
            raise BadVideo(f"{path}: cannot be decoded: {error}") from error
        return np.asarray(rgb if size is None else rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR))

    def check(self) -> None:
        """See `Reader`."""
        for image in self._images:
            self._pixels(image, None)


def _numbers(name: str) -> list[tuple[bool, int, str]]:
    """A sort key that puts `img_2` before `img_10`."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
