"""Methods that choose real clips: one pass scores all candidates, the epoch end picks, decodes and stores."""

from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from vdc.condensed.memory import Pixels
from vdc.methods.base.condenser import Condenser, MemoryCallable
from vdc.nets.teacher import Teacher, load_teacher
from vdc.ops.rng import generator
from vdc.ops.select import herding, k_center
from vdc.ops.windows import draw_starts
from vdc.spec import Batch, ClipSpec


class Candidates(NamedTuple):
    """What the pass keeps of n candidate clips: no pixels."""

    rows: Tensor  # (n,) int64, video index in the training split
    draws: Tensor  # (n,) int64, which of the video's candidates
    labels: Tensor  # (n,) int64
    scores: Tensor  # (n,) float32, lower is better
    features: Tensor  # (n, D) float32

    def where(self, index: Tensor) -> Self:
        """The candidates at `index`."""
        return type(self)(*(field[index] for field in self))


class Selection(Condenser):
    """A condenser that stores the real clips a rule prefers, most preferred first.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        ipc: items per class.
        memory: how the chosen clips are stored.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
    """

    batches: ClassVar = "every_clip"
    selects: ClassVar[bool] = True

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        seed: int = 0,
        out: str | None = None,
    ) -> None:
        super().__init__(num_classes, spec, ipc, memory, seed=seed, out=out)
        self.automatic_optimization = False
        self._seen: list[Candidates] = []

    # -- what a rule writes ------------------------------------------------------------------------------

    def wanted(self, labels: Tensor) -> Tensor:
        """Rows of the training split worth looking at, of the split's labels (n,); all by default."""
        return torch.arange(len(labels))

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n,) and features (n, D) of seen clips (n, C, T, H, W) with labels (n,)."""
        return torch.zeros(len(clips)), torch.zeros(len(clips), 0)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Indices (k,) into one class's candidates, most preferred first."""
        raise NotImplementedError(f"{type(self).__name__} does not write `pick`")

    # -- the pass ----------------------------------------------------------------------------------------

    def fill(self) -> None:
        """Nothing before the pass: check instead that every class has enough videos."""
        counts = torch.bincount(self.data.labels, minlength=self.num_classes).tolist()
        for name, count in zip(self.data.classes, counts, strict=True):
            if count < self.memory.wants:
                raise ValueError(
                    f"class {name!r} has {count} training videos; --model.init_args.ipc {self.ipc} needs "
                    f"{self.memory.wants} per class"
                )

    def training_step(self, batch: Batch | None, batch_idx: int) -> None:  # type: ignore[override]
        """Score the batch's candidates and keep what the choice needs."""
        assert batch is not None
        draws = torch.arange(len(batch.rows), device=batch.rows.device) % self.data.candidates
        with torch.no_grad():
            scores, features = self.score(
                self.view(batch.clips, self._starts(batch.rows, draws)), batch.labels
            )
        kept = Candidates(batch.rows, draws, batch.labels, scores.float(), features.float())
        self._seen.append(Candidates(*(field.cpu() for field in kept)))

    def _starts(self, rows: Tensor, draws: Tensor) -> Tensor | None:
        """A random window per candidate, the same whichever rank or batch it falls in."""
        if self.spec.window == "none":
            return None
        drawn = [
            draw_starts(1, self.spec, generator(self.seed, "window", int(row), int(draw)))
            for row, draw in zip(rows, draws, strict=True)
        ]
        return torch.cat(drawn)

    def on_train_epoch_end(self) -> None:
        """Choose per class over what all ranks saw, and store it."""
        seen, k = self._gathered(), self.memory.wants
        chosen = []
        for label in range(self.num_classes):
            mine = seen.where((seen.labels == label).nonzero().flatten())
            chosen.append(mine.where(self.pick(mine, k)))
        clips = [
            self.data.candidate(int(row), int(draw))
            for c in chosen
            for row, draw in zip(c.rows, c.draws, strict=True)
        ]
        self.memory.initialise(torch.stack(clips).view(self.num_classes, k, *clips[0].shape).to(self.device))
        self._seen.clear()

    def _gathered(self) -> Candidates:
        """The candidates of every rank, each once, in order of (row, draw)."""
        fields = [torch.cat(field) for field in zip(*self._seen, strict=True)]
        if self.trainer.world_size > 1:
            everyone = [cast(Tensor, self.all_gather(field.to(self.device))) for field in fields]
            fields = [field.flatten(0, 1).cpu() for field in everyone]
        seen = Candidates(*fields)
        key, order = (seen.rows * self.data.candidates + seen.draws).sort(stable=True)
        first = torch.ones_like(key, dtype=torch.bool)
        first[1:] = key[1:] != key[:-1]  # ranks repeat videos to stay equally long
        return seen.where(order[first])

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Nothing is learnt, so nothing needs clamping."""

    def configure_optimizers(self) -> None:
        """Nothing is optimised."""


class Random(Selection):
    """Random videos, a random clip of each (with `data.init_args.first_clip`, that at their first frame)."""

    def wanted(self, labels: Tensor) -> Tensor:
        """The videos themselves: nothing else is worth decoding."""
        return some_per_class(labels, self.memory.wants, self.seed)

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """All, in a random order."""
        order = generator(self.seed, "order", int(candidates.labels[0]))
        return torch.randperm(len(candidates.rows), generator=order)[:k]


class Taught(Selection):
    """A selection that needs a teacher.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        teacher: folder of a trained network, as `vdc pretrain` writes it.
        ipc: items per class.
        memory: how the chosen clips are stored.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
    """

    teacher: Teacher

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        teacher: str,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        seed: int = 0,
        out: str | None = None,
    ) -> None:
        super().__init__(num_classes, spec, ipc, memory, seed, out)
        self.teacher_path = teacher

    def prepare(self) -> None:
        """Load the teacher."""
        self.teacher = load_teacher(self.teacher_path, self.data.classes, self.spec).to(self.device)

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's pooled features."""
        return torch.zeros(len(clips)), self.teacher.features(clips)


class Herding(Taught):
    """Clips whose mean feature follows that of their class (Welling 2009, see `ops.select.herding`)."""

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Greedy herding."""
        return herding(candidates.features, k)


class KCenter(Taught):
    """Clips that cover their class, by true pairwise distance (Sener 2018, see `ops.select.k_center`)."""

    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Farthest first."""
        return k_center(candidates.features, k)


class RDED(Taught):
    """The clips a teacher finds most typical: best candidate of each video, then the best videos.

    Sun 2024 for images; for videos MCG-NJU/Video-DC@d51660d8:rded/synthesize: `data.init_args.candidates`
    clips of every video, each with its own start and crop; realism is minus the teacher's cross-entropy.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        teacher: folder of a trained network, as `vdc pretrain` writes it.
        ipc: items per class.
        mipc: videos of each class to look at, drawn without replacement; all where a class has fewer.
        memory: how the chosen clips are stored.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        teacher: str,
        ipc: int = 1,
        mipc: int = 70,
        memory: MemoryCallable = Pixels,
        seed: int = 0,
        out: str | None = None,
    ) -> None:
        super().__init__(num_classes, spec, teacher, ipc, memory, seed, out)
        if mipc < self.memory.wants:
            raise ValueError(
                f"--model.init_args.mipc {mipc} videos per class cannot fill {self.memory.wants} clips"
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
