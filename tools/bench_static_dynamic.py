"""DM and MTT with plain clips and with stills and motion clips, at equal ipc: seconds per step, peak memory.

    python tools/bench_static_dynamic.py [--device cuda] [--classes 10] [--ipc 1] [--frames 8] [--size 48]

Every case runs in a process of its own, round after round; seconds are medians over steps and rounds, on a CPU
of the working thread alone, so that other load does not count. Memory is what a sampler sees the resident set
rise by during the run; on a GPU what is allocated there. Then: all slots rendered at once against one at a time.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from synthetic import Clock, Peak, SyntheticClips

from vdc.condensed.memory import Pixels, StaticDynamic
from vdc.methods import DM, MTT, Condenser
from vdc.methods.base.options import Network
from vdc.nets import build
from vdc.nets.experts import Recorder, describe
from vdc.spec import ClipSpec
from vdc.system.files import write_json

CASES = [f"{method} {memory}" for method in ("DM", "MTT") for memory in ("Pixels", "StaticDynamic")]
STEPS, ROUNDS = 4, 3
NET: dict[str, Any] = {"norm": "in"}


def now() -> float:
    """Seconds: of this thread, or of the clock once the device has done its work."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def make_experts(path: Path, classes: list[str], spec: ClipSpec) -> str:
    """One expert whose parameters wander for an epoch."""
    net = build("minic3d", len(classes), spec, **NET)
    recorder = Recorder(path / "0.partial", net, 1, "fp32")
    for epoch in (0, 1):
        recorder.write(epoch, net)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.01 * torch.randn_like(p))
    write_json(path / "experts.json", describe(net, classes, 1, "fp32", {}))
    recorder.finish(path, 0, {"number": 0})
    return str(path)


def case(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the steps of a case but the first, and its peak memory."""
    method, stored = name.split()
    spec, device = ClipSpec(frames=args.frames, size=args.size), args.device
    data = SyntheticClips(args.classes, args.per_class, spec=spec, per_class=args.per_class)
    data.setup("fit")
    given: dict[str, Any] = {"ipc": args.ipc, "init": "noise"}
    given["memory"] = Pixels if stored == "Pixels" else partial(StaticDynamic, lr_integrator=1e-5)
    given["optimizer"] = partial(torch.optim.SGD, lr=1e-3, momentum=0.5)
    with tempfile.TemporaryDirectory() as folder:
        if method == "DM":
            model: Condenser = DM(args.classes, spec, iterations=STEPS, net=Network("minic3d", NET), **given)
        else:
            experts = make_experts(Path(folder), data.classes, spec)
            model = MTT(args.classes, spec, experts, syn_steps=args.syn_steps, max_start_epoch=1, **given)
        model.on_fit_end = lambda: None  # type: ignore[method-assign]
        clock = Clock()
        quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(
            **quiet, accelerator="gpu" if device == "cuda" else "cpu", devices=1, max_steps=STEPS,
            enable_checkpointing=False, callbacks=[clock], use_distributed_sampler=False,
        )  # fmt: skip
        with Peak(device) as peak:
            trainer.fit(model, datamodule=data)
    return {"seconds": clock.seconds[1:], "peak": peak.rise / 2**20}


def rendering(args: argparse.Namespace) -> dict[str, float]:
    """Seconds to render all slots and bring a gradient back, at once and one at a time."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    memory = StaticDynamic(args.classes, args.slots // args.classes or 1, spec, lr_static=1.0).to(args.device)
    memory.initialise(torch.randn(args.classes, memory.init_clips_per_class, 3, 1, args.size, args.size))
    rows = torch.arange(len(memory), device=args.device)

    def at_once() -> list[torch.Tensor]:
        return [memory.render(rows)[0]]

    def one_by_one() -> list[torch.Tensor]:
        return [memory.render(row)[0] for row in rows.split(1)]

    with torch.no_grad():
        torch.testing.assert_close(at_once()[0], torch.cat(one_by_one()))
    found: dict[str, list[float]] = {}
    ways: list[Callable[[], list[torch.Tensor]]] = [at_once, one_by_one]
    for _ in range(ROUNDS):
        for way in ways:
            start = now()
            torch.stack([part.square().sum() for part in way()]).sum().backward()
            found.setdefault(way.__name__, []).append(now() - start)
    return {"slots": float(len(memory))} | {way: min(times) for way, times in found.items()}


def child(*more: str) -> dict[str, Any]:
    """What a process of its own finds."""
    command = [sys.executable, __file__, *sys.argv[1:], *more]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, Any] = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    """Print the two tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    sizes = {"classes": 10, "ipc": 1, "per_class": 8, "frames": 8, "size": 48, "syn_steps": 10, "slots": 50}
    for name, value in (sizes | {"rounds": ROUNDS}).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--case", choices=[*CASES, "rendering"], help="run one case, and nothing else")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.case:
        print(json.dumps(rendering(args) if args.case == "rendering" else case(args.case, args)))
        return
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CASES}
    for _ in range(args.rounds):
        for name in CASES:
            found[name].append(child("--case", name))
    print(f"{args.classes} classes, ipc {args.ipc}, {args.frames}x{args.size}x{args.size}, on {args.device}")
    print(f"{'':>18} {'s/step':>8} {'ratio':>6} {'peak MiB':>9}")
    for name, runs in found.items():
        seconds = statistics.median(s for run in runs for s in run["seconds"])
        plain = statistics.median(s for run in found[f"{name.split()[0]} Pixels"] for s in run["seconds"])
        peak = max(run["peak"] for run in runs)
        print(f"{name:>18} {seconds:>8.3f} {seconds / plain:>6.2f} {peak:>9.0f}", flush=True)
    times = child("--case", "rendering")
    ratio = times["one_by_one"] / times["at_once"]
    print(f"rendering {times['slots']:.0f} slots, forward and backward: {times['at_once']:.3f} s at once, "
          f"{times['one_by_one']:.3f} s one at a time, ratio {ratio:.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
