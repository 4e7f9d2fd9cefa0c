"""Where decoded frames of a split are, and the decoding of all of its videos side by side."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

from vdc.data.index import Video
from vdc.system.progress import track

Needed = Callable[[int], Iterable[int]]  # from the length of a video to the frames that may be asked for
T = TypeVar("T")
R = TypeVar("R")


class Store:
    """Decoded frames of all videos of a split.

    Args:
        frames: (S, H, W, C) uint8.
        lengths: of every video.
        offsets: of every video in `table`.
        first: of every video, its first place in `frames`, and S.
        table: (sum of lengths,) int64: where in `frames` each frame of each video is, -1 for nowhere.
    """

    def __init__(
        self, frames: Tensor, lengths: list[int], offsets: list[int], first: list[int], table: Tensor
    ) -> None:
        self.frames, self.lengths, self.offsets, self.first, self.table = (
            frames,
            lengths,
            offsets,
            first,
            table,
        )

    def positions(self, row: int, indices: Sequence[int]) -> Tensor:
        """Where in `frames` the frames `indices` of video `row` are, (n,) int64."""
        return self.table[torch.tensor(indices) + self.offsets[row]]


def placed(
    lengths: list[int], kept: Sequence[Sequence[int]]
) -> tuple[list[int], list[int], list[int], Tensor]:
    """The places of the frames `kept` of every video, one video after the other: the last arguments of `Store`."""
    table = torch.full((sum(lengths),), -1)
    offsets, first, offset = [], [0], 0
    for length, indices in zip(lengths, kept, strict=True):
        table[torch.tensor(indices, dtype=torch.int64) + offset] = torch.arange(len(indices)) + first[-1]
        offsets.append(offset)
        offset += length
        first.append(first[-1] + len(indices))
    return lengths, offsets, first, table


def decode_all(
    videos: Sequence[Video],
    size: tuple[int, int],
    kept: Sequence[list[int]],
    put: Callable[[int, Tensor], None],
    name: str,
    local: tuple[int, int],
) -> None:
    """Decode the frames `kept` of every video, in parallel.

    Args:
        videos: of a split.
        size: height and width that frames are resized to.
        kept: of every video.
        put: takes the frames (n, H, W, C) uint8 of a row, in any order of rows.
        name: of the split.
        local: which process of this machine this is, and how many share its cores.
    """

    def decode(row: int) -> None:
        put(row, videos[row].open().get(kept[row], size))

    for _ in parallel(decode, range(len(videos)), f"{name}: decoding", local):
        pass


def parallel(work: Callable[[T], R], items: Sequence[T], name: str, local: tuple[int, int]) -> Iterator[R]:
    """`work` over `items` on this process's share of the cores, in order; a progress bar if it takes long."""
    rank, processes = local
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(max(cores // processes, 1))
    try:
        yield from track(pool.map(work, items), name, len(items), unit="videos", show=rank == 0)
    finally:
        pool.shutdown(cancel_futures=True)
