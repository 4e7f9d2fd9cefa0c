"""What the JSON files of evaluations must hold, whoever wrote them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from vdc.nets.stored import StoredTeacher
from vdc.system.files import read_json
from vdc.system.schema import (
    Count,
    Digest,
    Fields,
    Finite,
    Names,
    Options,
    Seed,
    Size,
    Spec,
    Text,
    check_fields,
    plain_file,
)


class SeedResult(Fields):
    """`result.json` of one seed."""

    seed: Seed
    top1: Finite
    top5: Finite | None
    still_top1: Finite
    still_top5: Finite | None
    reversed_top1: Finite | None = None
    shuffled_top1: Finite | None = None
    per_class: list[Finite | None]
    confusion: list[list[Size]]
    videos: Count
    seconds: Finite
    checks: list[dict[str, Finite | None]] = Field(default_factory=list)


class Score(Fields):
    """Mean and deviation over seeds, in percent; `None` where there is nothing to say."""

    mean: Finite | None
    std: Finite | None
    values: list[Finite | None] | None = None


class Best(Fields):
    """The published habit."""

    top1: Score


class StudentProtocol(Fields):
    """What tables say of a protocol."""

    name: Text
    labels: Text


class Cost(Fields):
    """Bytes, of parts and in all."""

    total: Size | None


class SplitInfo(Fields):
    """What a result says of a split."""

    bytes: Size | None = None
    sha256: Text | None = None


class SourceInfo(Fields):
    """What a result says of the real videos."""

    train: SplitInfo | Text | None = None
    test: SplitInfo | Text | None = None


class StartInfo(Fields):
    """What a result says of the weights that its students started from."""

    name: Text
    frozen: bool
    sha256: Digest
    mean: list[Finite]
    std: list[Finite]


class StoredCoded(Fields):
    """How many bytes all training clips take, coded at the size of an item."""

    bytes: Size
    train: Text
    frames: Count
    size: Count
    stride: Count


class StoredResult(Fields):
    """An evaluation: the summary over seeds."""

    method: Text
    ipc: Count | None
    stored_ipc: Count = 1  # where it is not said, that of the whole set
    sizes: Text = "plain"
    condensed: Text | None = None
    selects: bool = False
    classes: Names
    spec: Spec
    train_videos: Count
    test_videos: Count
    student: Text
    net_options: Options
    weights: StartInfo | None = None
    protocol: StudentProtocol
    seeds: list[Seed]
    top1: Score
    top5: Score
    still_top1: Score
    reversed_top1: Score | None = None
    shuffled_top1: Score | None = None
    reference_best: Best | None
    per_class: dict[str, Finite | None] | None = None
    bytes: Cost
    source: SourceInfo | None = None
    steps: list[Size | None] | None = None
    final_loss: list[float | None] | None = None
    correct: list[Text] | None = None

    @model_validator(mode="after")
    def _scores_of_seeds(self) -> Self:
        if self.top1.mean is None:
            raise ValueError("top1.mean is missing")
        if self.top1.values is not None and (
            None in self.top1.values or len(self.top1.values) != len(self.seeds)
        ):
            raise ValueError(f"top1.values are {len(self.top1.values)} for {len(self.seeds)} seeds")
        if self.per_class is not None and set(self.per_class) != set(self.classes):
            raise ValueError("per_class is of other classes")
        return self


class TeacherTest(Fields):
    """How a teacher did on the test videos."""

    top1: Finite
    top5: Finite | None
    still_top1: Finite
    reversed_top1: Finite | None = None
    shuffled_top1: Finite | None = None
    videos: Count
    steps: Size | None = None
    final_loss: Finite | None = None
    correct: Text | None = None


class Recipe(Fields):
    """How a teacher was trained."""

    protocol: StudentProtocol
    seed: Seed


class Videos(SplitInfo):
    """A split, with its number of videos."""

    videos: Count


class Source(Fields):
    """The videos of a teacher."""

    train: Videos
    test: SplitInfo | None = None


class TestedTeacher(StoredTeacher):
    """`teacher.json` of a teacher that a table can show."""

    test: TeacherTest
    recipe: Recipe
    source: Source


def read_result(path: Path, fields: type[Fields], format_: str | None = None) -> dict[str, Any] | None:
    """A file of an evaluation.

    Args:
        path: of the file.
        fields: what it must hold.
        format_: it must say that it is of; `None` of a file of another one.

    Raises:
        ValueError: no plain file, no JSON, or a wrong field.
    """
    held = read_json(plain_file(path))
    if format_ is not None and (not isinstance(held, dict) or held.get("format") != format_):
        return None
    check_fields(fields, held, path)
    found: dict[str, Any] = held
    return found


def links(folder: Path) -> Iterator[Path]:
    """Links below a folder."""
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink())
