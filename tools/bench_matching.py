"""DM's step against the forwards and the backward it cannot do without, and its peak memory over classes.

    python tools/bench_matching.py [--device cuda] [--classes 10] [--per_class 32] [--frames 8] [--size 48]

Both sides run in turn in one process, on clips that are in memory; the table gives medians and their ratio.
Peak memory is measured in a process of its own for every number of classes, one item each.
"""

import argparse
import ctypes
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch import Tensor

from vdc.data import RealData
from vdc.methods import DM
from vdc.methods.base.options import Network
from vdc.nets import build
from vdc.ops.augment import centre_boxes
from vdc.ops.match import mean_distance
from vdc.spec import ClipSpec, RawBatch

NET: dict[str, Any] = {"net": Network("minic3d", {"norm": "in"})}
STEPS, ROUNDS = 4, 3
PAGE = os.sysconf("SC_PAGE_SIZE")


class InMemory(RealData):
    """The same random clips for every class, already decoded."""

    def __init__(self, num_classes: int, per_class: int, spec: ClipSpec) -> None:
        super().__init__(".", spec=spec, per_class=per_class)
        self.known = [str(k) for k in range(num_classes)]
        shape = (per_class, 1, spec.stored, *self.load_size, 3)
        self.frames = torch.randint(256, shape, dtype=torch.uint8)
        if torch.cuda.is_available():
            self.frames = self.frames.pin_memory()

    @property
    def classes(self) -> list[str]:
        """Names."""
        return self.known

    @property
    def labels(self) -> Tensor:
        """Class of every video."""
        return torch.arange(len(self.known)).repeat_interleave(self.per_class)

    def setup(self, stage: str) -> None:
        """Nothing to read."""

    def val_dataloader(self) -> list[Any]:
        """None."""
        return []

    def by_key(
        self,
        keys: Any,
        seed: int,
        batch_size: int | None = None,
        stored: bool = False,
        frames: int | None = None,
    ) -> Any:
        """One class per batch."""
        return self._batches(keys)

    def _batches(self, keys: Any) -> Iterator[RawBatch]:
        rows = torch.arange(self.per_class)
        boxes = centre_boxes(self.per_class, *self.load_size, 7 / 8)[:, None]
        for _ in range(len(keys) // self.per_class):
            yield RawBatch(self.frames, rows, rows, boxes)


class Clock(Callback):
    """Seconds of every step."""

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


def ours(data: InMemory, spec: ClipSpec, device: str, chunk: int, steps: int = STEPS) -> list[float]:
    """Seconds of DM's steps; the first is left out."""
    sgd = partial(torch.optim.SGD, lr=1.0, momentum=0.5)
    model = DM(len(data.known), spec, init="noise", iterations=steps, chunk=chunk, optimizer=sgd, **NET)
    clock = Clock()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kind = "gpu" if device == "cuda" else "cpu"
    model.on_fit_end = lambda: None  # type: ignore[method-assign]
    Trainer(**quiet, accelerator=kind, devices=1, enable_checkpointing=False, callbacks=[clock]).fit(
        model, datamodule=data
    )
    return clock.seconds[1:]


def bare(data: InMemory, spec: ClipSpec, device: str, chunk: int) -> list[float]:
    """Seconds of the same forwards and backward of ready clips in one network."""
    count, n = len(data.known), data.per_class
    net = build("minic3d", count, spec, norm="in").eval().requires_grad_(False).to(device)
    shape = (3, spec.frames, spec.size, spec.size)
    group = max(chunk // n, 1)
    real = torch.randn(min(group, count) * n, *shape, device=device)
    items = torch.randn(count, *shape, device=device, requires_grad=True)
    labels, own = torch.arange(count, device=device).repeat_interleave(n), torch.arange(count, device=device)
    seconds = []
    for _ in range(STEPS):
        synchronise()
        start = time.perf_counter()
        with torch.no_grad():
            parts = [net.embed(real[: min(group, count - k) * n]) for k in range(0, count, group)]
        maps = torch.cat([net.embed(part) for part in items.split(chunk)])
        mean_distance(torch.cat(parts), labels, maps, own, count).backward()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


class Resident(Thread):
    """The most host memory that is resident while a block runs, looked at every millisecond.

    Not `ru_maxrss`: that never falls, so it holds what imports took, and what the parent process had.
    """

    def __enter__(self) -> "Resident":
        ctypes.CDLL("libc.so.6").malloc_trim(0)  # what is free already is given back first
        self.start_bytes = self.most = self.now()
        self.over = Event()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    @staticmethod
    def now() -> int:
        """Bytes."""
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE

    def run(self) -> None:
        """Look until it is over."""
        while not self.over.wait(0.001):
            self.most = max(self.most, self.now())


def peak(num_classes: int, args: argparse.Namespace) -> float:
    """MiB at most while two steps run, above what was there before."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    data = InMemory(num_classes, args.per_class, spec)
    ours(
        InMemory(1, args.per_class, spec), spec, args.device, args.chunk, steps=2
    )  # what a first run loads stays
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        ours(data, spec, args.device, args.chunk, steps=2)
        return torch.cuda.max_memory_allocated() / 2**20
    with Resident() as resident:
        ours(data, spec, args.device, args.chunk, steps=2)
    return (resident.most - resident.start_bytes) / 2**20


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, value in (("classes", 10), ("per_class", 32), ("frames", 8), ("size", 48), ("chunk", 64)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--peak_of", type=int, help="measure the memory of so many classes, and nothing else")
    args = parser.parse_args()
    if args.peak_of:
        print(f"{peak(args.peak_of, args):.0f}")
        return
    spec = ClipSpec(frames=args.frames, size=args.size)
    data = InMemory(args.classes, args.per_class, spec)
    mine, least = list[float](), list[float]()
    for _ in range(ROUNDS):
        mine += ours(data, spec, args.device, args.chunk)
        least += bare(data, spec, args.device, args.chunk)
    a, b = statistics.median(mine), statistics.median(least)
    print(f"DM step {a:.3f} s, bare forwards and backward {b:.3f} s: ratio {a / b:.2f} (aim 1.10)")
    peaks = dict[int, float]()
    for count in (args.classes, 2 * args.classes, 4 * args.classes, 8 * args.classes):
        command = [sys.executable, __file__, *sys.argv[1:], "--peak_of", str(count)]
        peaks[count] = float(
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1]
        )
        print(f"{count} classes: peak {peaks[count]:.0f} MiB")
    growth = (peaks[8 * args.classes] - peaks[args.classes]) / (7 * args.classes)
    item = 4 * 3 * spec.frames * spec.size**2 / 2**20
    print(
        f"a class adds {growth:.2f} MiB: {growth / item:.1f} x its item (pixels, gradient, momentum, rendered, seen); "
        f"its {args.per_class} real clips would be {args.per_class * item:.2f} MiB, and twice that as read and seen"
    )


if __name__ == "__main__":
    main()
