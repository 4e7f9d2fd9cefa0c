"""Opening a video file, choosing its video, and showing its frames as players do."""

import struct
from collections.abc import Iterable, Iterator
from typing import Any

import av
import numpy as np

COVERS = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails
MATRIX = "DISPLAYMATRIX"


def open_container(path: str) -> Any:
    """An open file; metadata in other encodings than UTF-8 is no reason to refuse it."""
    return av.open(path, metadata_errors="replace")


def videos(container: Any) -> list[Any]:
    """Video streams that can be decoded and are no cover picture, the best first, one thread each."""
    found = [s for s in container.streams.video if s.codec_context is not None]
    found = [s for s in found if not s.disposition & COVERS] or found
    best = container.streams.best("video")
    for stream in found:
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1  # workers run beside one another
    return sorted(found, key=lambda stream: best is None or stream.index != best.index)


def decoded(stream: Any, packets: Iterable[Any]) -> Iterator[Any]:
    """Frames of packets in the order that players show them.

    What comes before the first key frame and cannot be decoded is not there: the file was cut in the middle of
    a group of pictures. An empty packet repeats a picture, which is for players to do.

    Args:
        stream: that they are of.
        packets: from anywhere in the file to its end.

    Raises:
        av.FFmpegError: a later packet cannot be decoded.
    """
    started = False
    for packet in packets:
        started = started or packet.is_keyframe
        if not packet.size:
            continue
        try:
            frames = packet.decode()
        except av.FFmpegError:
            if started:
                raise
            continue
        yield from frames
    yield from stream.decode(None)


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """What a display matrix asks for: swap height and width, then turn over up-down, then left-right."""
    data = next((bytes(side) for side in frame.side_data if side.type.name == MATRIX), b"")
    if len(data) != 36:
        return False, False, False
    # a pixel (x, y) is shown at (a x + c y, b x + d y)
    a, b, _, c, d = struct.unpack("=5i", data[:20])
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, b < 0, c < 0
    return False, d < 0, a < 0


def upright(pixels: np.ndarray, swap: bool, rows: bool, columns: bool) -> np.ndarray:
    """Pixels (H, W, C) as `orientation` says: each of the eight ways to hold or mirror a camera."""
    pixels = pixels.swapaxes(0, 1) if swap else pixels
    return pixels[:: -1 if rows else 1, :: -1 if columns else 1]
