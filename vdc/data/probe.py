"""What one video is: length, rate, size, whether it can be read, and what it shows, so that copies are found."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from vdc.data.index import Video, bytes_of, identity
from vdc.data.reader import BadVideo, open_video
from vdc.system.files import sha256
from vdc.system.progress import track

THUMB = 16  # side of the frames that are compared
LOOKS = 4  # of them


@dataclass(frozen=True)
class Probe:
    """A video as it was found.

    Args:
        path: absolute.
        frames: how many; 0 where it cannot be opened.
        rate: frames per second; `None` for folders of images.
        height: in pixels.
        width: in pixels.
        bytes: on the disk.
        problem: why it cannot be read; empty where it can.
        shows: a hash of a few small frames, the same in another container; empty where it cannot be read.
        file: what file it is, whatever its spelling.
    """

    path: str
    frames: int = 0
    rate: float | None = None
    height: int = 0
    width: int = 0
    bytes: int = 0
    problem: str = ""
    shows: str = ""
    file: tuple[int, int] | str = ""


def probe(video: Video, whole: bool = True) -> Probe:
    """Look at one video.

    Args:
        video: file, or folder of images.
        whole: decode all of it; otherwise a few frames.
    """
    file = identity(video.path)
    if not os.path.exists(video.path):
        return Probe(video.path, problem="missing", file=file)
    size = bytes_of(video.path)
    try:
        reader = open_video(video.path, video.frames)
        count = len(reader)
        if whole:
            reader.check()
        height, width = reader.get([0]).shape[1:3]
        looks = sorted({round(i * (count - 1) / (LOOKS - 1)) for i in range(LOOKS)})
        small = reader.get(looks, (THUMB, THUMB)).numpy().tobytes()
    except BadVideo as error:
        reason = str(error).removeprefix(f"{video.path}: ")
        return Probe(video.path, bytes=size, problem=reason, file=file)
    rate = getattr(reader, "rate", None)  # folders of images have none
    shows = hashlib.sha256(b"%d %d %d " % (count, height, width) + small).hexdigest()
    return Probe(
        video.path, count, None if rate is None else float(rate), height, width, size, "", shows, file
    )


def probe_all(videos: Sequence[Video], whole: bool = True) -> list[Probe]:
    """Look at videos side by side, in order, with a bar if it takes long."""
    pool = ThreadPoolExecutor(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    try:
        found = pool.map(lambda video: probe(video, whole), videos)
        return list(track(found, "looking at videos", len(videos), unit="videos"))
    finally:
        pool.shutdown(cancel_futures=True)


def copies(probes: Sequence[Probe]) -> list[tuple[str, list[int]]]:
    """Which of these are the same: one file, files of the same bytes, or other containers of the same frames.

    Args:
        probes: of videos; those that cannot be read are compared by bytes alone.

    Returns:
        How they are the same (`file`, `bytes`, `frames`) and their positions, of every group of two or more; each
        video is in one group.
    """
    groups: dict[str, list[int]] = {}
    sizes: dict[int, list[int]] = {}
    for i, one in enumerate(probes):
        sizes.setdefault(one.bytes, []).append(i)
    alike = {i for held in sizes.values() if len(held) > 1 for i in held}
    for i, one in enumerate(probes):
        key = one.shows
        if not key and i in alike and os.path.isfile(one.path):
            key = sha256(one.path)
        groups.setdefault(key or f"alone {i}", []).append(i)
    return [(_how([probes[i] for i in held]), held) for held in groups.values() if len(held) > 1]


def _how(probes: list[Probe]) -> str:
    """How videos that show the same are the same."""
    if len({one.file for one in probes}) == 1:
        return "file"
    if len({one.bytes for one in probes}) == 1 and all(os.path.isfile(one.path) for one in probes):
        return "bytes" if len({sha256(one.path) for one in probes}) == 1 else "frames"
    return "frames"
