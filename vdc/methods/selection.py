"""Methods that choose real clips: at random, by a teacher's features or loss, by how experts learn them."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vdc.methods.base.networks import load_flat_parameters, prepared
from vdc.methods.base.selection import Candidates, Selection, TeacherSelection
from vdc.nets.base import in_parts
from vdc.nets.experts import load_experts
from vdc.ops.rng import generator
from vdc.ops.select import herding, k_center, still_learnt


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
        return F.cross_entropy(in_parts(self.teacher, clips), labels, reduction="none"), clips.new_zeros(
            len(clips), 0
        )

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Best of each video, then best of all; candidates come in order of their video."""
        return best_videos(candidates, k)


class Confidence(TeacherSelection):
    """The clips that a teacher is surest of, as they look once stored: best candidate of each video, then of all.

    Unlike RDED it scores what the memory makes of a whole clip (shrunk, coded), in which a clip that would not
    survive is not confident.
    """

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the logarithm of the true class's probability."""
        return F.cross_entropy(in_parts(self.teacher, clips), labels, reduction="none"), clips.new_zeros(
            len(clips), 0
        )

    def shown(self, clips: Tensor) -> Tensor:
        """As the memory would store them."""
        return self.memory.as_stored(clips)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Surest of each video, then surest of all."""
        return best_videos(candidates, k)


class CAD(Selection):
    """The clips still being learnt when a student's budget ends: see `ops.select.still_learnt` (CAD-Prune).

    Errors are EL2N, the distance of a network's probabilities to the true class, after every epoch of experts
    (`vdc pretrain --experts`), averaged over them, of clips as they look once stored.

    Args:
        experts: folder of expert trajectories, of a network without batch norm.
        epochs: of these, as many as see about as many clips as a student will; `None` takes all.
        windows: see `ops.select.still_learnt`.
        options: see `Condenser`.
    """

    def __init__(
        self, *args: Any, experts: str, epochs: int | None = None, windows: int = 2, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.experts_path = experts
        self.epochs = epochs
        self.windows = windows

    def prepare(self) -> None:
        """Find the experts.

        Raises:
            ValueError: they have fewer epochs than asked for, or too few.
        """
        self.experts = load_experts(self.experts_path, self.data.classes, self.spec)
        most = self.experts.epochs
        if self.epochs is not None and not 1 <= self.epochs <= most:
            raise ValueError(
                f"--model.init_args.epochs {self.epochs}: experts {self.experts_path} have {most}"
            )
        self.until = self.epochs or most
        still_learnt(torch.zeros(self.until, 1), self.windows)  # refuses too few before the pass
        self.net = prepared(self.experts.build(), self.trainer.precision).to(self.device)

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Minus the difficulty, averaged over experts."""
        truth = F.one_hot(labels, self.num_classes).to(clips.dtype)
        found = []
        for expert in range(len(self.experts)):
            errors = []
            for epoch in range(1, self.until + 1):
                load_flat_parameters(self.net, self.experts.snapshot(expert, epoch))
                errors.append((self.net(clips).softmax(1) - truth).norm(dim=1))
            found.append(still_learnt(torch.stack(errors), self.windows))
        return -torch.stack(found).mean(0), clips.new_zeros(len(clips), 0)

    def shown(self, clips: Tensor) -> Tensor:
        """As the memory would store them."""
        return self.memory.as_stored(clips)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Hardest of each video, then hardest of all."""
        return best_videos(candidates, k)


def best_videos(candidates: Candidates, k: int) -> Tensor:
    """Indices (k,) of the candidates with the lowest scores, one of each video; they come in order of their video."""
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
