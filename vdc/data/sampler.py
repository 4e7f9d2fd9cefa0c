"""Which clips a process sees, in which order.

A key (row, draw) names an item: video `row` of a split, and the number of the draw that its crop and start
depend on. Samplers are functions of (seed, epoch, position): a run resumed in the middle sees what it would
have seen.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.utils.data import DistributedSampler

from vdc.ops.rng import generator

Key = tuple[int, int]


class Keys(DistributedSampler[Key]):
    """A sampler of keys for one of several processes.

    It is a `DistributedSampler`, because those are what Lightning does not wrap in a second one.

    Args:
        seed: of the order.
        rank: which process this is.
        world: how many there are.
    """

    def __init__(self, seed: int, rank: int, world: int) -> None:
        self.seed = seed
        self.rank = rank
        self.world = world
        self.epoch = self.first_epoch = self.first = 0

    def resume(self, epoch: int, first: int) -> None:
        """Begin with position `first` of `epoch`; later epochs begin at 0."""
        self.epoch = self.first_epoch = epoch
        self.first = first

    def set_epoch(self, epoch: int) -> None:
        """What Lightning calls before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Key]:
        """Keys of this epoch, from where it was left."""
        return self.keys(self.epoch, self.first if self.epoch == self.first_epoch else 0)

    @abstractmethod
    def __len__(self) -> int:
        """Keys of a whole epoch."""

    @abstractmethod
    def keys(self, epoch: int, first: int) -> Iterator[Key]:
        """Keys of an epoch from position `first` on."""


class Shuffled(Keys):
    """Every video once per epoch, in random order; the draw is the epoch.

    So that ranks are equally long, up to world - 1 videos, other ones every epoch, are left out (and where
    there are fewer videos than ranks, some are repeated).

    Args:
        n: videos.
        seed: of the order.
        rank: which process this is.
        world: how many there are.
    """

    def __init__(self, n: int, seed: int, rank: int = 0, world: int = 1) -> None:
        super().__init__(seed, rank, world)
        self.n = n

    def __len__(self) -> int:
        """Videos of this rank per epoch."""
        return max(self.n // self.world, 1)

    def keys(self, epoch: int, first: int) -> Iterator[Key]:
        """See `Keys`."""
        order = torch.randperm(self.n, generator=generator(self.seed, "shuffle", epoch)).tolist()
        return ((order[(i * self.world + self.rank) % self.n], epoch) for i in range(first, len(self)))


class EveryClip(Keys):
    """Every video once per epoch, in order; the draw is the epoch.

    So that ranks are equally long, up to world - 1 videos are repeated: whoever gathers keeps one of each
    row.

    Args:
        rows: the videos, or how many.
        rank: which process this is.
        world: how many there are.
    """

    def __init__(self, rows: int | Sequence[int], rank: int = 0, world: int = 1) -> None:
        super().__init__(0, rank, world)
        self.rows = range(rows) if isinstance(rows, int) else rows

    def __len__(self) -> int:
        """Videos of this rank per epoch."""
        return -(-len(self.rows) // self.world)

    def keys(self, epoch: int, first: int) -> Iterator[Key]:
        """See `Keys`."""
        n = len(self.rows)
        return ((self.rows[(i * self.world + self.rank) % n], epoch) for i in range(first, len(self)))


class PerClass(Keys):
    """The same number of videos of each class in every step, for class-wise matching.

    Every class is a stream of its videos, shuffled anew whenever it runs out; step after step and rank after
    rank take the next `per_class`. The draw counts the rounds, so that no two items of a run are the same,
    on any rank.

    Args:
        labels: class of every video, (n,).
        per_class: videos of a class per step.
        classes: the classes of a step, in this order; `None` takes all.
        seed: of the order.
        rank: which process this is.
        world: how many there are.
        start_step: steps already done.
        steps: of the whole run.

    Raises:
        ValueError: a class has no videos.
    """

    def __init__(
        self,
        labels: Tensor,
        per_class: int,
        classes: Sequence[int] | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        start_step: int = 0,
        steps: int = 1,
    ) -> None:
        super().__init__(seed, rank, world)
        self.classes = range(int(labels.max()) + 1) if classes is None else classes
        self.videos = {k: (labels == k).nonzero().flatten().tolist() for k in self.classes}
        if empty := [k for k, videos in self.videos.items() if not videos]:
            raise ValueError(f"class {empty[0]} has no videos: nothing to match")
        self.per_class, self.steps = per_class, steps
        self.step_size = per_class * len(self.classes)
        self.resume(0, start_step * self.step_size)

    def __len__(self) -> int:
        """Keys of the whole run on this rank."""
        return self.steps * self.step_size

    def keys(self, epoch: int, first: int) -> Iterator[Key]:
        """See `Keys`; a later epoch goes on where the last one ended."""
        rounds: dict[int, tuple[int, list[int]]] = {}
        for position in range(epoch * len(self) + first, (epoch + 1) * len(self)):
            step, within = divmod(position, self.step_size)
            label, i = self.classes[within // self.per_class], within % self.per_class
            videos = self.videos[label]
            turn, place = divmod((step * self.world + self.rank) * self.per_class + i, len(videos))
            if label not in rounds or rounds[label][0] != turn:
                order = torch.randperm(len(videos), generator=generator(self.seed, "class", label, turn))
                rounds[label] = turn, order.tolist()
            yield videos[rounds[label][1][place]], turn


def left_at(trainer: Trainer, batches: int, batch_size: int) -> tuple[int, int]:
    """Epoch and position in it that a trainer is at, from its progress counters.

    Args:
        trainer: that goes on.
        batches: of an epoch.
        batch_size: videos of each.
    """
    limit, loop = trainer.limit_train_batches, trainer.fit_loop
    batches = min(limit, batches) if isinstance(limit, int) else int(limit * batches)
    epoch: Any = loop.epoch_progress.current
    batch: Any = loop.epoch_loop.batch_progress.current
    if batch.processed < batches:
        return epoch.processed, batch.processed * batch_size
    return epoch.ready, 0
