"""Which classes are taken for which, as a chart: for TensorBoard and for reports."""

import io
import json
from collections.abc import Sequence
from typing import Any

from PIL import Image

LABELLED = 40  # classes: of more, names would be unreadable
NUMBERED = 12  # classes whose cells show their share


def confusion_chart(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> Any:
    """A Vega-Altair chart of a confusion matrix: true classes below each other, shares of their videos in cells.

    Args:
        counts: (K, K) videos, true class first.
        classes: K names.
    """
    import altair as alt  # takes a second to import, and only pictures need it

    cells = [
        {"true": classes[i], "predicted": classes[j], "videos": count, "share": count / sum(row)}
        for i, row in enumerate(counts) for j, count in enumerate(row) if count
    ]  # fmt: skip
    side = max(200, min(22 * len(classes), 640))
    names = alt.Axis(labels=len(classes) <= LABELLED, ticks=False, labelLimit=110, domain=False)
    base = alt.Chart(alt.InlineData(values=cells)).encode(
        x=alt.X("predicted:N", sort=list(classes), scale=alt.Scale(domain=list(classes)), axis=names),
        y=alt.Y("true:N", sort=list(classes), scale=alt.Scale(domain=list(classes)), axis=names),
        tooltip=[alt.Tooltip("true:N"), alt.Tooltip("predicted:N"), alt.Tooltip("videos:Q"),
                 alt.Tooltip("share:Q", format=".0%")],
    )  # fmt: skip
    opacity = alt.Opacity("share:Q", legend=None, scale=alt.Scale(domain=[0, 1], range=[0.05, 1]))
    layers = [base.mark_rect(color="#4c78a8").encode(opacity=opacity)]
    if len(classes) <= NUMBERED:
        layers.append(base.mark_text(fontSize=10).encode(text=alt.Text("share:Q", format=".0%")))
    return alt.layer(*layers).properties(width=side, height=side)


def confusion_png(counts: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[bytes, tuple[int, int]]:
    """The chart on white, as a PNG file; its height and width."""
    import vl_convert  # a second, as above

    spec = confusion_chart(counts, classes).to_dict(validate=False) | {"config": {"background": "white"}}
    png: bytes = vl_convert.vegalite_to_png(json.dumps(spec), scale=2)
    return png, Image.open(io.BytesIO(png)).size[::-1]
