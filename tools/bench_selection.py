"""Clip loading, prepared videos, a student's epoch and RDED's pass, each against what it cannot do without.

    python tools/bench_selection.py [--frames 8] [--size 48] [--videos 64]

Both sides of a ratio run in turn in one process, on files made here; the table gives medians. Run nothing else.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from decord import VideoReader
from lightning.pytorch import LightningDataModule, Trainer
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from vdc.condensed.format import save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels
from vdc.data import RealData
from vdc.data.prepare import prepare
from vdc.evaluate.condensed_data import CondensedData
from vdc.nets import build, channels_last
from vdc.ops.pixels import to_frames
from vdc.spec import MEAN, STD, ClipSpec
from vdc.system.mp4 import write_mp4
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol

ROUNDS = 5


def turns(*sides: Callable[[], object]) -> list[float]:
    """Median seconds of each side, run in turn after a warm-up."""
    seconds: list[list[float]] = [[] for _ in sides]
    for turn in range(ROUNDS + 1):
        for side, kept in zip(sides, seconds, strict=True):
            start = time.perf_counter()
            side()
            if turn:
                kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in seconds]


def say(what: str, ours: float, theirs: float, ratio: float, aim: str) -> None:
    """One line of the table."""
    print(f"{what:58} {1e3 * ours:10.1f} ms {1e3 * theirs:10.1f} ms   x {ratio:.2f}   {aim}", flush=True)


def raw_videos(root: Path, videos: int, seed: int = 0) -> None:
    """Smooth moving noise of 320x240, 100 frames, as cameras and UCF101 give it, in two class folders."""
    rng = np.random.default_rng(seed)
    for i in range(videos):
        small = torch.from_numpy(rng.random((1, 3, 30, 40), dtype=np.float32))
        field = (
            (F.interpolate(small, (480, 640), mode="bicubic").clamp(0, 1)[0] * 255).byte().permute(1, 2, 0)
        )
        frames = torch.stack([field[t : t + 240, 2 * t : 2 * t + 320] for t in range(100)])
        folder = root / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        write_mp4(folder / f"{i:03d}.mp4", frames, 25)
    lines = [f"class{i % 2}/{i:03d}.mp4 {i % 2}\n" for i in range(videos)]
    for name in ("train.txt", "test.txt"):
        (root / name).write_text("".join(lines))


def real(root: Path, spec: ClipSpec) -> RealData:
    """The videos, opened anew for every clip."""
    return RealData(str(root), "train.txt", "test.txt", spec=spec, cache="none", batch_size=16, candidates=5)


def loading(raw: Path, small: Path, spec: ClipSpec) -> None:
    """Rows 1 and 2: our loader against a bare decord loop on the same frames, and raw against prepared files."""
    data, first = real(small, spec), real(raw, spec)
    clips = data.shuffled().dataset
    side = data.load_size[0]
    wanted = [
        (v.path, clips._indices(100, [0], [torch.Generator().manual_seed(i)]))
        for i, v in enumerate(clips.videos)
    ]

    def bare() -> None:
        for path, indices in wanted:
            VideoReader(path, width=side, height=side, num_threads=1).get_batch(indices).asnumpy()

    ours, theirs, slow = turns(lambda: list(data.shuffled()), bare, lambda: list(first.shuffled()))
    many = len(wanted)
    say(
        "clip from a prepared file: vdc | bare decord loop",
        ours / many,
        theirs / many,
        theirs / ours,
        "speed, aim >= 0.9",
    )
    say("clip with vdc: prepared | raw 320x240", ours / many, slow / many, slow / ours, "speed, aim >= 3")


class Jpegs(Dataset[tuple[torch.Tensor, int]]):
    """Clips as folders of JPEG frames, read and augmented per item: how the reference evaluates."""

    def __init__(self, root: Path, frames: torch.Tensor, size: int) -> None:
        self.paths = []
        for i, clip in enumerate(frames):
            self.paths.append([root / f"{i}_{t}.jpg" for t in range(len(clip))])
            for path, frame in zip(self.paths[-1], clip, strict=True):
                Image.fromarray(frame.numpy()).save(path, quality=75)
        self.augment = v2.Compose([v2.RandomResizedCrop(size, antialias=True), v2.RandomHorizontalFlip(),
                                   v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])  # fmt: skip

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        frames = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in self.paths[i]]))
        return self.augment(frames.permute(0, 3, 1, 2)).transpose(0, 1), i % 10


def student(folder: Path, spec: ClipSpec, ipc: int = 5, epochs: int = 2) -> None:
    """Row 3: epochs of a student on the resident set against bare steps on ready tensors, and JPEG files."""
    memory = Pixels(10, ipc, spec)
    memory.initialise(torch.randn(10, ipc, 3, spec.frames, spec.size, spec.size))
    classes = [f"class{k}" for k in range(10)]
    save(
        folder / "set",
        memory,
        Labels(memory.labels),
        classes=classes,
        source={},
        method="bench",
        config={},
        seed=0,
    )
    protocol = Protocol(epochs=epochs, labels="hard")
    batch = protocol.base_batch * ipc

    def ours() -> float:
        data: LightningDataModule = CondensedData(str(folder / "set"), protocol)
        module = EvalModule("minic3d", 10, spec, protocol.with_labels("hard"))
        trainer = Trainer(max_epochs=epochs + 1, logger=False, enable_checkpointing=False, barebones=True,
                          limit_val_batches=0, use_distributed_sampler=False)  # fmt: skip
        stamps: list[float] = []
        module.on_train_epoch_start = lambda: stamps.append(time.perf_counter())  # type: ignore[method-assign]
        trainer.fit(module, datamodule=data)
        return (stamps[-1] - stamps[0]) / epochs

    def steps(clips_of: Callable[[], list[tuple[torch.Tensor, torch.Tensor]]]) -> float:
        net = build("minic3d", 10, spec)
        channels_last(net)
        optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
        start = 0.0
        for epoch in range(epochs + 1):
            start = time.perf_counter() if epoch == 1 else start
            for clips, labels in clips_of():
                optimizer.zero_grad(set_to_none=True)
                F.cross_entropy(net(clips), labels).backward()
                optimizer.step()
        return (time.perf_counter() - start) / epochs

    shape = (batch, 3, spec.frames, spec.size, spec.size)
    ready = [(torch.randn(shape), torch.arange(batch) % 10) for _ in range(10 * ipc // batch)]
    files = Jpegs(folder, to_frames(torch.randn(10 * ipc, *shape[1:])), spec.size)
    found = [(ours(), steps(lambda: ready), steps(lambda: list(DataLoader(files, batch, shuffle=True))))
             for _ in range(3)]  # fmt: skip
    mine, least, read = (statistics.median(column) for column in zip(*found, strict=True))
    say(
        f"student epoch of {10 * ipc} clips: vdc | bare steps, ready tensors",
        mine,
        least,
        mine / least,
        "time, aim <= 1.05",
    )
    say("the same: vdc | JPEG frames through a DataLoader", mine, read, read / mine, "speed")


def rded(root: Path, spec: ClipSpec) -> None:
    """Row 4: where RDED's pass spends its time, per 100 candidates."""
    data, net = real(root, spec), build("minic3d", 2, spec).eval()
    decode, transform, score, count = 0.0, 0.0, 0.0, 0
    batches = iter(data.with_(batch_size=80).every_clip())
    with torch.no_grad():
        while True:
            start = time.perf_counter()
            raw = next(batches, None)
            if raw is None:
                break
            read = time.perf_counter()
            batch = data.to_batch(raw)
            made = time.perf_counter()
            net(batch.clips)
            end = time.perf_counter()
            decode, transform, score = decode + read - start, transform + made - read, score + end - made
            count += len(batch.labels)
    total = decode + transform + score
    print(f"RDED, seconds per 100 candidates: {100 * total / count:.2f} = decode {100 * decode / count:.2f} + "
          f"transform {100 * transform / count:.2f} + score {100 * score / count:.2f}")  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (("frames", 8), ("size", 48), ("videos", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    spec = ClipSpec(frames=args.frames, size=args.size)
    with tempfile.TemporaryDirectory() as name:
        raw, small = Path(name) / "raw", Path(name) / "small"
        raw_videos(raw, args.videos)
        prepare(str(raw), str(small), short_side=64)
        for listing in ("train.txt", "test.txt"):
            (small / listing).write_text((raw / listing).read_text())
        loading(raw, small, spec)
        rded(small, spec)
        student(Path(name), spec)


if __name__ == "__main__":
    main()
