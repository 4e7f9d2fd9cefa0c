"""A whole split decoded into host memory once, and the one-off check of every file."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm import tqdm

from vdc.data.index import Video
from vdc.data.reader import BadVideo
from vdc.system.memory import free_memory

Cache = Literal["auto", "ram", "none"]
Needed = Callable[[int], Iterable[int]]  # from the length of a video to the frames that may be asked for
SHARE = 0.25  # of the free memory that `auto` takes at most
SAMPLE = 32  # videos that the size is estimated from
T = TypeVar("T")
R = TypeVar("R")


class Store(NamedTuple):
    """Decoded frames of all videos of a split."""

    frames: Tensor  # (S, H, W, C) uint8
    lengths: list[int]  # of every video
    offsets: list[int]  # of every video in `table`
    table: Tensor  # (sum of lengths,) int64: where in `frames` each frame of each video is

    def positions(self, row: int, indices: Sequence[int]) -> Tensor:
        """Where in `frames` the frames `indices` of video `row` are, (n,) int64."""
        return self.table[torch.tensor(indices) + self.offsets[row]]


def load(
    videos: Sequence[Video],
    size: tuple[int, int],
    needed: Needed,
    cache: Cache,
    name: str,
    local: tuple[int, int],
) -> Store | None:
    """Decode a split into memory, if it fits.

    Args:
        videos: the split.
        size: height and width that frames are resized to.
        needed: which frames to keep of a video of some length.
        cache: `auto` takes at most a quarter of the free memory, `ram` at most all of it, `none` nothing.
        name: of the split, for the progress bar.
        local: which process of this machine this is, and how many share its memory and cores.

    Returns:
        The store, or `None` where `cache` says so.

    Raises:
        ValueError: `ram`, and the memory does not suffice.
        BadVideo: a video cannot be decoded.
    """
    if cache == "none" or not videos:
        return None
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
    lengths = list(_parallel(_length, videos, f"{name}: lengths", local))
    kept = [sorted(set(needed(length))) for length in lengths]
    if not fits(sum(map(len, kept))):
        return None
    return _decode(videos, size, lengths, kept, name, local)


def _decode(
    videos: Sequence[Video],
    size: tuple[int, int],
    lengths: list[int],
    kept: list[list[int]],
    name: str,
    local: tuple[int, int],
) -> Store:
    """Decode the frames `kept` of every video, in parallel, straight to their places."""
    with torch.inference_mode(
        False
    ):  # the trainer tests in that mode, and threads could not write to its tensors
        frames = torch.empty((sum(map(len, kept)), *size, 3), dtype=torch.uint8)
    table = torch.full((sum(lengths),), -1)
    offsets, first, offset = [], [0], 0
    for length, indices in zip(lengths, kept, strict=True):
        table[torch.tensor(indices) + offset] = torch.arange(len(indices)) + first[-1]
        offsets.append(offset)
        offset += length
        first.append(first[-1] + len(indices))

    def decode(row: int) -> None:
        reader = videos[row].open()
        frames[first[row] : first[row + 1]] = reader.get(kept[row], size)

    for _ in _parallel(decode, range(len(videos)), f"{name}: decoding", local):
        pass
    return Store(frames, lengths, offsets, table)


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

    return {
        i: reason for i, reason in enumerate(_parallel(check, videos, "checking videos", local)) if reason
    }


def _length(video: Video) -> int:
    return len(video.open())


def _parallel(work: Callable[[T], R], items: Sequence[T], name: str, local: tuple[int, int]) -> Iterator[R]:
    """`work` over `items` on this process's share of the cores, in order; a progress bar if it takes long."""
    rank, processes = local
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(max(cores // processes, 1))
    try:
        yield from tqdm(pool.map(work, items), name, len(items), disable=rank > 0, delay=1, unit="video")
    finally:
        pool.shutdown(cancel_futures=True)
