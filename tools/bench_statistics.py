"""A step of statistics matching against the teacher's bare forward and backward; growth with the items.

    python tools/bench_statistics.py [--device cuda] [--nets minic3d i3d] [--items 10] [--size 48]

Both sides run in turn in one process, on the same number of clips; the bare side has no taps, no crop and no
optimiser. Peak memory is measured in a process of its own each, beyond what it had before the first step.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from synthetic import Clock, Peak, SyntheticClips, synchronise

from vdc.methods import EDC
from vdc.nets import build, load_teacher, save_teacher
from vdc.ops.losses import ce
from vdc.spec import ClipSpec

STEPS, ROUNDS, AIM = 5, 3, 1.35


def make_teacher(folder: Path, net: str, num_classes: int, spec: ClipSpec) -> str:
    """A teacher of random weights."""
    path = folder / f"{net}-{num_classes}"
    save_teacher(path, build(net, num_classes, spec), {"classes": SyntheticClips(num_classes).classes})
    return str(path)


def ours(
    teacher: str, classes: int, ipc: int, block: int, spec: ClipSpec, device: str, processes: int = 1
) -> list[float]:
    """Seconds of the steps, the first of which also warms up."""
    options: dict[str, Any] = {"ipc": ipc, "iterations": STEPS + 1, "init": "noise", "block": block}
    model = EDC(classes, spec, [teacher], **options)
    clock = Clock()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    kind, strategy = "gpu" if device == "cuda" else "cpu", "shard" if processes > 1 else "auto"
    one = {"accelerator": kind, "devices": processes, "strategy": strategy, "enable_checkpointing": False}
    data = SyntheticClips(classes, 2, spec=spec, batch_size=2)
    Trainer(**quiet, **one, callbacks=[clock]).fit(model, datamodule=data)
    return clock.seconds


def bare(teacher: str, items: int, spec: ClipSpec, device: str) -> list[float]:
    """Seconds of one forward and backward to the clips each, the first of which also warms up."""
    net, seconds = load_teacher(teacher).to(device), []
    shape = (items, 3, spec.frames, spec.size, spec.size)
    clips = torch.randn(shape, device=device, requires_grad=True)
    labels = torch.arange(items, device=device) % net.num_classes
    for _ in range(STEPS + 1):
        synchronise()
        start = time.perf_counter()
        clips.grad = None
        ce(net(clips), labels).backward()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds


def peak(side: str, teacher: str, args: argparse.Namespace) -> float:
    """MiB at most beyond what the process had before."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    bare(teacher, 1, spec, args.device)  # libraries and kernels are loaded
    with Peak(args.device) as found:
        if side == "bare":
            bare(teacher, args.classes * args.ipc, spec, args.device)
        else:
            ours(teacher, args.classes, args.ipc, args.block, spec, args.device)
    return found.rise / 2**20


def child(args: argparse.Namespace, teacher: str, measure: str, **changes: Any) -> float:
    """One number, measured in a process of its own (or two)."""
    given = vars(args) | changes
    flags = [f"--{name}={given[name]}" for name in ("device", "frames", "size", "classes", "ipc", "block")]
    command = [sys.executable, __file__, *flags, "--teacher", teacher, "--measure", measure]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def against_bare(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Every network: seconds of a step and peak MiB, ours and bare."""
    spec, n = ClipSpec(frames=args.frames, size=args.size), args.items
    for net in args.nets:
        teacher = make_teacher(folder, net, n, spec)
        mine, least = list[float](), list[float]()
        for _ in range(ROUNDS):
            mine += ours(teacher, n, 1, n, spec, args.device)[1:]
            least += bare(teacher, n, spec, args.device)[1:]
        a, b = statistics.median(mine), statistics.median(least)
        sides = {side: child(args, teacher, side, classes=n, block=n) for side in ("ours", "bare")}
        yield {
            "net": net,
            "step s": a,
            "bare s": b,
            "ratio": a / b,
            "MiB": sides["ours"],
            "bare MiB": sides["bare"],
        }


def growth(args: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """The first network over K, ipc and block: seconds of a step of all items, peak MiB, two processes."""
    spec, n = ClipSpec(frames=args.frames, size=args.size), args.items
    for classes, ipc, block in ((n, 1, n), (2 * n, 1, n), (4 * n, 1, n), (n, 2, n), (n, 4, n), (n, 4, 4 * n)):
        teacher, plan = (
            make_teacher(folder, args.nets[0], classes, spec),
            {"classes": classes, "ipc": ipc, "block": block},
        )
        one = child(args, teacher, "1", **plan)
        row = {
            **plan,
            "pass s": one,
            "per item s": one / classes / ipc,
            "MiB": child(args, teacher, "ours", **plan),
        }
        two = (
            child(args, teacher, "2", **plan) / one
            if classes * ipc >= 2 * block and args.device == "cpu"
            else None
        )
        yield row | ({} if two is None else {"two processes": two})


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Everything the table shows."""
    with tempfile.TemporaryDirectory() as folder:
        yield from against_bare(args, Path(folder))
        yield from growth(args, Path(folder))


def report(args: argparse.Namespace) -> float:
    """What a child process measures: peak MiB of a side, or seconds of a pass with so many processes."""
    if args.measure in ("ours", "bare"):
        return peak(args.measure, args.teacher, args)
    torch.set_num_threads(1)
    spec = ClipSpec(frames=args.frames, size=args.size)
    plan = (args.teacher, args.classes, args.ipc, args.block, spec, args.device)
    return sum(ours(*plan, processes=int(args.measure))) / (STEPS + 1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--nets", nargs="+", default=["minic3d", "i3d", "slowonly"])
    defaults = {"items": 10, "frames": 8, "size": 48, "classes": 10, "ipc": 1, "block": 10}
    for name, value in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--teacher", help="of the measurement of a child process")
    parser.add_argument("--measure", choices=["ours", "bare", "1", "2"], help="what a child process does")
    args = parser.parse_args()
    if args.measure:
        print(f"{report(args):.4f}")
        return
    for row in rows(args):
        shown = (
            f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
            for name, value in row.items()
        )
        print(", ".join(shown), flush=True)
    print(f"aim: ratio at most {AIM}, two processes at most 0.6 of the time of one")


if __name__ == "__main__":
    main()
