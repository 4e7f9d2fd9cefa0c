"""A study file: which cells a table has, how each is made, and how the table looks."""

from collections.abc import Iterable
from dataclasses import field, replace
from difflib import get_close_matches
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vdc.system import shipped

VERSION = 1
Command = Literal["pretrain", "fit", "relabel", "join", "evaluate"]
Value = bool | int | float | str
CHECKED = ConfigDict(extra="forbid")  # an unknown key is an error


@dataclass(frozen=True, config=CHECKED)
class Step:
    """One command of a cell; the same key of a rule changes it.

    Strings may hold `{axis}`, the cell's value of an axis, and `@step`, the folder that another step writes.

    Args:
        run: the command.
        config: its config files, by path or by name.
        flags: its further flags without dashes; a list where the flag takes several, null where a rule drops one.
    """

    run: Command | None = None
    config: list[str] | None = None
    flags: dict[str, Any] = field(default_factory=dict)

    def changed(self, other: "Step") -> "Step":
        """This step with what `other` sets."""
        config = self.config if other.config is None else other.config
        return Step(other.run or self.run, config, {**self.flags, **other.flags})


@dataclass(frozen=True, config=CHECKED)
class Rule:
    """What is different in some cells.

    Args:
        when: values of axes; a cell has one of those listed of every axis named.
        steps: changes of steps, and steps of these cells alone.
        score: what the table shows there.
    """

    when: dict[str, Value | list[Value]]
    steps: dict[str, Step] = field(default_factory=dict)
    score: str | None = None


@dataclass(frozen=True, config=CHECKED)
class Seeds:
    """How often everything is done.

    Args:
        condensation: seeds of `vdc fit`: other clips to start from, other draws; counted from 0.
        students: students trained on every set; counted from 0.
    """

    condensation: int = 1
    students: int = 3

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("condensation", "students"):
            if getattr(self, name) < 1:
                raise ValueError(f"seeds.{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True, config=CHECKED)
class Published:
    """Which published numbers stand beside ours.

    Args:
        file: in `studies/published`, by path or by name.
        where: what its entries must say, e.g. the table.
        names: how a file names what an axis calls otherwise: axis, our value, theirs.
    """

    file: str
    where: dict[str, Value]
    names: dict[str, dict[Value, Value]] = field(default_factory=dict)


@dataclass(frozen=True, config=CHECKED)
class Table:
    """How the table looks.

    Args:
        rows: axes down the page.
        columns: axes across it.
        score: percentage shown: top1, top5, still_top1, reversed_top1, shuffled_top1, ...
        beside: further columns: `reference_best`, `single_frame`, `reversed`, `shuffled`, `bytes`, `seconds`, or any
            figure of a result file.
        names: how values are printed.
        plot: `lines` over the last of the columns, or `bars`.
    """

    rows: list[str]
    columns: list[str] = field(default_factory=list)
    score: str = "top1"
    beside: list[str] = field(default_factory=lambda: ["single_frame", "bytes"])
    names: dict[Value, str] = field(default_factory=dict)
    plot: Literal["lines", "bars"] = "bars"


@dataclass(frozen=True, config=CHECKED)
class Study:
    """A table, and all that makes it.

    Args:
        version: of this format.
        title: what the table shows.
        source: paper and table, or `ours`.
        fixed: what all cells share, in words.
        claim: what is expected to be seen, in words.
        axes: values of every axis; a cell is a combination of them.
        steps: commands of a cell, by name; those that its goal does not need are left out.
        table: how the table looks.
        rules: what is different in some cells; later ones win.
        include: further cells, outside the grid.
        exclude: combinations that are no cells.
        seeds: how often everything is done.
        goal: step whose result is the cell's.
        variants: other values of axes under a name, e.g. a small one for two cores.
        published: numbers to stand beside.
        data: flags of data for every command that reads videos, without `data.`; `class_path` is the class.
        report: config of data and flags for `vdc report` on all results; `run` is left out.
    """

    version: int
    title: str
    source: str
    fixed: str
    claim: str
    axes: dict[str, list[Value]]
    steps: dict[str, Step]
    table: Table
    rules: list[Rule] = field(default_factory=list)
    include: list[dict[str, Value]] = field(default_factory=list)
    exclude: list[dict[str, Value | list[Value]]] = field(default_factory=list)
    seeds: Seeds = Seeds()
    goal: str = "evaluate"
    variants: dict[str, dict[str, list[Value]]] = field(default_factory=dict)
    published: Published | None = None
    data: dict[str, Any] = field(default_factory=dict)
    report: Step | None = None

    def __post_init__(self) -> None:
        """Refuse names that nothing has."""
        for where, names in self._named():
            for name in names:
                known(name, self.axes, f"axis of {where}")
        known(self.goal, self.steps, "step of goal")

    def _named(self) -> Iterable[tuple[str, Iterable[str]]]:
        yield "table.rows", self.table.rows
        yield "table.columns", self.table.columns
        for kind in ("exclude", "include"):
            for i, cell in enumerate(getattr(self, kind)):
                yield f"{kind}.{i}", cell
        for i, rule in enumerate(self.rules):
            yield f"rules.{i}.when", rule.when
        for name, axes in self.variants.items():
            yield f"variants.{name}", axes

    def check(self, rules: Iterable[dict[str, Any]]) -> None:
        """Refuse values in `rules` and `exclude` that no cell can have.

        Raises:
            ValueError: with the nearest value.
        """
        whens = [(f"rules.{i}.when", rule["when"]) for i, rule in enumerate(rules)]
        whens += [(f"exclude.{i}", when) for i, when in enumerate(self.exclude)]
        for where, when in whens:
            for axis, values in when.items():
                every = {str(v) for axes in (self.axes, *self.variants.values()) for v in axes.get(axis, [])}
                every |= {str(cell[axis]) for cell in self.include if axis in cell}
                for value in values if isinstance(values, list) else [values]:
                    known(str(value), sorted(every), f"value of {axis} in {where}")

    def variant(self, name: str) -> "Study":
        """The study with the axes of a variant, in the grid and in the further cells.

        Raises:
            ValueError: there is none of that name.
        """
        axes = self.variants[known(name, self.variants, "variant")]
        include = []
        for cell in self.include:
            inside = {
                axis: [cell[axis]] if cell[axis] in axes[axis] else axes[axis]
                for axis in axes
                if axis in cell
            }
            for values in product(*inside.values()):
                changed = cell | dict(zip(inside, values, strict=True))
                include += [] if changed in include else [changed]
        return replace(self, axes=self.axes | axes, include=include)


def known(name: str, names: Iterable[str], what: str) -> str:
    """`name`, if it is one of `names`.

    Raises:
        ValueError: it is not, with the nearest that is.
    """
    names = list(names)
    if name in names:
        return name
    close = get_close_matches(str(name), [str(one) for one in names], n=3, cutoff=0.4)
    near = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
    listed = "" if near or len(names) > 12 else f"; there are {', '.join(map(str, names)) or 'none'}"
    raise ValueError(f"no {what} {name!r}{near}{listed}")


def find(name: str) -> Path:
    """A study file, or one that studies read, by its path or by its name in `studies`.

    Raises:
        ValueError: there is none, with the nearest names.
    """
    try:
        return shipped.find(name, "studies")
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error


def load(path: Path) -> Study:
    """Read and check a study file, with what it takes from the file it names as `base`.

    Raises:
        ValueError: it is not one: the file, the key, and what was found and expected.
    """
    own = read_yaml(path)
    version = own.get("version")
    if version != VERSION:
        raise ValueError(f"{path}: version {version!r}, where this vdc reads studies of version {VERSION}")
    held = own
    if "base" in own:
        held = over(read_yaml(find(f"base/{own['base']}")), {k: v for k, v in own.items() if k != "base"})
    try:
        study = TypeAdapter(Study).validate_python(held)
        study.check(own.get("rules", []))
    except ValidationError as error:
        raise ValueError(f"{path}: {told(error)}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return study


def over(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Keys of `own` over those of `base`: tables are merged, rules follow the base's, anything else is replaced.

    Rules of the base about axes that `own` does not have are left out.
    """
    merged = base | own
    for key in base.keys() & own.keys():
        if isinstance(base[key], dict) and isinstance(own[key], dict) and key != "axes":
            merged[key] = over(base[key], own[key])
    if "rules" in base and "axes" in merged:
        fitting = [rule for rule in base["rules"] if rule["when"].keys() <= merged["axes"].keys()]
        merged["rules"] = fitting + own.get("rules", [])
    return merged


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file that holds keys.

    Raises:
        ValueError: it does not.
    """
    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(held, dict):
        raise ValueError(f"{path} holds {type(held).__name__}, where keys are expected")
    return held


def told(error: ValidationError) -> str:
    """The first thing wrong, an unknown key before all else, in one line with the nearest right name."""
    first = min(error.errors(), key=lambda one: one["type"] != "unexpected_keyword_argument")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "unexpected_keyword_argument":
        names = {f for cls in (Study, Step, Rule, Seeds, Published, Table) for f in cls.__dataclass_fields__}
        close = get_close_matches(str(first["loc"][-1]), sorted(names), n=1)
        return f"no key {place!r}" + (f"; did you mean {close[0]!r}?" if close else "")
    if first["type"] == "missing":
        return f"key {place!r} is missing"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    return f"{place}: {first['msg']}, got {first['input']!r}"
