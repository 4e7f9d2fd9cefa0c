"""A step of every method with multi-size against one without: mean over an interval, its measured steps included.

    python tools/bench_multisize.py [--methods dm dc ...] [--device cuda] [--ipc 5] [--frames 8] [--size 48]

The prefix is held at the middle size, and one item less than that is frozen. Both sides
run in turn in one process.
"""

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Trainer
from synthetic import Clock, SyntheticClips

from vdc.methods import DATM, DC, DM, EDC, IDC, MTT, FRePo, Learner
from vdc.methods.base import multisize
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.options import Network
from vdc.methods.base.prefixes import MultiSize, Prefixes
from vdc.nets import build, save_teacher
from vdc.nets.experts import Recorder, describe
from vdc.spec import ClipSpec
from vdc.system.files import write_json

NET = Network("minic3d", {"norm": "in", "dropout": 0.0, "width": 0.5})
AIMS = {"dm": 1.15}  # others 2
METHODS = ("dm", "dc", "idc", "frepo", "edc", "mtt", "datm")


class Middle(Prefixes):
    """Always the middle size, with one item less frozen."""

    def choose(self) -> None:
        """Forget what was measured, and stay."""
        self.sums.zero_()
        self.switch(torch.full_like(self.size, self.items // 2))
        self.retired[:, self.items // 2 - 1] = True


def made(folder: Path, data: SyntheticClips, spec: ClipSpec) -> tuple[str, str]:
    """Folders of experts and of a teacher, with random weights."""
    net = NET.build(data.num_classes, spec)
    recorder = Recorder(folder / "experts/0.partial", net, 2, "fp32")
    for epoch in range(3):
        net.reset_parameters("default", torch.Generator().manual_seed(epoch))
        recorder.write(epoch, net)
    write_json(folder / "experts/experts.json", describe(net, data.classes, 2, "fp32", {}))
    recorder.finish(folder / "experts", 0, {})
    teacher = build("minic3d", data.num_classes, spec, width=0.5)
    save_teacher(folder / "teacher", teacher, {"classes": data.classes})
    return str(folder / "experts"), str(folder / "teacher")


def condenser(
    name: str, data: SyntheticClips, spec: ClipSpec, ipc: int, judges: tuple[str, str], **given: Any
) -> Learner:
    """A method as in its config for small sets."""
    given |= {"ipc": ipc, "optimizer": partial(torch.optim.Adam, lr=0.02)}
    stretch = {"experts": judges[0], "syn_steps": 5, "max_start_epoch": 1, "step_size": 0.1}
    makers = {
        "dm": partial(DM, net=NET),
        "dc": partial(DC, net=NET, outer=1, inner=1),
        "idc": partial(IDC, net=NET, outer=10, inner=2, init="noise"),
        "frepo": partial(FRePo, net=NET),
        "edc": partial(EDC, teachers=[judges[1]]),
        "mtt": partial(MTT, **stretch, batch_syn=2 * data.num_classes),
        "datm": partial(DATM, **stretch, batch_syn=2 * data.num_classes),
    }
    return makers[name](data.num_classes, spec, **given)


def step(name: str, plan: MultiSize | None, args: argparse.Namespace, *given: Any) -> float:
    """Mean seconds of the steps of one interval, after one more."""
    data, spec, judges = given
    steps = args.interval + args.average
    limit = {} if name in ("mtt", "datm", "frepo") else {"iterations": steps}
    model = condenser(name, data, spec, args.ipc, judges, **limit)
    model.on_fit_end = lambda: None  # type: ignore[method-assign]
    clock = Clock()
    sizes = [] if plan is None else [MatchPrefixes(plan)]
    Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        accelerator="gpu" if args.device == "cuda" else "cpu", devices=1, callbacks=[*sizes, clock],
        max_steps=steps, use_distributed_sampler=False,
    ).fit(model, datamodule=data)  # fmt: skip
    return statistics.fmean(clock.seconds[-args.interval :])


def main() -> None:
    """Print a line per method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    sizes = (
        ("ipc", 5),
        ("frames", 8),
        ("size", 48),
        ("per_class", 8),
        ("interval", 20),
        ("average", 5),
        ("rounds", 2),
    )
    for name, value in sizes:
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    spec = ClipSpec(frames=args.frames, size=args.size, stride=1)
    multisize.Prefixes = Middle  # type: ignore[misc]
    plan = MultiSize(interval=args.interval, average=args.average)
    with tempfile.TemporaryDirectory() as folder:
        data = SyntheticClips(10, 10, spec=spec, per_class=args.per_class, batch_size=64)
        judges = made(Path(folder), data, spec)
        for name in args.methods:
            plain, multi = list[float](), list[float]()
            for _ in range(args.rounds):
                plain.append(step(name, None, args, data, spec, judges))
                multi.append(step(name, plan, args, data, spec, judges))
            a, b = min(multi), min(plain)
            aim = AIMS.get(name, 2.0)
            print(
                f"{name}: step {a:.3f} s with, {b:.3f} s without: ratio {a / b:.2f} (aim {aim})", flush=True
            )


if __name__ == "__main__":
    main()
