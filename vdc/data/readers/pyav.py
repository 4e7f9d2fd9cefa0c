"""Frames of one video file by PyAV, by index: those that a player shows."""

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain, dropwhile, pairwise
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from torch import Tensor

from vdc.data.readers.base import BadVideo, Reader, naming
from vdc.data.readers.container import decoded, open_container, orientation, upright, videos
from vdc.data.readers.timeline import Timeline, timeline
from vdc.data.readers.whole import lacking

STEPS_BACK = 3  # key frames that a seek is tried from before decoding from the start
FASTEST = 1000  # frames per second of the fastest cameras that people have
LENGTHS: dict[tuple[str, int, int], int] = {}  # (path, mtime, size) -> frames, of files that must be counted


class _LostError(Exception):
    """Seeking led to other frames than the packets promised."""


class VideoFile(Reader):
    """A reader of a video file. One thread: workers run beside one another.

    Where a container has an exact index, frames are found by their times, and every seek is verified: it must
    land on a key frame, and from there each frame must have the time that is due. Elsewhere, and wherever a
    seek leads astray, frames are counted from the start: what sequential decoding gives is the truth.

    Args:
        path: of the file.

    Raises:
        BadVideo: it is no video, cut off, or, where frames must be counted, damaged.
    """

    _container: Any = None
    _spoilt = False  # decoders remember damage even across seeks: the file is opened anew

    def __init__(self, path: str) -> None:
        self.path = path
        with naming(path):
            self._choose()
            self._size = self.stream.height, self.stream.width  # a later change of size is no other video
            self._length = len(self.timeline.times) if self.timeline.sought else self._counted()

    def _bad(self, reason: str) -> BadVideo:
        return BadVideo(f"{self.path}: cannot be decoded: {reason}")

    def __del__(self) -> None:
        """Close the file now: libav's objects form cycles, and would wait for the garbage collector."""
        if self._container is not None:
            self._container.close()

    # -- what the file holds -----------------------------------------------------------------------

    def _open(self, choice: int) -> bool:
        """Open the file anew, at its start; whether it has so many videos to choose from."""
        if self._container is not None:
            self._container.close()
        self._container = open_container(self.path)
        found = videos(self._container)
        if choice < len(found):
            self._choice, self.stream, self._reformat = choice, found[choice], VideoReformatter()
        elif not choice:
            what = "no decoder for its video" if self._container.streams.video else "no video stream"
            raise self._bad(what)
        return choice < len(found)

    def _choose(self) -> None:
        """Take the best video; another one where that is a still picture."""
        choice = 0
        while self._open(choice):
            self.timeline: Timeline = timeline(self._container, self.stream)
            if self.timeline.packets > 1:
                break
            choice += 1
        else:  # nothing but stills
            self._open(0)
            self.timeline = timeline(self._container, self.stream)
        if not self.timeline.packets:
            raise self._bad("no frames")
        found = self.timeline.packets
        if lacking(self.path, self._container, self.stream, found, self.timeline.partial):
            raise self._bad(f"cut off or damaged, it holds {found} packets of video")

    def _counted(self) -> int:
        """Frames by decoding the file; kept, because a worker opens the same file every epoch."""
        stat = os.stat(self.path)
        known = (self.path, stat.st_mtime_ns, stat.st_size)
        if known not in LENGTHS:
            due, count = set(self.timeline.times), 0
            for frame in self.frames():
                due.discard(frame.pts)
                count += 1
            if due or not count:
                raise self._bad(f"{len(due)} frames are missing" if count else "no frames")
            LENGTHS[known] = count
        return LENGTHS[known]

    def __len__(self) -> int:
        """See `Reader`."""
        return self._length

    @property
    def rate(self) -> Fraction:
        """Frames per second; 25 where the file does not say, or nonsense."""
        rate = Fraction(self.stream.average_rate or self.stream.guessed_rate or 25)
        return rate if 0 < rate <= FASTEST else Fraction(25)

    # -- finding frames ----------------------------------------------------------------------------

    def frames(self) -> Iterator[Any]:
        """Every frame in order, as decoded.

        Raises:
            BadVideo: one is damaged or missing.
        """
        self._open(self._choice)
        self._spoilt = True
        due = self.timeline.times if self.timeline.sought else None
        count = 0
        with naming(self.path):
            for frame in decoded(self.stream, self._container.demux(self.stream)):
                if frame.is_corrupt:
                    raise self._bad(f"frame {count} is damaged")
                if due is not None and due[count : count + 1] != [frame.pts]:
                    break
                yield frame
                count += 1
        if due is not None and count < len(due):
            raise self._bad(f"frame {count} of {len(due)} is missing")

    def _walk(self, order: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames at ascending indices."""
        done = 0
        if self.timeline.sought:
            try:
                for found in self._by_time(order):
                    yield found
                    done += 1
            except (_LostError, av.FFmpegError):
                pass
        if done < len(order):
            yield from self._from_start(order[done:])

    def _from_start(self, order: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames at ascending indices, decoding from the start."""
        wanted = set(order)
        for i, frame in enumerate(self.frames()):
            if i in wanted:
                yield i, frame
            if i == order[-1]:
                return
        raise self._bad(f"frame {order[-1]} of {len(self)} is missing")

    def _by_time(self, order: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames at ascending indices, decoding from the last key frame before each.

        Raises:
            _LostError: other frames came.
            av.FFmpegError: one could not be decoded.
        """
        if self._spoilt:
            self._open(self._choice)
        self._spoilt = True
        times, keys = self.timeline.times, self.timeline.keys
        position = -1  # index of the frame that comes next
        frames: Iterator[Any] = iter(())
        for i in order:
            key = bisect_right(keys, times[i]) - 1
            if bisect_left(times, keys[key]) >= position:
                landed, frames = self._seek(key)
                position = bisect_left(times, landed)
            while position <= i:
                frame = next(frames, None)
                if frame is None or frame.is_corrupt or frame.pts != times[position]:
                    raise _LostError
                position += 1
            yield i, frame
        self._spoilt = False

    def _seek(self, key: int) -> tuple[int, Iterator[Any]]:
        """Time of the key frame where a seek to some key landed, an earlier one if need be; frames from there."""
        keys = self.timeline.keys
        for wanted in reversed(keys[max(key - STEPS_BACK, 0) : key + 1]):
            self._container.seek(wanted, stream=self.stream)
            packets = self._container.demux(self.stream)
            packet = next(packets)
            if (
                packet.pts is not None
                and packet.pts <= keys[key]
                and self.timeline.places.get(packet.pts) == (packet.pos, packet.size)
            ):
                return packet.pts, self._from_key(chain([packet], packets), packet.pts)
        raise _LostError

    def _from_key(self, packets: Iterator[Any], time: int) -> Iterator[Any]:
        """Frames from a key frame on, without those of an open group that come before it."""
        frames = dropwhile(lambda frame: frame.pts is None or frame.pts < time, decoded(self.stream, packets))
        for frame in frames:
            if frame.pts == time and not frame.key_frame:  # a mark in the index that is wrong
                raise _LostError
            yield frame

    # -- the contract ------------------------------------------------------------------------------

    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """See `Reader`."""
        with naming(self.path):
            pixels = {i: self._pixels(frame, size) for i, frame in self._walk(sorted(set(indices)))}
            return torch.from_numpy(np.stack([pixels[i] for i in indices]))

    def _pixels(self, frame: Any, size: tuple[int, int] | None) -> np.ndarray:
        """Upright RGB of a frame, (H, W, C) uint8."""
        swap, rows, columns = orientation(frame)
        height, width = size or self._size
        if swap and size:
            height, width = width, height
        rgb = self._reformat.reformat(frame, width, height, "rgb24", interpolation="BILINEAR", threads=1)
        return upright(rgb.to_ndarray(), swap, rows, columns)

    def check(self) -> None:
        """See `Reader`; frames that must be counted were decoded when the file was opened."""
        if not self.timeline.sought:
            return
        times = self.timeline.times
        groups = [*sorted({bisect_left(times, key) for key in self.timeline.keys}), len(times)]
        with naming(self.path):
            try:
                for start, end in pairwise(groups):
                    for _ in self._by_time(range(start, end)):
                        pass
            except (_LostError, av.FFmpegError):
                for _ in self.frames():
                    pass
