"""The table of a study: ours, the published numbers beside, and differences; cells that did not run are empty."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from vdc.study.commands import RESULT
from vdc.study.plan import Cell, Plan
from vdc.study.published import entries, of_cell
from vdc.study.steps import RECORD, Outcome, finished
from vdc.study.study import Study, Value
from vdc.system.files import atomic_write, read_json, write_json

SHORT = {
    "single_frame": "still_top1",
    "reversed": "reversed_top1",
    "shuffled": "shuffled_top1",
    "reference_best": "reference_best.top1",
    "bytes": "bytes.total",
}  # of what stands beside, in a result file
WORDS = {"single_frame": "single frame", "reference_best": "reference best"}
SCORES = {
    "top1": "top-1 %",
    "top5": "top-5 %",
    "still_top1": "single frame top-1 %",
    "still_top5": "single frame top-5 %",
    "reversed_top1": "reversed top-1 %",
    "shuffled_top1": "shuffled top-1 %",
}


@dataclass(frozen=True)
class Row:
    """What is known of a cell.

    Args:
        cell: which.
        values: score of every student on every set, in percent.
        sets: condensed sets they are from.
        published: mean and deviation of the paper, where known.
        beside: further figures, means over sets.
        reason: why something is missing.
    """

    cell: Cell
    values: tuple[float, ...]
    sets: int
    published: tuple[float | None, float | None] = (None, None)
    beside: dict[str, float | None] = field(default_factory=dict)
    reason: str = ""

    @property
    def mean(self) -> float | None:
        """Over students and sets."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample deviation over students and sets."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        theirs = self.published[0]
        return None if self.mean is None or theirs is None else self.mean - theirs

    def text(self) -> str:
        """`17.4 ± 0.3 (17.7, -0.3)`: ours, published, difference."""
        ours = with_spread(self.mean, self.std)
        if self.published[0] is None:
            return ours
        beside = with_spread(*self.published)
        return f"{ours} ({beside}, {self.difference:+.1f})" if ours else f"({beside})"


def with_spread(mean: float | None, spread: float | None) -> str:
    """`31.0 ± 1.4`; nothing of nothing."""
    return "" if mean is None else f"{mean:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def rows(plan: Plan, root: Path, outcomes: Mapping[str, Outcome]) -> list[Row]:
    """What the steps have written, per cell.

    Args:
        plan: cells and steps.
        root: folder of all steps.
        outcomes: how the steps of this run ended.
    """
    published = plan.study.published
    every = [] if published is None else entries(published)
    found = []
    for cell in plan.cells:
        results = [
            read_json(plan.steps[n].folder(root) / f"{RESULT}.json")
            for n in cell.runs
            if finished(plan.steps[n], root)
        ]
        beside = {
            name: mean_of([at(result, SHORT.get(name, name)) for result in results])
            for name in plan.study.table.beside
        }
        printed = (None, None) if published is None else of_cell(every, published, cell.values, cell.score)
        values = [
            value for result in results for value in scores(result, cell.score, plan.study.seeds.students)
        ]
        reason = (
            ""
            if len(results) == len(cell.runs)
            else "; ".join(dict.fromkeys(why(plan, root, cell, outcomes)))
        )
        found.append(Row(cell, tuple(values), len(results), printed, beside, reason))
    return found


def scores(result: Mapping[str, Any], score: str, students: int) -> list[float]:
    """Of the first students."""
    by_seed = dict(zip(result["seeds"], result[score]["values"], strict=True))
    return [by_seed[seed] for seed in range(students)]


def at(result: Mapping[str, Any], path: str) -> float | None:
    """A figure of a result by its dotted name; the mean where there are several."""
    figure: Any = result
    for part in path.split("."):
        figure = figure.get(part) if isinstance(figure, dict) else None
    if isinstance(figure, dict):
        figure = figure.get("mean")
    return mean_of(figure) if isinstance(figure, list) else None if figure is None else float(figure)


def mean_of(values: Sequence[float | None]) -> float | None:
    """Mean of those that are there."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def why(plan: Plan, root: Path, cell: Cell, outcomes: Mapping[str, Outcome]) -> list[str]:
    """What keeps a cell from its result: failures of this run, or of an earlier one."""
    told = []
    for name in sorted(plan.needed(cell.runs)):
        record = plan.steps[name].folder(root) / RECORD
        if name in outcomes:
            outcome = outcomes[name]
        elif record.is_file() and not finished(plan.steps[name], root):
            outcome = Outcome(**read_json(record))
        else:
            continue
        if outcome.state == "failed":
            told.append(f"{name}: {outcome.reason}")
    return told


# -- writing ---------------------------------------------------------------------------------------------


def labelled(study: Study, value: Value | None) -> str:
    """How a value is printed."""
    return "all" if value is None else study.table.names.get(value, str(value))


def varying(found: Sequence[Row]) -> list[str]:
    """Axes of which cells have different values: those that names must tell."""
    values: dict[str, set[str]] = {}
    for row in found:
        for axis, value in row.cell.values.items():
            values.setdefault(axis, set()).add(str(value))
    return [axis for axis, some in values.items() if len(some) > 1]


def leading(study: Study, found: Sequence[Row]) -> list[str]:
    """Axes that name the lines of the table."""
    taken = {*study.table.rows, *study.table.columns}
    return study.table.rows + [axis for axis in varying(found) if axis not in taken]


def pivot(study: Study, found: Sequence[Row]) -> list[list[str]]:
    """Header and lines, rows and columns as the paper prints them."""
    columns, down = study.table.columns, leading(study, found)
    across = list(dict.fromkeys(tuple(row.cell.values.get(axis) for axis in columns) for row in found))
    lines: dict[tuple[Value | None, ...], dict[tuple[Value | None, ...], str]] = {}
    for row in found:
        key = tuple(row.cell.values.get(axis) for axis in down)
        lines.setdefault(key, {})[tuple(row.cell.values.get(axis) for axis in columns)] = row.text()
    heads = [", ".join(labelled(study, v) for v in one) or SCORES[study.table.score] for one in across]
    body = [
        [*(labelled(study, v) for v in key), *(line.get(one, "") for one in across)]
        for key, line in lines.items()
    ]
    return [[*down, *heads], *body]


def long(study: Study, found: Sequence[Row]) -> list[list[str]]:
    """Header and lines, one per cell, with all that stands beside."""
    beside = study.table.beside
    header = [
        *study.axes,
        "score",
        "mean ± std",
        "runs",
        "published",
        "difference",
        *(WORDS.get(b, b) for b in beside),
    ]
    lines = [header]
    for row in found:
        figures = [row.beside.get(name) for name in beside]
        lines.append([
            *(labelled(study, row.cell.values.get(axis)) for axis in study.axes),
            SCORES[row.cell.score],
            with_spread(row.mean, row.std),
            f"{len(row.values)}" if row.values else "",
            with_spread(*row.published),
            "" if row.difference is None else f"{row.difference:+.1f}",
            *("" if f is None else f"{f:,.1f}" if f < 1000 else f"{f:,.0f}" for f in figures),
        ])  # fmt: skip
    return lines


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    header, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, ["---"] * len(header), *rest))


def as_markdown(study: Study, found: Sequence[Row]) -> str:
    """The page: what the study is, its table, every cell, and what went wrong."""
    shown = "ours, mean ± std in percent" + (" (published, difference)" if study.published else "")
    parts = [
        f"# {study.title}\n",
        f"{study.source}. {shown}; {study.seeds.students} students on each of {study.seeds.condensation} sets. "
        "Empty: not run.\n",
        f"* Held fixed: {study.fixed.strip()}\n* Expected: {study.claim.strip()}\n",
        markdown(pivot(study, found)),
        f"## Every cell\n\n{markdown(long(study, found))}",
    ]
    failed = [f"* {row.cell.name}: {row.reason}\n" for row in found if row.reason]
    return "\n".join(parts) + ("\n## Not made\n\n" + "".join(failed) if failed else "")


def as_csv(study: Study, found: Sequence[Row]) -> str:
    """One line per cell, unrounded."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ["score", "mean", "std", "values", "sets", "published", "published_std", "difference"]
    writer.writerow([*study.axes, *about, *study.table.beside, "reason"])
    for row in found:
        line: list[Any] = [row.cell.values.get(axis) for axis in study.axes]
        line += [row.cell.score, row.mean, row.std, " ".join(map(str, row.values)), row.sets]
        line += [
            *row.published,
            row.difference,
            *(row.beside.get(name) for name in study.table.beside),
            row.reason,
        ]
        writer.writerow(["" if value is None else value for value in line])
    return text.getvalue()


def write(study: Study, found: Sequence[Row], folder: Path) -> None:
    """`table.md`, `table.csv`, and `table.json`, with which the page opens."""
    words = {name: getattr(study, name).strip() for name in ("title", "source", "fixed", "claim")}
    held = words | {"texts": len(leading(study, found)), "table": pivot(study, found)}
    write_json(folder / "table.json", held)
    for name, text in (("table.md", as_markdown(study, found)), ("table.csv", as_csv(study, found))):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
