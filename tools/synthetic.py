"""Clips and clocks for benches: random frames in memory behind the real data module, seconds, and memory."""

import ctypes
import os
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from threading import Event, Thread
from typing import Any, Self

import torch
from lightning.pytorch import Callback

from vdc.data import RealData
from vdc.data.cache import Store
from vdc.data.index import Video
from vdc.data.splits import Split

SPLITS: tuple[Split, ...] = ("train", "test")


class SyntheticClips(RealData):
    """`videos` random clips of each of `count` classes, already decoded: everything but reading files is real.

    Args:
        count: classes K.
        videos: of each, in the training split and, one of each, in the test split.
        root: not looked at.
        options: see `RealData`.
    """

    def __init__(self, count: int = 101, videos: int = 16, root: str = ".", **options: Any) -> None:
        super().__init__(root, **options)
        self.count = count
        self.videos = videos

    @property
    def classes(self) -> list[str]:
        """Numbered."""
        return [f"class {k:03d}" for k in range(self.count)]

    @cached_property
    def splits(self) -> dict[Split, list[Video]]:
        """Videos that are nowhere."""
        many = [Video(f"{k}/{i}", k) for k in range(self.count) for i in range(self.videos)]
        return {"train": many, "val": [], "test": [Video(f"{k}/t", k) for k in range(self.count)]}

    def setup(self, stage: str) -> None:
        """Make the frames, once; videos are as long as a clip."""
        length = self.spec.frames
        for split in SPLITS:
            if self._stores.get(split) is None:
                n = len(self.splits[split])
                shape = (n * length, *self.load_size, 3)
                frames = torch.randint(256, shape, dtype=torch.uint8)
                offsets = [i * length for i in range(n)]
                store = Store(frames, [length] * n, offsets, torch.arange(n * length))
                self._stores[split] = store

    def fingerprint(self) -> dict[str, Any]:
        """Nothing to tell apart."""
        return {
            "train": {"videos": len(self.splits["train"])},
            "test": {},
            "decoder": "none",
            "load_size": [],
        }


class Clock(Callback):
    """Seconds of every step, and of the training, the device's work done.

    Args:
        now: seconds: of the wall by default; on a busy CPU, those of a process or thread.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.seconds: list[float] = []
        self.total = 0.0

    def on_train_start(self, *_: Any) -> None:
        """Start."""
        self.begun = self._read()

    def on_train_end(self, *_: Any) -> None:
        """Stop."""
        self.total += self._read() - self.begun

    def on_train_batch_start(self, *_: Any) -> None:
        """Start of a step."""
        self.start = self._read()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop of a step."""
        self.seconds.append(self._read() - self.start)

    def _read(self) -> float:
        synchronise()
        return self.now()


class Peak(Thread):
    """The most memory in use while it is open, beyond what was in use before, in bytes.

    On a GPU what is allocated there; else the resident set of this process, looked at every millisecond: not
    `ru_maxrss`, which never falls, so that it holds what imports took and what the parent process had.
    """

    def __init__(self, device: str) -> None:
        super().__init__(daemon=True)
        self.cuda = device == "cuda"
        self.over = Event()

    def __enter__(self) -> Self:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free already is given back first
            self.before = self.most = resident()
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.cuda:
            self.most = torch.cuda.max_memory_allocated()
        else:
            self.over.set()
            self.join()

    @property
    def rise(self) -> int:
        """Bytes."""
        return self.most - self.before

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.001):
            self.most = max(self.most, resident())


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
