"""Expert trajectories: networks trained on all training videos, a snapshot after every epoch (MTT, DATM)."""

import errno
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from vdc.data import RealData
from vdc.nets import VideoNet, build
from vdc.nets.experts import (
    COMMON,
    Precision,
    Recorder,
    describe,
    info_file,
    snapshot_bytes,
    weights_file,
)
from vdc.ops.rng import derive
from vdc.system.files import free_bytes, read_json
from vdc.system.memory import saved_bytes
from vdc.system.processes import first_process, wait_for_all
from vdc.system.resume import claim, drop_checkpoints
from vdc.system.versions import versions
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol, named
from vdc.train.run import MakeTrainer, Running, apply_protocol

MB = 1e6


class Snapshots(Callback):
    """Store the parameters before training and after every epoch.

    It must come before the callback that writes checkpoints: a resumed run then finds every snapshot up to
    its checkpoint, and writes the later ones again.

    Args:
        recorder: where to; `None` on processes that write nothing.
    """

    def __init__(self, recorder: Recorder | None) -> None:
        self.recorder = recorder

    def _write(self, epoch: int, module: LightningModule) -> None:
        assert isinstance(module, EvalModule)
        if self.recorder is not None:
            self.recorder.write(epoch, module.net)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The initial weights."""
        if trainer.current_epoch == 0:
            self._write(0, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The weights after this epoch."""
        self._write(trainer.current_epoch + 1, pl_module)


def pretrain_experts(
    net: str,
    data: RealData,
    out: str,
    protocol: Protocol | None = None,
    *,
    experts: int = 0,
    first: int = 0,
    snapshots: Precision = "fp32",
    dry_run: bool = False,
    seed: int = 0,
    net_options: dict[str, Any] | None = None,
    trainer: MakeTrainer = Trainer,
    progress: bool = True,
    checkpoint_every: float = 60.0,
) -> list[dict[str, Any]]:
    """Train experts one after another; those that are finished stay, one that was killed goes on.

    Experts differ in initial weights, order and crops, by their number alone: to train on several devices or
    machines, start one process on each with its own `first`, into the same folder.

    Args:
        net: name of the network.
        data: the real videos.
        out: folder of the experts.
        protocol: how they are trained; `None` is `named("teacher")`.
        experts: how many experts to train instead of one teacher.
        first: number of the first expert.
        snapshots: precision of the stored parameters.
        dry_run: only say how much disk and memory experts take.
        seed: of everything random, together with an expert's number.
        net_options: further arguments of the network.
        trainer: makes a Lightning Trainer from keyword arguments.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.

    Returns:
        What the info file of every expert holds; nothing for a dry run.

    Raises:
        ValueError: the folder holds experts of another training.
        OSError: the disk lacks the room.
    """
    if experts < 1 or first < 0:
        raise ValueError(f"--experts must be at least 1 and --first at least 0, got {experts} and {first}")
    settled, numbers = (protocol or named("teacher")).with_labels("hard"), range(first, first + experts)
    data = apply_protocol(data, settled)
    plan = Plan(net, data, Path(out), settled, numbers, snapshots, seed, net_options or {})
    if dry_run:
        print("\n".join(plan.cost()))
        return []
    running = Running(trainer, progress, checkpoint_every)
    missing = plan.open(running)
    for place, number in enumerate(missing, 1):
        plan.train(number, running, f"expert {number} ({place}/{len(missing)})")
    return [read_json(info_file(plan.folder, number)) for number in plan.numbers]


@dataclass(frozen=True)
class Plan:
    """Experts of one folder.

    Args:
        net: name of the network.
        data: the real videos.
        folder: of the experts.
        protocol: how they are trained.
        numbers: of the experts.
        precision: of the stored parameters.
        seed: of everything random, together with an expert's number.
        net_options: further arguments of the network.
    """

    net: str
    data: RealData
    folder: Path
    protocol: Protocol
    numbers: range
    precision: Precision
    seed: int
    net_options: dict[str, Any]

    @cached_property
    def network(self) -> VideoNet:
        """One of them, untrained."""
        return build(self.net, self.data.num_classes, self.data.spec, **self.net_options)

    @property
    def missing(self) -> list[int]:
        """Those that are not trained yet."""
        return [number for number in self.numbers if not info_file(self.folder, number).is_file()]

    @property
    def needed(self) -> int:
        """Bytes that these will take."""
        return len(self.missing) * (self.protocol.epochs + 1) * snapshot_bytes(self.network, self.precision)

    def cost(self) -> list[str]:
        """What all of them take, and what this run adds."""
        every = cost(
            self.network, self.protocol.epochs, len(self.numbers), self.precision, self.data.batch_size
        )
        return [
            *every,
            f"this run: {len(self.missing)} experts to train, {self.needed / MB:,.0f} MB; "
            f"free at {self.folder}: {free_bytes(self.folder) / MB:,.0f} MB",
        ]

    def open(self, running: Running) -> list[int]:
        """The experts to train, once the folder is known to be theirs and to have the room.

        Args:
            running: how they will be trained.

        Raises:
            ValueError: it holds experts of another training.
            OSError: the disk lacks the room.
        """
        data, missing, needed, free = self.data, self.missing, self.needed, free_bytes(self.folder)
        data.setup("test")  # hours before the test would find that there is nothing to test on
        if free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{len(missing)} experts take {needed / MB:,.0f} MB at {self.folder}, where "
                f"{free / MB:,.0f} MB are free: set --snapshots fp16 or fewer --experts",
            )
        recipe = {
            "protocol": asdict(self.protocol),
            "seed": self.seed,
            "batch_size": data.batch_size,
            "source": data.fingerprint(),
            **running.several,
        }
        if first_process():
            common = describe(self.network, data.classes, self.protocol.epochs, self.precision, recipe)
            claim(self.folder / COMMON, common, "experts of another training", "--out")
            for number in {*self.numbers} - {*missing}:  # a kill may have come between the end and this
                drop_checkpoints(run_folder(self.folder, number))
        wait_for_all()
        return missing

    def train(self, number: int, running: Running, title: str) -> None:
        """Train and test one, or go on with it."""
        own, data = derive(self.seed, "expert", number), self.data
        module = EvalModule(self.net, data.num_classes, data.spec, self.protocol, own, self.net_options)
        _train(module, data.with_(seed=own), self.folder, number, self.precision, running, title)


def run_folder(folder: Path, number: int) -> Path:
    """Where an expert's training keeps its log, and its checkpoints until it is done."""
    return folder / f"run-{number:04d}"


def _train(
    module: EvalModule,
    data: RealData,
    folder: Path,
    number: int,
    precision: Precision,
    running: Running,
    title: str,
) -> None:
    """Train and test one expert, or go on with it."""
    work = run_folder(folder, number)
    partial, recorder = work / "snapshots.partial", None
    if first_process():
        if weights_file(folder, number).is_file() and not partial.is_file():  # killed before it was entered
            work.mkdir(parents=True, exist_ok=True)
            weights_file(folder, number).rename(partial)
        begun = partial.is_file()
        recorder = Recorder(partial, module.net, module.protocol.epochs, precision)
        if not begun:
            (work / "last.ckpt").unlink(missing_ok=True)  # its snapshots are lost
    wait_for_all()
    seconds = running.fit_and_test(module, data, work, title, extra=Snapshots(recorder))
    if recorder is not None:
        info = {"number": number, "seed": module.seed, "test": module.outcome(), "seconds": round(seconds, 1)}
        recorder.finish(folder, number, {**info, "versions": versions()})
        drop_checkpoints(work)
    wait_for_all()


def clip_bytes(net: VideoNet) -> int:
    """Bytes that one clip's forward pass keeps for its backward pass, measured."""
    spec = net.spec
    net.train()
    clips = torch.zeros(2, 3, spec.frames, spec.size, spec.size)  # two: batch norm refuses one
    return saved_bytes(lambda: net(clips).sum(), (*net.parameters(), *net.buffers())) // 2


def cost(net: VideoNet, epochs: int, experts: int, precision: Precision, batch: int) -> list[str]:
    """Disk and memory of experts, one line each, from measured bytes.

    Args:
        net: one of them.
        epochs: of each.
        experts: how many.
        precision: of the snapshots.
        batch: clips per training step.
    """
    dim, one, clip = (
        sum(p.numel() for p in net.parameters()),
        snapshot_bytes(net, precision),
        clip_bytes(net),
    )
    states = 3 * 4 * dim  # weights, gradients, momentum
    rows = {
        "parameters": f"{dim:,} ({net.name}, {net.num_classes} classes)",
        "one snapshot": f"{one / MB:,.2f} MB ({precision})",
        "one expert on disk": f"{(epochs + 1) * one / MB:,.0f} MB ({epochs} epochs + 1)",
        f"{experts} experts on disk": f"{experts * (epochs + 1) * one / MB:,.0f} MB",
        "training": f"{(states + batch * clip) / MB:,.0f} MB: {states / MB:,.0f} MB of weights, gradients "
        f"and momentum, {batch} clips x {clip / MB:,.2f} MB",
        "matching": f"{4 * dim / MB:,.2f} MB per inner step, and one step's graph; snapshots stay on disk",
    }
    width = max(map(len, rows))
    return [f"{name:<{width}}  {value}" for name, value in rows.items()]
