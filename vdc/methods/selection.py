"""Methods that choose real clips: at random, by a teacher's features, by a teacher's loss."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vdc.methods.base.selection import Candidates, Selection, TeacherSelection
from vdc.ops.rng import generator
from vdc.ops.select import herding, k_center


class Random(Selection):
    """Random videos, a random clip of each (with `data.init_args.first_clip`, that at their first frame)."""

    def wanted(self, labels: Tensor) -> Tensor:
        """The videos themselves: nothing else is worth decoding."""
        return some_per_class(labels, self.memory.init_clips_per_class, self.seed)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """All, in a random order."""
        order = generator(self.seed, "order", int(candidates.labels[0]))
        return torch.randperm(len(candidates.rows), generator=order)[:k]


class Herding(TeacherSelection):
    """Clips whose mean feature follows that of their class (Welling 2009, see `ops.select.herding`)."""

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Greedy herding."""
        return herding(candidates.features, k)


class KCenter(TeacherSelection):
    """Clips that cover their class, by true pairwise distance (Sener 2018, see `ops.select.k_center`)."""

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Farthest first."""
        return k_center(candidates.features, k)


class RDED(TeacherSelection):
    """The clips a teacher finds most typical: best candidate of each video, then the best videos.

    Sun 2024 for images; for videos MCG-NJU/Video-DC@d51660d8:rded/synthesize: `data.init_args.candidates`
    clips of every video, each with its own start and crop; realism is minus the teacher's cross-entropy.

    Args:
        mipc: videos of each class to look at, drawn without replacement; all where a class has fewer.
        options: see `Condenser`.
    """

    def __init__(self, *args: Any, mipc: int = 70, **options: Any) -> None:
        super().__init__(*args, **options)
        if mipc < self.memory.init_clips_per_class:
            raise ValueError(
                f"--model.init_args.mipc {mipc} videos per class cannot fill {self.memory.init_clips_per_class} clips"
            )
        self.mipc = mipc

    def wanted(self, labels: Tensor) -> Tensor:
        """`mipc` random videos of each class."""
        return some_per_class(labels, self.mipc, self.seed)

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the teacher."""
        return F.cross_entropy(self.teacher(clips), labels, reduction="none"), clips.new_zeros(len(clips), 0)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Best of each video, then best of all; candidates come in order of their video."""
        order = candidates.scores.argsort(stable=True)
        best: dict[int, int] = {}
        for place, row in enumerate(candidates.rows[order].tolist()):
            best.setdefault(row, place)
        return order[list(best.values())[:k]]


def some_per_class(labels: Tensor, count: int, seed: int) -> Tensor:
    """Rows of at most `count` random videos of every class, without replacement, ascending.

    Args:
        labels: class of every row, (n,) int64.
        count: videos per class.
        seed: of the draw.
    """
    rows = []
    for label in sorted(set(labels.tolist())):
        mine = (labels == label).nonzero().flatten()
        rows.append(mine[torch.randperm(len(mine), generator=generator(seed, "videos", label))[:count]])
    return torch.cat(rows).sort().values
