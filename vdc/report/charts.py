"""Charts of evaluations, as Vega-Altair makes them: for the page, and as PNG files."""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from vdc.report.rows import Row, name_of
from vdc.report.tables import size
from vdc.system.files import atomic_write

Chart = Any  # one of Altair's many, which share no base
PALETTE = [
    "#4c78a8",
    "#e45756",
    "#54a24b",
    "#b279a2",
    "#e8822a",
    "#3fa7a0",
    "#9d755d",
    "#d67195",
    "#7f7fd5",
    "#a8a23b",
]  # mid-tones: on white and on black
GREY, BLUE = "#8a8a8a", "#4c78a8"  # references; a single thing
LINE, CHARACTER, LABEL = 13, 6.2, 220  # pixels: between labels, of a letter, of the longest label
HEIGHT, WIDTH = 300, 560
SAME = 1.02  # sizes that differ by less are one
TICKS = 6  # values that an axis shows themselves
LIGHT = {"background": "white", "font": "Liberation Sans, sans-serif", "view": {"stroke": None}}
BYTES = (
    "datum.value >= 1e9 ? format(datum.value / 1e9, '.3~r') + ' GB' : datum.value >= 1e6 ? format(datum.value / 1e6, "
    "'.3~r') + ' MB' : datum.value >= 1e3 ? format(datum.value / 1e3, '.3~r') + ' kB' : datum.value + ' B'"
)


def scored(rows: Iterable[Row]) -> list[Row]:
    """Lines that hold an accuracy."""
    return [row for row in rows if row.top1 is not None]


def panels(rows: Iterable[Row], key: Callable[[Row], Any]) -> dict[Any, list[Row]]:
    """Lines by what they share."""
    found: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        found[key(row)].append(row)
    return dict(found)


def bound_of(rows: Iterable[Row], student: str) -> Row | None:
    """The line of a student on the full data; of several the best."""
    full = [row for row in rows if row.ipc is None and row.student == student and row.method == "full data"]
    return max(full, key=lambda row: row.top1 or 0.0, default=None)


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Places of labels near their heights, at least `gap` apart, in the same order."""
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    blocks: list[tuple[float, list[int]]] = []  # middle, members: neighbours that touch move as one
    for i in order:
        middle, members = heights[i], [i]
        while blocks and middle - blocks[-1][0] < gap * (len(members) + len(blocks[-1][1])) / 2:
            below, others = blocks.pop()
            middle = (middle * len(members) + below * len(others)) / (len(members) + len(others))
            members = others + members
        blocks.append((middle, members))
    places = [0.0] * len(heights)
    for middle, members in blocks:
        for rank, i in enumerate(members):
            places[i] = middle + gap * (rank - (len(members) - 1) / 2)
    return places


def comparison(rows: Sequence[Row], full: Row | None) -> Chart:
    """Accuracy of lines of one size, best first: a dot and its deviation each, the band of Random, and full data.

    Args:
        rows: of one size, student and kind of labels.
        full: that student on the full data.
    """
    points: list[dict[str, Any]] = [
        {"name": name_of(row), "top1": row.top1, "low": row.top1 - (row.top1_std or 0), "bytes": size(row.bytes),
         "high": row.top1 + (row.top1_std or 0), "random": row.method == "Random"}
        for row in sorted(rows, key=lambda row: -(row.top1 or 0)) if row.top1 is not None
    ]  # fmt: skip
    names = list(dict.fromkeys(point["name"] for point in points))
    y = alt.Y("name:N", sort=names, title=None, axis=alt.Axis(labelLimit=LABEL, ticks=False, domain=False))
    x = alt.X("top1:Q", title="top-1 (%)", scale=alt.Scale(zero=False, nice=True, padding=8))
    shade = alt.condition("datum.random", alt.value(GREY), alt.value(BLUE))
    base = alt.Chart(alt.InlineData(values=points))
    tooltip = [alt.Tooltip("name:N"), alt.Tooltip("top1:Q", format=".1f"), alt.Tooltip("bytes:N")]
    layers: list[Any] = []
    if any(point["random"] for point in points):
        band = [point for point in points if point["random"]]
        layers.append(
            alt.Chart(alt.InlineData(values=band))
            .mark_rect(opacity=0.18, color=GREY)
            .encode(x="low:Q", x2="high:Q")
        )
    layers += references(full)
    layers += [
        base.mark_rule(strokeWidth=2).encode(
            y=y, x=alt.X("low:Q", title="top-1 (%)"), x2="high:Q", color=shade
        ),
        base.mark_point(filled=True, size=70, opacity=1).encode(y=y, x=x, color=shade, tooltip=tooltip),
        base.mark_text(dy=-10, fontSize=10).encode(y=y, x=x, text=alt.Text("top1:Q", format=".1f")),
    ]
    return alt.layer(*layers).properties(height=max(60, 30 * len(names)), width=WIDTH)


def references(full: Row | None) -> list[Any]:
    """A dashed line at the full data."""
    if full is None:
        return []
    data = alt.InlineData(values=[{"full": full.top1, "text": f"full data {full.top1:.1f}"}])
    rule = alt.Chart(data).mark_rule(strokeDash=[5, 4], color=GREY).encode(x="full:Q", tooltip="text:N")
    text = alt.Chart(data).mark_text(align="right", dx=-4, baseline="top", fontSize=10)
    return [rule, text.encode(x="full:Q", y=alt.value(2), text="text:N")]


def labelled_lines(
    points: Sequence[Mapping[str, Any]], x: alt.X, full: Row | None = None, greys: str = "Random"
) -> Chart:
    """Lines with error bars, each named at its end; grey bands for the references among them.

    Args:
        points: `name`, `x`, `top1`, `low`, `high` and `items`, words about the point; in the order of x.
        x: of the field `x`.
        full: a dashed level.
        greys: how names of references begin.
    """
    ends = {point["name"]: point for point in points}
    heights = [point[edge] for point in points for edge in ("low", "high")]
    heights += [full.top1] if full is not None and full.top1 is not None else []
    gap = LINE * max(max(heights) - min(heights), 1) / HEIGHT
    places = spread_out([end["top1"] for end in ends.values()], gap)
    labels = [
        {"name": name, "x": end["x"], "top1": y} for (name, end), y in zip(ends.items(), places, strict=True)
    ]
    grey = [name for name in ends if name.startswith(greys)]
    bright = [name for name in ends if name not in grey]
    shades = [PALETTE[i % len(PALETTE)] for i in range(len(bright))] + [GREY] * len(grey)
    color = alt.Color("name:N", legend=None, scale=alt.Scale(domain=bright + grey, range=shades))
    y = alt.Y("top1:Q", title="top-1 (%)", scale=alt.Scale(zero=False, padding=8))
    low = alt.Y("low:Q", title="top-1 (%)")
    base = alt.Chart(alt.InlineData(values=points))
    tooltip = [alt.Tooltip("name:N"), alt.Tooltip("items:N"), alt.Tooltip("top1:Q", format=".1f")]
    band = alt.Chart(alt.InlineData(values=[point for point in points if point["name"] in grey]))
    layers: list[Any] = []
    if grey:
        layers.append(
            band.mark_area(opacity=0.15, color=GREY).encode(x=x, y=low, y2="high:Q", detail="name:N")
        )
    if full is not None:
        level = alt.Chart(alt.InlineData(values=[{"top1": full.top1, "text": f"full data {full.top1:.1f}"}]))
        told = level.mark_text(align="left", baseline="bottom", dx=4, dy=-2, fontSize=10)
        layers += [
            level.mark_rule(strokeDash=[5, 4], color=GREY).encode(y=y, tooltip="text:N"),
            told.encode(y=y, x=alt.value(0), text="text:N"),
        ]
    ends_at = alt.Chart(alt.InlineData(values=labels))
    dot, word = (ends_at.mark_text(align="left", dx=dx, fontSize=11, limit=LABEL) for dx in (9, 20))
    layers += [
        base.mark_line(strokeWidth=1.6).encode(x=x, y=y, color=color, detail="name:N"),
        base.mark_rule(strokeWidth=1.2).encode(x=x, y=low, y2="high:Q", color=color),
        base.mark_point(filled=True, size=55, opacity=1).encode(x=x, y=y, color=color, tooltip=tooltip),
        dot.encode(x=x, y=y, text=alt.value("\u25cf"), color=color),
        word.encode(x=x, y=y, text="name:N"),
    ]
    right = min(max(map(len, ends)) * CHARACTER + 26, LABEL)
    padding = {"left": 5, "top": 5, "bottom": 5, "right": right}
    return alt.layer(*layers).properties(height=HEIGHT, width=WIDTH, padding=padding)


def curve(rows: Sequence[Row], full: Row | None, across: str) -> Chart | None:
    """Accuracy against bytes or steps.

    Args:
        rows: of one student and kind of labels.
        full: that student on the full data.
        across: `bytes` or `steps`.

    Returns:
        `None` where all lines share one place: `comparison` shows them better.
    """
    shown = [row for row in scored(rows) if getattr(row, across) and row.ipc is not None]
    places = [getattr(row, across) for row in shown]
    if not places or max(places) < SAME * min(places):
        return None
    shown.sort(key=lambda row: getattr(row, across))
    ticks = steps_between([float(getattr(row, across)) for row in shown])
    axis = (
        alt.Axis(labelExpr=BYTES, values=ticks) if across == "bytes" else alt.Axis(format=",d", values=ticks)
    )
    title = "bytes a student needs from the disk" if across == "bytes" else "steps of training a student"
    x = alt.X("x:Q", title=title, scale=alt.Scale(type="log", padding=14, nice=False), axis=axis)
    return labelled_lines([point_of(row, getattr(row, across)) for row in shown], x, full)


def steps_between(values: Sequence[float]) -> list[float]:
    """Ticks of a logarithmic axis: the values themselves if they are few and apart, else 1, 2, 5, 10 and so on."""
    own = sorted(set(values))
    if len(own) <= TICKS and all(b > 1.3 * a for a, b in pairwise(own)):
        return own
    decades = range(math.floor(math.log10(own[0])), math.ceil(math.log10(own[-1])) + 1)
    found = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    return [tick for tick in found if own[0] <= tick <= own[-1]] or [own[0], own[-1]]


def point_of(row: Row, x: float) -> dict[str, Any]:
    """A line of the table as a point."""
    top1, deviation = row.top1 or 0.0, row.top1_std or 0.0
    edges = {"low": top1 - deviation, "high": top1 + deviation}
    return {
        "name": name_of(row),
        "x": x,
        "top1": top1,
        **edges,
        "items": f"{row.ipc} per class, {size(row.bytes)}",
    }


# -- one evaluation ---------------------------------------------------------------------------------------


def per_class(scores: Mapping[str, float | None], beside: Mapping[str, Mapping[str, float | None]]) -> Chart:
    """Accuracy of every class, best first, with marks of other evaluations.

    Args:
        scores: by class, percent.
        beside: names of the others, e.g. full data and Random, and theirs.
    """
    known = {name: score for name, score in scores.items() if score is not None}
    order = sorted(known, key=lambda name: -known[name])
    bars = alt.Chart(alt.InlineData(values=[{"class": name, "top1": known[name]} for name in order]))
    y = alt.Y(
        "class:N", sort=order, title=None, axis=alt.Axis(labelLimit=130, ticks=False, labelOverlap=False)
    )
    x = alt.X("top1:Q", title="accuracy (%)", scale=alt.Scale(domain=[0, 100]))
    tooltip = [alt.Tooltip("class:N"), alt.Tooltip("of:N"), alt.Tooltip("top1:Q", format=".1f")]
    marks = [
        {"class": name, "top1": score, "of": of}
        for of, others in beside.items() for name, score in others.items() if score is not None
    ]  # fmt: skip
    layers: list[Any] = [
        bars.mark_bar(color=BLUE, height={"band": 0.7}).encode(y=y, x=x, tooltip=tooltip[::2])
    ]
    if marks:
        shape = alt.Shape(
            "of:N", title=None, legend=alt.Legend(orient="top"), scale=alt.Scale(range=["diamond", "circle"])
        )
        point = alt.Chart(alt.InlineData(values=marks)).mark_point(
            color=GREY, filled=True, size=60, opacity=1, stroke="white", strokeWidth=1
        )
        layers.append(point.encode(y=y, x=x, shape=shape, tooltip=tooltip))
    return alt.layer(*layers).properties(height=max(60, 17 * len(order)), width=WIDTH)


def learning(curves: Mapping[str, Sequence[Sequence[float]]], title: str) -> Chart | None:
    """Loss against steps, a line per run.

    Args:
        curves: (step, loss) by name of the run; `None` comes of runs without any.
        title: of the loss.
    """
    points: list[dict[str, Any]] = [
        {"run": name, "step": step, "loss": loss}
        for name, pairs in curves.items() for step, loss in pairs if loss == loss and abs(loss) != float("inf")
    ]  # fmt: skip
    if not points:
        return None
    scale = alt.Scale(type="log" if all(point["loss"] > 0 for point in points) else "linear", nice=False)
    encoded = alt.Chart(alt.InlineData(values=points)).mark_line(strokeWidth=1.4).encode(
        x=alt.X("step:Q", title="step", axis=alt.Axis(format=",d", tickMinStep=1)),
        y=alt.Y("loss:Q", title=title, scale=scale, axis=alt.Axis(format="~g", tickCount=5)),
        color=alt.Color("run:N", title=None, scale=alt.Scale(range=PALETTE), legend=alt.Legend(orient="top")),
        tooltip=[alt.Tooltip("run:N"), alt.Tooltip("step:Q"), alt.Tooltip("loss:Q", format=".3g")],
    )  # fmt: skip
    return encoded.properties(height=200, width=WIDTH)


# -- files ------------------------------------------------------------------------------------------------


def overview(rows: Sequence[Row]) -> list[tuple[str, Chart]]:
    """All charts that compare lines, with titles: bytes and steps of every student and labels, then each size."""
    found: list[tuple[str, Chart]] = []
    students = {row.student for row in rows}
    for (student, labels), members in panels(
        [row for row in scored(rows) if row.ipc is not None], lambda row: (row.student, row.labels)
    ).items():
        full = bound_of(scored(rows), student)
        words = ", ".join([f"{labels} labels"] * bool(labels) + [student] * (len(students) > 1))
        for across in ("bytes", "steps"):
            chart = curve(members, full, across)
            if chart is not None:
                found.append((f"Accuracy against {across}: {words}", chart))
        for ipc, same in sorted(panels(members, lambda row: row.ipc).items()):
            found.append(
                (f"{ipc} {'item' if ipc == 1 else 'items'} per class: {words}", comparison(same, full))
            )
    return found


def picture(rows: Sequence[Row], path: Path) -> None:
    """All charts that compare lines as one PNG file; of nothing to compare, none."""
    charts = overview(rows)
    if charts:
        write_png(stacked([chart.properties(title=title) for title, chart in charts]), path)


def stacked(charts: Sequence[Any]) -> Chart:
    """Charts below each other, with the widest of their margins."""
    margins = [chart.padding for chart in charts if chart.padding is not alt.Undefined]
    for chart in charts:
        chart.padding = alt.Undefined
    right = max((margin["right"] for margin in margins), default=5)
    padding = {"left": 5, "top": 5, "bottom": 5, "right": right}
    return alt.vconcat(*charts).properties(padding=padding).resolve_scale(color="independent")


def write_png(chart: Any, path: Path) -> None:
    """Draw a chart on white."""
    spec = chart.to_dict(validate=False) | {"config": LIGHT}
    png = vl_convert.vegalite_to_png(json.dumps(spec), scale=2)
    with atomic_write(path) as temporary:
        temporary.write_bytes(png)
