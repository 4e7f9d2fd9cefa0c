"""Clips and clocks for benches: random frames in memory behind the real data module, and seconds of steps."""

import time
from functools import cached_property
from typing import Any

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
    """Seconds of every step, the device's work done."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        """Start."""
        synchronise()
        self.start = time.perf_counter()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop."""
        synchronise()
        self.seconds.append(time.perf_counter() - self.start)


def synchronise() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
