"""A whole split decoded once, into host memory or onto the disk, and the one-off check of every file."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from vdc.data.disk import open_or_make
from vdc.data.index import Video
from vdc.data.reader import BadVideo
from vdc.data.store import Needed, Store, decode_all, parallel, placed
from vdc.system.memory import free_memory

Cache = Literal["auto", "ram", "disk", "none"]
SHARE = 0.25  # of the free memory that `auto` takes at most
SAMPLE = 32  # videos that the size is estimated from


def load(
    videos: Sequence[Video],
    size: tuple[int, int],
    needed: Needed,
    cache: Cache,
    name: str,
    local: tuple[int, int],
    limit: int = 0,
) -> Store | None:
    """Decode a split into memory, if it fits, or onto the disk, once for all commands.

    Args:
        videos: the split.
        size: height and width that frames are resized to.
        needed: which frames to keep of a video of some length.
        cache: `auto` takes at most a quarter of the free memory, `ram` at most all of it, `none` nothing; `disk`
            keeps a file, see `vdc.data.disk`.
        name: of the split, for the progress bar.
        local: which process of this machine this is, and how many share its memory and cores.
        limit: bytes of all that `disk` keeps.

    Returns:
        The store, or `None` where `cache` says so.

    Raises:
        ValueError: `ram` or `disk`, and that does not suffice.
        BadVideo: a video cannot be decoded.
    """
    if cache == "none" or not videos:
        return None

    def lengths_of() -> list[int]:
        return list(parallel(_length, videos, f"{name}: lengths", local))

    if cache == "disk":
        return open_or_make(videos, size, needed, limit, name, local, lengths_of)
    free = free_memory(sharing=local[1])
    budget = free if cache == "ram" else int(SHARE * free)

    def fits(frames: float) -> bool:
        total = int(frames) * size[0] * size[1] * 3
        if cache == "ram" and total > budget:
            raise ValueError(
                f"--data.cache ram: the {len(videos)} {name} videos take about {total / 1e9:.1f} GB at "
                f"{size[0]}x{size[1]}, and {free / 1e9:.1f} GB are free: set --data.cache none, or lower "
                "--data.load_size"
            )
        return total <= budget

    sample = videos[:: max(len(videos) // SAMPLE, 1)]
    if not fits(sum(len(set(needed(n))) for n in map(_length, sample)) * len(videos) / len(sample)):
        return None
    lengths = lengths_of()
    kept = [sorted(set(needed(length))) for length in lengths]
    if not fits(sum(map(len, kept))):
        return None
    return _in_memory(videos, size, lengths, kept, name, local)


def _in_memory(
    videos: Sequence[Video],
    size: tuple[int, int],
    lengths: list[int],
    kept: list[list[int]],
    name: str,
    local: tuple[int, int],
) -> Store:
    """Decode the frames `kept` of every video straight to their places."""
    with torch.inference_mode(
        False
    ):  # the trainer tests in that mode, and threads could not write to its tensors
        frames = torch.empty((sum(map(len, kept)), *size, 3), dtype=torch.uint8)
    store = Store(frames, *placed(lengths, kept))

    def put(row: int, found: Tensor) -> None:
        frames[store.first[row] : store.first[row + 1]] = found

    decode_all(videos, size, kept, put, name, local)
    return store


def undecodable(videos: Sequence[Video], local: tuple[int, int]) -> dict[int, str]:
    """Decode every frame of every video once.

    Args:
        videos: to check.
        local: which process of this machine this is, and how many share its cores.

    Returns:
        Position of every video that cannot be decoded -> why.
    """

    def check(video: Video) -> str:
        try:
            video.open().check()
        except BadVideo as error:
            return str(error)
        return ""

    return {i: reason for i, reason in enumerate(parallel(check, videos, "checking videos", local)) if reason}


def _length(video: Video) -> int:
    return len(video.open())
