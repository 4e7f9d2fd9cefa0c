"""Everything that needs a CUDA device, in about ten minutes on whatever card there is, as one JSON.

    python tools/gpu_check.py OUT.json [--parts tests student edc dm ncfm syncs processes] [--classes 101] [--size 112]

`tests`: the tests marked `gpu`. `student`, `edc`: steps at the paper's size, ours beside the plain loop that does the
least, fp32 and bf16. `dm`, `ncfm`: 100 steps at UCF101's shape, peak memory beside what was estimated. `syncs`: where a
step makes the host wait. `processes`: two and four students on one card. Each part stands alone; one that fails is
written down.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from synthetic import Clock, SyntheticClips, synchronise
from torch import nn

from vdc.methods import DM, EDC, NCFM
from vdc.methods.base import blocks
from vdc.methods.base.options import Network
from vdc.nets import build, load_teacher, save_teacher
from vdc.ops.augment import random_boxes, resized_crop
from vdc.ops.losses import ce
from vdc.spec import Batch, ClipSpec
from vdc.system.files import write_json
from vdc.system.versions import versions
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol, named

ROOT = Path(__file__).parent.parent
ROUNDS, STEPS = 3, 6
PRECISIONS = ("32-true", "bf16-mixed")
Part = Callable[[argparse.Namespace], dict[str, Any]]


def quiet(precision: str, **more: Any) -> Trainer:
    """A trainer on one device that shows and writes nothing."""
    return Trainer(
        accelerator="gpu" if torch.cuda.is_available() else "cpu", devices=1, precision=precision,  # type: ignore[arg-type]
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        use_distributed_sampler=False, **more,
    )  # fmt: skip


def device() -> torch.device:
    """Where things run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str) -> torch.autocast:
    """What a plain loop of a precision runs in."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision == "bf16-mixed")


def peak_mib() -> float:
    """Most MiB of the device that were in use since the last look."""
    if not torch.cuda.is_available():
        return 0.0
    found = torch.cuda.max_memory_allocated() / 2**20
    torch.cuda.reset_peak_memory_stats()
    return round(found, 1)


def timed(step: Callable[[], object], count: int = STEPS) -> list[float]:
    """Seconds of steps, without the first."""
    seconds = []
    for _ in range(count):
        synchronise()
        start = time.perf_counter()
        step()
        synchronise()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def beside(ours: Callable[[], list[float]], plain: Callable[[], list[float]]) -> dict[str, float]:
    """Medians of both sides, in turns, and how much of the plain one's speed ours has."""
    mine, least = list[float](), list[float]()
    for _ in range(ROUNDS):
        mine += ours()
        least += plain()
    a, b = statistics.median(mine), statistics.median(least)
    return {"ours_s": a, "plain_s": b, "speed_of_plain": round(b / a, 3)}


# -- parts ------------------------------------------------------------------------------------------------


def tests(args: argparse.Namespace) -> dict[str, Any]:
    """The tests marked `gpu`."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-n",
        "4",
        "--no-header",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    return {
        "exit": done.returncode,
        "last": lines[-1:],
        "failed": [x for x in lines if x.startswith("FAILED")],
    }


class Prepared(torch.utils.data.Dataset[Batch]):
    """The same batch, on the device, over and over."""

    def __init__(self, batch: Batch, length: int) -> None:
        self.batch, self.length = batch, length

    def __len__(self) -> int:
        """Steps."""
        return self.length

    def __getitem__(self, _: int) -> Batch:
        """The batch."""
        return self.batch


def student(args: argparse.Namespace) -> dict[str, Any]:
    """A training step of MiniC3D by hard labels, ours and a plain loop of the same optimiser."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    clips = torch.randn(args.batch, 3, spec.frames, spec.size, spec.size, device=device())
    labels = torch.randint(args.classes, (args.batch,), device=device())
    batch = Batch(clips, labels, labels)
    found = {}
    for precision in PRECISIONS:

        def ours(precision: str = precision) -> list[float]:
            clock = Clock()
            module = EvalModule(
                "minic3d", args.classes, spec, Protocol(labels="hard", loss="ce", epochs=1), 0, {}
            )
            loader = torch.utils.data.DataLoader(Prepared(batch, STEPS), batch_size=None)
            quiet(precision, max_epochs=1, callbacks=[clock]).fit(module, loader)
            return clock.seconds[1:]

        def plain(precision: str = precision) -> list[float]:
            net = build("minic3d", args.classes, spec).to(device()).to(memory_format=torch.channels_last_3d)
            adam = torch.optim.AdamW(net.parameters(), 1e-3, fused=device().type == "cuda")

            def step() -> None:
                adam.zero_grad()
                with autocast(precision):
                    loss = nn.functional.cross_entropy(net(clips), labels)
                loss.backward()  # type: ignore[no-untyped-call]
                adam.step()

            return timed(step)

        found[precision] = beside(ours, plain) | {"peak_mib": peak_mib()}
    return found


def teacher_of(folder: Path, args: argparse.Namespace, spec: ClipSpec) -> str:
    """An untrained teacher."""
    names = [f"class {k:03d}" for k in range(args.classes)]
    save_teacher(folder, build("minic3d", args.classes, spec), {"classes": names})
    return str(folder)


def edc(args: argparse.Namespace) -> dict[str, Any]:
    """A step of EDC on 100 items: ours, and forward, statistics and backward in a plain loop."""
    spec, found = ClipSpec(frames=args.frames, size=args.size), {}
    with tempfile.TemporaryDirectory() as folder:
        path = teacher_of(Path(folder) / "teacher", args, spec)
        data = SyntheticClips(args.classes, 2, spec=spec, batch_size=64, num_workers=0)
        for precision in PRECISIONS:

            def ours(precision: str = precision) -> list[float]:
                clock = Clock()
                model = EDC(
                    args.classes, spec, teachers=[path], init="noise", iterations=STEPS, block=args.block
                )
                model.on_fit_end = lambda: None  # type: ignore[method-assign]
                quiet(precision, max_steps=STEPS, callbacks=[clock]).fit(model, datamodule=data)
                return clock.seconds[1:]

            def plain(precision: str = precision) -> list[float]:
                net = load_teacher(path).to(device()).to(memory_format=torch.channels_last_3d)
                n = min(args.block, args.classes)
                items = torch.randn(
                    n, 3, spec.frames, spec.size, spec.size, device=device(), requires_grad=True
                )
                labels = torch.arange(n, device=device())
                layers = [m for m in net.modules() if isinstance(m, nn.Conv3d | nn.BatchNorm3d)]
                adam, rng = torch.optim.Adam([items], 0.05), torch.Generator().manual_seed(0)

                def step() -> None:
                    seen: list[torch.Tensor] = []
                    hooks = [m.register_forward_pre_hook(lambda _, x: seen.append(x[0])) for m in layers]
                    boxes = (
                        random_boxes(1, spec.size, spec.size, rng, scale=(0.5, 1.0))
                        .to(device())
                        .expand(n, -1)
                    )
                    with autocast(precision):
                        logits = net(resized_crop(items, boxes, spec.size))
                    for hook in hooks:
                        hook.remove()
                    loss = ce(logits, labels)
                    for x in seen:
                        var, mean = torch.var_mean(x.float(), (0, 2, 3, 4), correction=0)
                        loss = loss + 0.01 * (mean.norm() + var.norm())
                    adam.zero_grad()
                    loss.backward()
                    adam.step()

                return timed(step)

            found[precision] = beside(ours, plain) | {"peak_mib": peak_mib()}
    return found


def matching(cls: type, args: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """100 steps at UCF101's shape: seconds of a step, peak memory and its estimate."""
    spec = ClipSpec(frames=args.frames, size=args.size)
    data = SyntheticClips(args.classes, args.videos, spec=spec, per_class=args.per_class)
    told: dict[str, int] = {}
    check = blocks.check
    blocks.check = lambda parts, where, *rest: told.update(parts) if where.type == device().type else None  # type: ignore[assignment]
    found = {}
    try:
        for precision in PRECISIONS:
            clock = Clock()
            model = cls(args.classes, spec, iterations=args.steps, chunk=args.chunk, init="real", **options)
            model.on_fit_end = lambda: None
            peak_mib()
            quiet(precision, max_steps=args.steps, callbacks=[clock]).fit(model, datamodule=data)
            found[precision] = {
                "step_s": round(statistics.median(clock.seconds[1:]), 4),
                "peak_mib": peak_mib(),
                "estimate_mib": round(sum(told.values()) / 2**20, 1),
            }
    finally:
        blocks.check = check
    return found


def dm(args: argparse.Namespace) -> dict[str, Any]:
    """DM in random networks."""
    return matching(DM, args, net=Network("minic3d", {"norm": "in"}))


def ncfm(args: argparse.Namespace) -> dict[str, Any]:
    """NCFM in random networks, items packed 2 x 2."""
    return matching(NCFM, args, net=Network("minic3d", {"norm": "in"}))


class Waits(Callback):
    """Where forward and backward of a step make the host wait for the device, by file and line."""

    def __init__(self) -> None:
        self.places: Counter[str] = Counter()

    def on_train_batch_start(self, *_: Any) -> None:
        """Listen."""
        torch.cuda.set_sync_debug_mode("warn")

    def on_before_optimizer_step(self, *_: Any) -> None:
        """The guard against losses that are not finite waits on purpose, once a step."""
        torch.cuda.set_sync_debug_mode("default")


def syncs(args: argparse.Namespace) -> dict[str, Any]:
    """Host waits of two steps of DM, EDC and a student, by the innermost line of ours."""
    spec, found = ClipSpec(frames=args.frames, size=args.size), dict[str, Any]()
    with tempfile.TemporaryDirectory() as folder:
        path = teacher_of(Path(folder) / "teacher", args, spec)
        data = SyntheticClips(args.classes, 4, spec=spec, per_class=2)
        models = {
            "DM": lambda: DM(
                args.classes, spec, init="noise", iterations=3, net=Network("minic3d", {"norm": "in"})
            ),
            "EDC": lambda: EDC(
                args.classes, spec, teachers=[path], init="noise", iterations=3, block=args.block
            ),
        }
        for name, make in models.items():
            places: Counter[str] = Counter()

            def note(*_: Any, places: Counter[str] = places, **__: Any) -> None:
                own = [f for f in traceback.extract_stack() if f"{ROOT}/vdc" in f.filename]
                last = own[-1] if own else traceback.extract_stack()[-3]
                places[f"{Path(last.filename).name}:{last.lineno} {last.line}"] += 1

            model = make()
            model.on_fit_end = lambda: None  # type: ignore[method-assign]
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                old, warnings.showwarning = warnings.showwarning, note  # type: ignore[assignment]
                try:
                    quiet("32-true", max_steps=3, callbacks=[Waits()]).fit(model, datamodule=data)
                finally:
                    warnings.showwarning = old
                    torch.cuda.set_sync_debug_mode("default")
            found[name] = dict(places.most_common(12))
    return found


def student_step(args: argparse.Namespace) -> float:
    """Seconds of a plain training step of a student, for a process of its own."""
    clips = torch.randn(args.batch, 3, args.frames, args.size, args.size, device=device())
    net = build("minic3d", args.classes, ClipSpec(frames=args.frames, size=args.size)).to(device())
    return statistics.median(timed(lambda: net(clips).sum().backward(), args.steps))


def processes(args: argparse.Namespace) -> dict[str, Any]:
    """Students side by side on one card: seconds of a step alone, and of each of two and four processes."""
    found = {}
    for count in (1, 2, 4):
        with ProcessPoolExecutor(count, get_context("spawn")) as pool:
            seconds = statistics.median(pool.map(student_step, [args] * count))
        found[str(count)] = {"step_s": seconds, "students_per_s": count / seconds}
    return found


PARTS: dict[str, Part] = {
    "tests": tests, "student": student, "edc": edc, "dm": dm, "ncfm": ncfm, "syncs": syncs, "processes": processes,
}  # fmt: skip


def main() -> None:
    """Run the parts, writing after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    sizes = {
        "classes": 101, "frames": 8, "size": 112, "batch": 128, "block": 101, "videos": 16, "per_class": 16,
        "steps": 100, "chunk": 512,
    }  # fmt: skip
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    _ = named("videodc")  # the package is whole
    found: dict[str, Any] = {"versions": versions(), "sizes": {name: getattr(args, name) for name in sizes}}
    for name in args.parts:
        start = time.perf_counter()
        try:
            found[name] = PARTS[name](args)
        except Exception as error:  # the others still say something
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
        found[name]["seconds"] = round(time.perf_counter() - start, 1)
        print(name, json.dumps(found[name], indent=1), flush=True)
        write_json(args.out, found)


if __name__ == "__main__":
    main()
