"""From a study to the steps of its cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from vdc.study.commands import READS_DATA, Flags, Planned, digest, flat, label_of, layers, referred
from vdc.study.study import Rule, Step, Study, Value, known


@dataclass(frozen=True)
class Cell:
    """One cell of the table.

    Args:
        values: of the axes; a cell outside the grid may lack some.
        score: what is shown.
        runs: the step with its result, for every seed of condensation.
    """

    values: dict[str, Value]
    score: str
    runs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Values in the order of the axes: `ucf101/rded/1`."""
        return "/".join(str(value) for value in self.values.values())


@dataclass(frozen=True)
class Plan:
    """Cells, and the steps that all of them need, earlier ones first.

    Args:
        study: what is made.
        cells: of its table.
        steps: by name.
        report: further flags of `vdc report`, where the study has some; `@name` as in steps.
    """

    study: Study
    cells: tuple[Cell, ...]
    steps: dict[str, Planned]
    report: Flags

    def needed(self, names: Sequence[str]) -> set[str]:
        """These steps and all before them."""
        every, left = set[str](), list(names)
        while left:
            name = left.pop()
            if name not in every:
                every.add(name)
                left += self.steps[name].needs
        return every


def matches(values: Mapping[str, Value], when: Mapping[str, Value | list[Value]]) -> bool:
    """Whether a cell has one of the listed values of every axis named."""
    listed = {axis: some if isinstance(some, list) else [some] for axis, some in when.items()}
    return all(axis in values and str(values[axis]) in map(str, some) for axis, some in listed.items())


def cells(study: Study) -> list[dict[str, Value]]:
    """Values of all cells: the grid without what is excluded, then the further ones."""
    grid = [dict(zip(study.axes, values, strict=True)) for values in product(*study.axes.values())]
    kept = [values for values in grid if not any(matches(values, when) for when in study.exclude)]
    order = list(study.axes)
    return kept + [
        dict(sorted(cell.items(), key=lambda item: order.index(item[0]))) for cell in study.include
    ]


def chosen(every: Sequence[dict[str, Value]], glob: str) -> list[dict[str, Value]]:
    """Cells whose name fits a pattern.

    Raises:
        ValueError: none does, with the nearest.
    """
    named = {Cell(values, "").name: values for values in every}
    found = [values for name, values in named.items() if fnmatchcase(name, glob)]
    if not found:
        known(glob, named, "cell")
    return found


def plan(
    study: Study,
    glob: str = "*",
    extra: Mapping[str, Flags] | None = None,
) -> Plan:
    """All steps of a study.

    Args:
        study: what to make.
        glob: pattern of cells.
        extra: further flags, `data` for every command that reads videos, else by command.

    Raises:
        ValueError: a cell names a step, an axis or a config that is not there.
    """
    steps: dict[str, Planned] = {}
    found = []
    for values in chosen(cells(study), glob):
        rules = [rule for rule in study.rules if matches(values, rule.when)]
        runs = []
        for seed in range(study.seeds.condensation):
            maker = _Maker(study, values, rules, seed, extra or {}, steps)
            try:
                runs.append(maker.make(study.goal))
            except ValueError as error:
                raise ValueError(f"cell {Cell(values, '').name}: {error}") from error
        score = next((rule.score for rule in reversed(rules) if rule.score), study.table.score)
        found.append(Cell(values, score, tuple(dict.fromkeys(runs))))  # of the full data no start is another
    return Plan(study, tuple(found), steps, report_of(study, found[0].values, extra or {}, steps))


def report_of(
    study: Study, values: dict[str, Value], extra: Mapping[str, Flags], steps: dict[str, Planned]
) -> Flags:
    """Flags of the report, of the data and networks of the first cell."""
    if study.report is None:
        return {}
    rules = [rule for rule in study.rules if matches(values, rule.when)]
    maker = _Maker(study, values, rules, 0, extra, steps)
    flags: Flags = {}
    for name in study.report.config or []:
        flags["data"] = layers([str(maker.filled(name))])[-1]["data"]
    for key, value in study.report.flags.items():
        flags[key] = referred(maker.filled(value), lambda name: f"@{maker.make(name)}")
    return flags | extra.get("data", {})


@dataclass
class _Maker:
    """Makes the steps of one cell and seed, those it needs first."""

    study: Study
    values: dict[str, Value]
    rules: list[Rule]
    seed: int
    extra: Mapping[str, Flags]
    steps: dict[str, Planned]

    def template(self, name: str) -> Step:
        """A step as this cell has it."""
        names = {key for part in (self.study.steps, *(rule.steps for rule in self.rules)) for key in part}
        known(name, names, "step")
        step = self.study.steps.get(name, Step())
        for rule in self.rules:
            step = step.changed(rule.steps.get(name, Step()))
        if step.run is None:
            raise ValueError(f"step {name} says nowhere which command to run")
        return step

    def make(self, name: str, below: tuple[str, ...] = ()) -> str:
        """The name of the planned step of that template."""
        if name in below:
            raise ValueError(f"steps need each other in a circle: {' -> '.join((*below, name))}")
        step = self.template(name)
        assert step.run is not None
        config = tuple(str(self.filled(one)) for one in step.config or [])
        flags = {key: value for key, value in self.flags_of(step).items() if value is not None}
        needs: list[str] = []

        def reference(other: str) -> str:
            made = self.make(other, (*below, name))
            needs.append(made)
            return f"@{made}"

        flags = {key: referred(value, reference) for key, value in flags.items()}
        settings = flat([*layers(config), flags])
        label = Path(config[0]).stem if config else label_of(needs[0]) if needs else name
        if step.run == "evaluate" and needs:
            label = label_of(needs[0])
        planned = Planned(
            f"{step.run}-{label}-{digest(step.run, settings)}", step.run, config, flags, settings, tuple(needs),
            self.study.seeds.students if step.run == "evaluate" else 0,
        )  # fmt: skip
        self.steps.setdefault(planned.name, planned)
        return planned.name

    def flags_of(self, step: Step) -> Flags:
        """Flags of a step: its own, those of the data, and those given with the command."""
        flags: Flags = {}
        assert step.run is not None
        if step.run == "fit" and self.seed:
            flags["seed_everything"] = self.seed
        flags |= {key: self.filled(value) for key, value in step.flags.items()}
        if step.run in READS_DATA:
            flags |= {f"data.{key}".removesuffix(".class_path"): one for key, one in self.study.data.items()}
            flags |= self.extra.get("data", {})
        return flags | self.extra.get(step.run, {})

    def filled(self, value: Any) -> Any:
        """`value` with the cell's values in place of `{axis}`, and of `{seed}`."""
        if isinstance(value, list):
            return [self.filled(one) for one in value]
        if isinstance(value, dict):
            return {key: self.filled(one) for key, one in value.items()}
        if not isinstance(value, str) or "{" not in value:
            return value
        names = {**self.values, "seed": self.seed}
        whole = value.removeprefix("{").removesuffix("}")
        if whole in names:  # keeps numbers numbers
            return names[whole]
        try:
            return value.format_map(names)
        except (KeyError, IndexError, ValueError):
            raise ValueError(f"{value!r}: `{{axis}}` is one of {', '.join(names)}") from None


def with_seeds(study: Study, students: int | None, condensation: int | None) -> Study:
    """The study with other numbers of seeds, where given."""
    seeds = study.seeds
    return replace(
        study,
        seeds=replace(
            seeds,
            students=seeds.students if students is None else students,
            condensation=seeds.condensation if condensation is None else condensation,
        ),
    )
