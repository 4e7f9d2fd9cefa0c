"""CondensedData: a condensed set that lives on the device; no file is read while students train."""

from collections.abc import Iterator
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any, Self, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from vdc.condensed.format import load
from vdc.condensed.views import Geometry, dense, diff_augmented, draw_view, look, stored_view
from vdc.data import RealData
from vdc.nets.base import in_parts
from vdc.nets.interpolator import interpolator_of
from vdc.nets.teacher import load_teacher
from vdc.ops.mix import cutmix
from vdc.ops.rng import derive, generator
from vdc.spec import Batch, RawBatch
from vdc.train.protocol import Protocol


def epoch_batches(
    rows: int, batch: int, seed: int, epoch: int, rank: int = 0, world: int = 1
) -> list[Tensor]:
    """Clip rows of every step of an epoch, for one process.

    Each row comes once per epoch, in an order that depends on (seed, epoch); the last batch may be small.
    Processes share every batch: where it does not divide, its first rows come twice, so all take equal steps.
    """
    parts = torch.split(torch.randperm(rows, generator=generator(seed, "order", epoch)), batch)
    even = [part[torch.arange(-(-len(part) // world) * world) % len(part)] for part in parts]
    return [part[rank::world] for part in even]


class CondensedData(LightningDataModule):
    """Students' training data: views of a condensed set, made on the device; tests on real videos.

    Args:
        condensed: folder of the set.
        protocol: augmentation, labels and batch size.
        real: the videos to test on; `None` where nothing is tested.
        ipc: use only the first items of every class.
        teacher: folder of the teacher, for live labels.
        seed: of order, windows and augmentation.
    """

    def __init__(
        self,
        condensed: str,
        protocol: Protocol,
        real: RealData | None = None,
        ipc: int | None = None,
        teacher: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.set = load(condensed, ipc)
        settled = protocol.with_labels(cast(Any, self.set.labels.kind))
        self.protocol = settled.with_rate(self.set.manifest["learnt"], condensed)
        self.real, self.seed = real, seed
        self.memory = self.set.memory().requires_grad_(False)
        self.spec = self.set.spec
        self.num_classes = self.set.num_classes
        self.classes = self.set.classes
        self.hard = self.set.labels.hard
        kind = self.protocol.labels
        if (kind == "soft" and self.set.labels.soft is None) or (
            kind == "views" and self.set.labels.views is None
        ):
            raise ValueError(
                f"{condensed} stores no {kind} labels: make them with "
                f"`vdc relabel --condensed {condensed} --labels {kind} --teacher DIR`"
            )
        if kind == "live" and teacher is None:
            raise ValueError("protocol.labels live needs a teacher: give --teacher DIR")
        self.teacher = (
            load_teacher(Path(teacher), self.classes, self.spec) if teacher and kind == "live" else None
        )
        self.interpolator = interpolator_of(self.spec)
        self._geometry: Geometry  # of the epoch under way, drawn by `begin`
        self._targets: Tensor | None = None  # (rows, K) stored logits of the epoch

    def with_(self, seed: int) -> Self:
        """The same set, on the device once for all, seen in another order and other views: a copy."""
        other = copy(self)
        other.seed = seed
        return other

    @property
    def batch_size(self) -> int:
        """Clips per step, over all processes."""
        return self.protocol.batch_size or self.protocol.base_batch * len(self.hard) // self.num_classes

    @property
    def nbytes(self) -> dict[str, int]:
        """What training a student needs stored: clips, labels of the kind used, networks that make either."""
        labels = self.set.labels
        tensors = labels.tensors()
        used = [
            t for name, t in tensors.items() if name == "hard" or name.startswith(f"{self.protocol.labels}")
        ]
        sizes = {
            "clips": self.memory.nbytes,
            "labels": sum(t.numel() * t.element_size() for t in used),
            "teacher": self.teacher.nbytes if self.teacher is not None else 0,
        }
        return sizes if self.interpolator is None else sizes | {"interpolator": self.interpolator.nbytes}

    # -- Lightning --------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """What the real videos need once per machine."""
        if self.real is not None:
            self.real.prepare_data()

    def setup(self, stage: str) -> None:
        """Bring the set to the device."""
        assert self.trainer is not None
        device = self.trainer.strategy.root_device
        self.memory.to(device)
        self.hard = self.hard.to(device)
        for net in (self.teacher, self.interpolator):
            if net is not None:
                net.to(device)
        if self.real is not None:
            self.real.trainer = self.trainer
            self.real.setup(stage)

    def train_dataloader(self) -> "ResidentLoader":
        """Steps of clip rows, on the device already."""
        return ResidentLoader(self)

    def val_dataloader(self) -> Any:
        """The test videos: checks during training are reported as what they are."""
        return self.test_dataloader()

    def test_dataloader(self) -> Any:
        """The test videos."""
        return [] if self.real is None else self.real.test_dataloader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Rows become what the student sees; real clips are finished by their own module."""
        if isinstance(batch, RawBatch):
            assert self.real is not None
            return self.real.on_after_batch_transfer(batch, dataloader_idx)
        return self.compose(batch)

    # -- on the device -----------------------------------------------------------------------------

    def begin(self, epoch: int, rank: int = 0) -> None:
        """Draw all windows, crops and coins of an epoch, and take its labels to the device."""
        device, p = self.hard.device, self.protocol
        self._mix = generator(self.seed, "mix", epoch)
        self._dsa = generator(self.seed, "dsa", epoch, rank)
        if p.labels == "views":
            self._geometry, self._targets = self._stored_view(epoch)
            return
        self.memory.redraw(derive(self.seed, "memory", epoch))
        crop = p.crop_scale if p.augment == "crop" else None
        self._geometry = draw_view(len(self.hard), self.spec, self.seed, epoch, crop, p.flip).to(device)
        if p.labels == "soft" and self._targets is None and self.set.labels.soft is not None:
            self._targets = self.set.labels.soft.to(device).float()

    def _stored_view(self, epoch: int) -> tuple[Geometry, Tensor]:
        """Draw again the view whose logits this epoch teaches; V epochs see all V, in a seeded order."""
        views, device = self.set.labels.views, self.hard.device
        assert views is not None
        count = views.logits.shape[1]
        turn, place = divmod(epoch, count)
        view = int(torch.randperm(count, generator=generator(self.seed, "views", turn))[place])
        whole = stored_view(views.recipe, self.spec, views.seed, view)
        self.memory.redraw(derive(views.seed, "memory", view))
        logits, index = views.logits[:, view].to(device), views.index[:, view].to(device)
        return whole.of(views.rows.long()).to(device), dense(logits, index, self.num_classes)

    @torch.no_grad()
    def compose(self, rows: Tensor) -> Batch:
        """Render `rows` (N,) int64, augment, mix and label them; nothing here waits for the device."""
        p = self.protocol
        stored = self.memory.clips(rows)
        clips = look(stored, self.spec, self._geometry.of(rows), self.interpolator)
        if p.augment == "dsa" and p.labels != "views":
            clips = diff_augmented(clips, self._dsa)
        labels = self.hard[rows]
        targets = None if self._targets is None else self._targets[rows]
        mix = None
        if p.cutmix and float(torch.rand((), generator=self._mix)) < p.cutmix:
            clips, order, kept = cutmix(clips, torch.arange(len(rows), device=rows.device), self._mix)
            mix = labels[order], kept
            targets = None if targets is None else torch.lerp(targets[order], targets, kept)
        if self.teacher is not None:
            with nullcontext() if self.trainer is None else self.trainer.precision_plugin.forward_context():
                targets = in_parts(self.teacher, clips)
        return Batch(clips, labels, rows, targets, mix)


class ResidentLoader:
    """The clip rows of every step, transferred once per epoch.

    Args:
        data: the module whose trainer says which epoch and process this is.
    """

    def __init__(self, data: CondensedData) -> None:
        self.data = data

    def __len__(self) -> int:
        """Steps per epoch."""
        return -(-len(self.data.hard) // self.data.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        """One epoch."""
        data, trainer = self.data, self.data.trainer
        assert trainer is not None
        epoch, rank = trainer.current_epoch, trainer.global_rank
        data.begin(epoch, rank)
        parts = epoch_batches(len(data.hard), data.batch_size, data.seed, epoch, rank, trainer.world_size)
        rows = torch.cat(parts).to(data.hard.device)
        yield from torch.split(rows, [len(part) for part in parts])
