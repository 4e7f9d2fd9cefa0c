"""Accuracy against size: sets that are cut to every size, against a run per size (He 2024: baselines A, B, C)."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import altair as alt
from rich.table import Table

from vdc.evaluate.results import student_of
from vdc.report.charts import Chart, labelled_lines, stacked, write_png
from vdc.report.tables import fitted, markdown, size
from vdc.system.files import atomic_write

Kind = Literal["separate", "joined", "prefix", "multi-size", "selection"]
Result = tuple[str, dict[str, Any]]  # file and what it holds
Group = tuple[str, str, str, str]  # method, labels, student, protocol
OLDER_SELECTIONS = ("Random", "Herding", "KCenter", "RDED")
Runs = dict[tuple[Any, int], dict[int, list[float]]]  # (set or seed, student's seed) -> items -> top-1

KINDS: dict[Kind, str] = {
    "separate": "A: a run per size",
    "joined": "B: runs of one item, joined",
    "prefix": "C: prefixes of one run",
    "multi-size": "multi-size",
    "selection": "selection order: sizes for free",
}


@dataclass(frozen=True)
class Curve:
    """Accuracy of several sizes of one thing; top-1 in percent."""

    method: str
    labels: str
    student: str
    protocol: str
    kind: Kind
    runs: int  # sets x student seeds
    sizes: tuple[int, ...]  # items per class
    top1: tuple[float, ...]  # mean over runs
    spread: tuple[float | None, ...]  # deviation over runs
    bytes: tuple[int, ...]  # stored to have all sizes up to this one
    average: float  # over sizes
    average_spread: float | None  # deviation over runs
    gain: float | None  # average minus that of C, over the sizes that both have


# -- curves ----------------------------------------------------------------------------------------------


def curves(results: Sequence[Result]) -> list[Curve]:
    """Curves of all methods that were evaluated at two sizes or more, in the order of `KINDS`."""
    groups: dict[Group, list[dict[str, Any]]] = defaultdict(list)
    for _, held in results:
        if held["ipc"] is not None:
            protocol = held["protocol"]
            groups[held["method"], protocol["labels"], student_of(held), protocol["name"]].append(held)
    found = []
    for group, members in sorted(groups.items()):
        parts = {kind: list(of_kind(kind, members)) for kind in KINDS}
        each = {kind: curve(group, kind, held) for kind, held in parts.items()}
        base = each["prefix"]
        found += [compared(one, base) for one in each.values() if one is not None]
    return found


def of_kind(kind: Kind, members: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The results of one method that make the curve of a kind."""
    plain = [held for held in members if held.get("sizes", "plain") == "plain"]
    chosen = selects(members[0])
    if kind in ("joined", "multi-size"):
        members = [held for held in members if held.get("sizes") == kind]
    elif (kind == "selection") != chosen and kind != "prefix":
        members = []
    elif kind == "separate":
        members = [held for held in plain if whole(held) == held["ipc"]]
    else:
        members = [] if kind == "prefix" and chosen else plain
    if kind != "separate":
        largest = max((whole(held) for held in members if held["ipc"] < whole(held)), default=0)
        members = [held for held in members if whole(held) == largest]
    yield from members


def selects(held: dict[str, Any]) -> bool:
    """Whether the method chooses real clips: results of before version 0.2 do not say so, but name it."""
    return bool(held.get("selects", held["method"] in OLDER_SELECTIONS))


def whole(held: dict[str, Any]) -> int:
    """Items per class of the set that a result is of, or of a prefix of."""
    return int(held.get("stored_ipc", held["ipc"]))


def curve(group: Group, kind: Kind, members: Sequence[dict[str, Any]]) -> Curve | None:
    """The curve of some results over the sizes that all runs have; `None` of less than two."""
    runs: Runs = defaultdict(lambda: defaultdict(list))
    cost: dict[int, list[int]] = defaultdict(list)
    for held in members:
        run = held.get("condensed_seed", 0) if kind == "separate" else held.get("condensed")
        cost[held["ipc"]].append(held["bytes"]["total"])
        for seed, score in zip(held["seeds"], held["top1"]["values"], strict=True):
            runs[run, seed][held["ipc"]].append(score)
    sizes = sorted(set.intersection(*map(set, runs.values()))) if runs else []
    if len(sizes) < 2:
        return None
    table = [[statistics.fmean(run[n]) for n in sizes] for run in runs.values()]
    averages = [statistics.fmean(row) for row in table]
    stored = [round(statistics.fmean(cost[n])) for n in sizes]
    if kind == "separate":  # every size is a set of its own
        stored = [sum(stored[: i + 1]) for i in range(len(stored))]
    columns = list(zip(*table, strict=True))
    return Curve(
        *group, kind, len(table), tuple(sizes), tuple(map(statistics.fmean, columns)),
        tuple(map(deviation, columns)), tuple(stored), statistics.fmean(averages), deviation(averages), None,
    )  # fmt: skip


def deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation, `None` of one value."""
    return statistics.stdev(values) if len(values) > 1 else None


def compared(one: Curve, base: Curve | None) -> Curve:
    """A curve with its gain over that of C."""
    shared = set(one.sizes) & set(base.sizes) if base is not None else set()
    if base is None or not shared:
        return one
    ours, theirs = (
        statistics.fmean(y for n, y in zip(c.sizes, c.top1, strict=True) if n in shared) for c in (one, base)
    )
    return Curve(**{**one.__dict__, "gain": ours - theirs})


# -- writing ---------------------------------------------------------------------------------------------


def lines(found: Sequence[Curve]) -> Iterator[list[str]]:
    """Header and lines of the table, in words."""
    sizes = sorted({n for one in found for n in one.sizes})
    yield ["method", "labels", "student", "sizes from", *map(str, sizes), "average", "vs C", "bytes of all"]
    for one in found:
        scores = {n: with_spread(y, s) for n, y, s in zip(one.sizes, one.top1, one.spread, strict=True)}
        gain = "" if one.gain is None else f"{one.gain:+.1f}"
        yield [
            one.method, one.labels, one.student, KINDS[one.kind], *(scores.get(n, "") for n in sizes),
            with_spread(one.average, one.average_spread), gain, f"{one.bytes[-1]:,}",
        ]  # fmt: skip


def with_spread(value: float, spread: float | None) -> str:
    """`31.0 ± 1.4`."""
    return f"{value:.1f}" + ("" if spread is None else f" ± {spread:.1f}")


def as_tables(found: Sequence[Curve], width: int) -> list[Table]:
    """The table for a terminal of `width` columns, in several parts where it is narrow."""
    header, *rest = lines(found)
    return fitted(header, rest, 4, width, "top-1 % by items per class")


def write(found: Sequence[Curve], folder: Path) -> None:
    """`sizes.csv`, a line per curve and size, unrounded; `sizes.md` and `sizes.png`."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    about = ("method", "labels", "student", "protocol", "kind", "runs", "average", "average_spread", "gain")
    writer.writerow([*about, "size", "top1", "spread", "bytes"])
    for one in found:
        fixed = [getattr(one, name) for name in about]
        for line in zip(one.sizes, one.top1, one.spread, one.bytes, strict=True):
            writer.writerow(["" if value is None else value for value in (*fixed, *line)])
    header, *rest = lines(found)
    for name, content in (("sizes.csv", text.getvalue()), ("sizes.md", markdown(header, rest))):
        with atomic_write(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    write_png(
        stacked([chart.properties(title=title) for title, chart in charts(found)]), folder / "sizes.png"
    )


def charts(found: Sequence[Curve]) -> list[tuple[str, Chart]]:
    """Charts of the learnt methods of which several curves, or selection methods beside, can be compared."""
    learnt = [one for one in found if one.kind != "selection"]
    made = []
    for group in dict.fromkeys(group_of(one) for one in learnt or found):
        shown = [one for one in found if group_of(one) == group]
        shown += [one for one in found if one not in shown and one.kind == "selection"]
        if len(shown) < 2:
            continue  # one line says no more than the chart of bytes
        points = [point for one in shown for point in points_of(one)]
        x = alt.X("x:Q", title="items per class", axis=alt.Axis(tickMinStep=1, format="d"),
                  scale=alt.Scale(padding=14, nice=False))  # fmt: skip
        made.append((", ".join(group[:3]), labelled_lines(points, x, greys="Random")))
    return made


def points_of(one: Curve) -> Iterator[dict[str, Any]]:
    """A curve's points, with what they take on disk."""
    name = KINDS[one.kind] if one.kind != "selection" else f"{one.method}: selection order"
    for n, top1, spread, stored in zip(one.sizes, one.top1, one.spread, one.bytes, strict=True):
        edges = {"low": top1 - (spread or 0), "high": top1 + (spread or 0)}
        yield {
            "name": name,
            "x": n,
            "top1": top1,
            **edges,
            "items": f"{size(stored)} for all sizes up to {n}",
        }


def group_of(one: Curve) -> Group:
    """Method, labels, student and protocol."""
    return one.method, one.labels, one.student, one.protocol
