"""A plot of a study, fit for a paper: lines over sizes, or bars, with published numbers as hollow marks."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from vdc.study.study import Study
from vdc.study.table import SCORES, Row, labelled, varying
from vdc.system.files import atomic_write

HEIGHT, WIDTH, STEP = 200, 240, 22  # pixels of a panel; of a bar
BAR = "#4c78a8"
LIGHT = {"background": "white", "font": "Liberation Sans, sans-serif", "view": {"stroke": None}}


def draw(study: Study, found: Sequence[Row], folder: Path) -> None:
    """Write `plot.png` and `plot.pdf`; nothing where no cell has a number.

    Args:
        study: whose last column is the horizontal axis of `lines`; other columns are panels.
        found: its cells.
        folder: of the files.
    """
    shown = [row for row in found if row.mean is not None or row.published[0] is not None]
    if not shown:
        return
    spec = json.dumps(chart(study, shown).to_dict(validate=False) | {"config": LIGHT})
    files: dict[str, Callable[[], bytes]] = {
        "plot.png": lambda: vl_convert.vegalite_to_png(spec, scale=3),
        "plot.pdf": lambda: vl_convert.vegalite_to_pdf(spec),
    }
    for name, render in files.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_bytes(render())


def chart(study: Study, shown: Sequence[Row]) -> Any:
    """Panels side by side, each with its own horizontal axis."""
    lines = study.table.plot == "lines" and bool(study.table.columns)
    panels = study.table.columns[:-1] if lines else study.table.columns[:1]
    across = study.table.columns[-1] if lines else None
    told = varying(shown)
    points = [point(study, row, panels, across, told) for row in shown]
    if across is not None:  # a bound without size is a level across all sizes
        ticks = list(dict.fromkeys(one["x"] for one in points if one["x"] != "all"))
        points = [
            one | {"x": tick} for one in points for tick in (ticks if one["x"] == "all" else [one["x"]])
        ]
    keys = list(dict.fromkeys(one["panel"] for one in points))
    parts = [panel(points, key, across) for key in keys]
    return alt.hconcat(*parts).resolve_scale(color="shared", x="independent", y="independent")


def point(
    study: Study, row: Row, panels: Sequence[str], across: str | None, told: Sequence[str]
) -> dict[str, Any]:
    """A cell as Vega-Lite has it, named by the axes `told`."""
    values = row.cell.values
    rest = [axis for axis in values if axis in told and axis not in panels and axis != across]
    series = ", ".join(labelled(study, values[axis]) for axis in rest)
    spread = row.std or 0.0
    return {
        "panel": ", ".join(labelled(study, values.get(axis)) for axis in panels),
        "series": series,
        "x": series if across is None else labelled(study, values.get(across)),
        "mean": row.mean,
        "low": None if row.mean is None else row.mean - spread,
        "high": None if row.mean is None else row.mean + spread,
        "published": row.published[0],
        "score": SCORES[row.cell.score],
    }


def panel(points: Sequence[dict[str, Any]], key: str, across: str | None) -> Any:
    """One panel: marks of ours with deviations, hollow ones of the paper."""
    own = [one for one in points if one["panel"] == key]
    return bars(own, key) if across is None else curves(own, key, across)


def bars(own: Sequence[dict[str, Any]], key: str) -> Any:
    """A bar per cell, named in full at its left."""
    names = list(dict.fromkeys(one["x"] for one in own))
    base = alt.Chart(alt.InlineData(values=own))
    ours = base.transform_filter("isValid(datum.mean)")
    y = alt.Y("x:N", sort=names, title=None, axis=alt.Axis(labelLimit=260, ticks=False))
    x = alt.X("mean:Q", title=own[0]["score"], scale=alt.Scale(zero=True))
    ends = {name: alt.X(f"{name}:Q", title=own[0]["score"]) for name in ("low", "published")}
    theirs = base.transform_filter("isValid(datum.published)").mark_point(
        filled=False, size=40, color="black"
    )
    marks = [
        ours.mark_bar(size=0.6 * STEP, color=BAR).encode(y=y, x=x),
        ours.mark_rule(color="black").encode(y=y, x=ends["low"], x2="high:Q"),
        theirs.encode(y=y, x=ends["published"]),
    ]
    return alt.layer(*marks).properties(height=STEP * len(names), width=WIDTH, title=key)


def curves(own: Sequence[dict[str, Any]], key: str, across: str) -> Any:
    """A line per series over the sizes `across`."""
    order = list(dict.fromkeys(one["x"] for one in own))
    base = alt.Chart(alt.InlineData(values=own))
    ours = base.transform_filter("isValid(datum.mean)")
    x = alt.X("x:N", sort=order, title=across, axis=alt.Axis(labelAngle=0, labelLimit=220))
    y = alt.Y("mean:Q", title=own[0]["score"], scale=alt.Scale(zero=False))
    ends = {name: alt.Y(f"{name}:Q", title=own[0]["score"]) for name in ("low", "published")}
    color = alt.Color("series:N", title=None, legend=alt.Legend(orient="bottom", columns=3))
    theirs = base.transform_filter("isValid(datum.published)").mark_point(filled=False, size=40)
    marks = [
        ours.mark_line(strokeWidth=1.2).encode(x=x, y=y, color=color),
        ours.mark_point(filled=True, size=30, opacity=1).encode(x=x, y=y, color=color),
        ours.mark_rule().encode(x=x, y=ends["low"], y2="high:Q", color=color),
        theirs.encode(x=x, y=ends["published"], color=color),
    ]
    return alt.layer(*marks).properties(height=HEIGHT, width=WIDTH, title=key)
