"""DM's step against the forwards and the backward it cannot do without, and its peak memory over classes.

    python tools/bench_matching.py [--device cuda] [--classes 10] [--per_class 32] [--frames 8] [--size 48]

Both sides run in turn in one process, on clips that are in memory; the table gives medians and their ratio.
Peak memory is measured in a process of its own for every number of classes, one item each.
"""

import argparse
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from synthetic import Clock, Peak, SyntheticClips, synchronise

from vdc.methods import DM
from vdc.methods.base.options import Network
from vdc.nets import build
from vdc.ops.match import mean_distance
from vdc.spec import ClipSpec

NET: dict[str, Any] = {"net": Network("minic3d", {"norm": "in"})}
STEPS, ROUNDS = 4, 3


def ours(data: SyntheticClips, spec: ClipSpec, device: str, chunk: int, steps: int = STEPS) -> list[float]:
    """Seconds of DM's steps; the first is left out."""
    sgd = partial(torch.optim.SGD, lr=1.0, momentum=0.5)
    model = DM(data.num_classes, spec, init="noise", iterations=steps, chunk=chunk, optimizer=sgd, **NET)
    clock = Clock()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kind = "gpu" if device == "cuda" else "cpu"
    model.on_fit_end = lambda: None  # type: ignore[method-assign]
    Trainer(**quiet, accelerator=kind, devices=1, enable_checkpointing=False, callbacks=[clock]).fit(
        model, datamodule=data
    )
    return clock.seconds[1:]


def bare(data: SyntheticClips, spec: ClipSpec, device: str, chunk: int) -> list[float]:
    """Seconds of the same forwards and backward of ready clips in one network."""
    count = data.num_classes
    n = data.per_class
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


def highest(num_classes: int, args: argparse.Namespace) -> float:
    """MiB at most while two steps run, above what was there before."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    data = SyntheticClips(num_classes, args.per_class, spec=spec, per_class=args.per_class)
    data.setup("fit")
    one = SyntheticClips(1, args.per_class, spec=spec, per_class=args.per_class)
    ours(one, spec, args.device, args.chunk, steps=2)  # what a first run loads stays
    with Peak(args.device) as peak:
        ours(data, spec, args.device, args.chunk, steps=2)
    return peak.rise / 2**20


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
        print(f"{highest(args.peak_of, args):.0f}")
        return
    spec = ClipSpec(frames=args.frames, size=args.size)
    data = SyntheticClips(args.classes, args.per_class, spec=spec, per_class=args.per_class)
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
