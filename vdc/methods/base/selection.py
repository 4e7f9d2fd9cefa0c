"""Selection: a condenser that chooses real clips, in one pass that scores all candidates."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor

from vdc.methods.base.condenser import Condenser
from vdc.nets.base import in_parts
from vdc.nets.teacher import Teacher, load_teacher
from vdc.ops.rng import generator
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
        options: see `Condenser`.
    """

    batches: ClassVar = "every_clip"
    selects: ClassVar[bool] = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.automatic_optimization = False
        self._seen: list[Candidates] = []

    def wanted(self, labels: Tensor) -> Tensor:
        """Rows of the training split worth looking at, of the split's labels (n,); all by default."""
        return torch.arange(len(labels))

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n,) and features (n, D) of seen clips (n, C, T, H, W) with labels (n,)."""
        return torch.zeros(len(clips)), torch.zeros(len(clips), 0)

    def shown(self, clips: Tensor) -> Tensor:
        """What is scored of candidate clips (n, C, T_c, H, W): themselves, or what the memory makes of them."""
        return clips

    @abstractmethod
    def pick(self, candidates: Candidates, k: int) -> Tensor:
        """Indices (k,) into one class's candidates, most preferred first."""

    def fill(self) -> None:
        """Nothing before the pass: check instead that every class has enough videos."""
        counts = torch.bincount(self.data.labels, minlength=self.num_classes).tolist()
        for name, count in zip(self.data.classes, counts, strict=True):
            if count < self.memory.init_clips_per_class:
                raise ValueError(
                    f"class {name!r} has {count} training videos; --model.init_args.ipc {self.ipc} needs "
                    f"{self.memory.init_clips_per_class} per class"
                )

    def training_step(self, batch: Batch | None, batch_idx: int) -> None:
        """Score the batch's candidates and keep what the choice needs."""
        assert batch is not None
        draws = torch.arange(len(batch.rows), device=batch.rows.device) % self.data.candidates
        with torch.no_grad():
            scores, features = self.score(
                self.view(self.shown(batch.clips), self._starts(batch.rows, draws)), batch.labels
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
        seen, k = self._gathered(), self.memory.init_clips_per_class
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

    def configure_optimizers(self) -> None:
        """Nothing is optimised."""


class TeacherSelection(Selection):
    """A selection that needs a teacher.

    Args:
        teacher: folder of a trained network, as `vdc pretrain` writes it.
        options: see `Condenser`.
    """

    teacher: Teacher

    def __init__(self, num_classes: int, spec: ClipSpec, teacher: str, **options: Any) -> None:
        super().__init__(num_classes, spec, **options)
        self.teacher_path = teacher

    def prepare(self) -> None:
        """Load the teacher."""
        self.teacher = load_teacher(self.teacher_path, self.data.classes, self.spec).to(self.device)

    def score(self, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's pooled features."""
        return torch.zeros(len(clips)), in_parts(self.teacher.features, clips)
