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
    score = own[0]["score"]
    order = list(dict.fromkeys(one["x"] for one in own))
    base = alt.Chart(alt.InlineData(values=own))
    x = alt.X("x:N", sort=order, title=across, axis=alt.Axis(labelAngle=0 if across else -50, labelLimit=220))
    y = alt.Y("mean:Q", title=score, scale=alt.Scale(zero=across is None))
    legend = alt.Legend(orient="bottom", columns=3) if across else None
    color: Any = alt.Color("series:N", title=None, legend=legend)
    ours = "isValid(datum.mean)"
    if across is None:
        color = alt.value("#4c78a8")
        marks = [base.transform_filter(ours).mark_bar(size=0.6 * STEP).encode(x=x, y=y, color=color)]
    else:
        drawn = base.transform_filter(ours)
        marks = [drawn.mark_line(strokeWidth=1.2).encode(x=x, y=y, color=color)]
        marks += [drawn.mark_point(filled=True, size=30, opacity=1).encode(x=x, y=y, color=color)]
    dark = alt.value("black") if across is None else color
    bars = (
        base.transform_filter(ours)
        .mark_rule()
        .encode(x=x, y=alt.Y("low:Q", title=score), y2="high:Q", color=dark)
    )
    theirs = base.transform_filter("isValid(datum.published)").mark_point(filled=False, size=40)
    marks += [bars, theirs.encode(x=x, y=alt.Y("published:Q", title=score), color=dark)]
    width = WIDTH if across else max(WIDTH, STEP * len(order))
    return alt.layer(*marks).properties(height=HEIGHT, width=width, title=key)
