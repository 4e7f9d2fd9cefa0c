"""Charts: what they say, and that Vega-Lite takes them."""

import itertools

import pytest
from PIL import Image

from tests.report.test_rows import result
from vdc.report.charts import (
    comparison,
    curve,
    learning,
    overview,
    per_class,
    picture,
    spread_out,
    steps_between,
)
from vdc.report.rows import table_rows
from vdc.train.confusion import confusion_chart, confusion_png


def rows(steps=True):
    held = [("full.json", result("full data", None, (80.0, 82.0), 9000))]
    for ipc in (1, 5):
        for method, top1 in (("Random", 20.0), ("RDED", 31.0), ("DM", 34.0)):
            one = result(method, ipc, (top1 + ipc, top1 + ipc + 2), 1000 * ipc)
            more = {"steps": [100 * ipc] * 2, "final_loss": [0.1, 0.1]} if steps else {}
            held.append((f"{method}{ipc}.json", one | more))
    return table_rows(held)


def words(chart):
    return {
        value for held in chart.to_dict()["datasets"].values() for point in held for value in point.values()
    }


def test_names_stand_apart_in_order_and_near_their_lines():
    assert spread_out([1.0, 5.0], 2) == [1.0, 5.0]
    assert spread_out([5.0, 5.0, 5.0], 2) == [3.0, 5.0, 7.0]
    assert spread_out([10.0, 1.0, 1.5, 2.0], 1) == [10.0, 0.5, 1.5, 2.5]
    places = spread_out([1, 1.2, 2.9, 3.0, 3.1, 9], 1)
    assert all(b - a >= 1 - 1e-9 for a, b in itertools.pairwise(places))
    assert spread_out([], 1) == []


def test_ticks_of_a_logarithmic_axis():
    assert steps_between([150, 750, 1500]) == [150, 750, 1500]
    assert steps_between([1000, 1001, 9000]) == [1000, 2000, 5000]
    assert steps_between([float(n) for n in range(3, 40)]) == [5, 10, 20]


def test_every_line_is_named_and_the_bound_is_there():
    (labelled,) = [chart for title, chart in overview(rows()) if title.startswith("Accuracy against bytes")]
    assert {"Random", "RDED", "DM", "full data 81.0"} <= words(labelled)
    assert [title for title, _ in overview(rows())] == [
        "Accuracy against bytes: hard labels", "Accuracy against steps: hard labels",
        "1 item per class: hard labels", "5 items per class: hard labels",
    ]  # fmt: skip
    assert curve(rows(steps=False), None, "steps") is None  # nobody counted
    one = [row for row in rows() if row.ipc == 1]
    assert curve(one, None, "bytes") is None  # all at one place: no line to draw
    assert {"RDED", "Random", "full data 81.0"} <= words(comparison(one, rows()[0]))


def test_charts_of_one_evaluation_are_valid():
    bars = per_class({"a": 10.0, "b": None, "c": 90.0}, {"full data": {"a": 50.0, "b": None, "c": 95.0}})
    assert {10.0, 90.0, 50.0, "full data"} <= words(bars)
    assert None not in words(bars)
    drawn = learning({"seed 0": [(1, 2.0), (2, float("nan")), (3, 1.0)]}, "loss")
    assert words(drawn) == {"seed 0", 1, 2.0, 3}
    assert learning({"seed 0": []}, "loss") is None
    confusion = confusion_chart([[3, 1], [0, 4]], ["a", "b"])
    assert sorted(p["share"] for p in next(iter(confusion.to_dict()["datasets"].values()))) == [
        0.25,
        0.75,
        1.0,
    ]


def test_pictures_are_drawn(tmp_path):
    picture(rows(), tmp_path / "report.png")
    with Image.open(tmp_path / "report.png") as image:
        assert image.width > 1200
        colours = image.convert("RGB").getcolors(1 << 24)
    assert len(colours) > 50
    picture([], tmp_path / "nothing.png")
    assert not (tmp_path / "nothing.png").exists()
    png, size = confusion_png([[3, 1], [0, 4]], ["a", "b"])
    assert png.startswith(b"\x89PNG")
    assert min(size) > 100


@pytest.mark.parametrize("count", [1, 40])
def test_any_number_of_lines_has_names(count):
    held = [
        (f"{n}-{ipc}", result(f"M{n}", ipc, (30.0 + n / 10,), 1000 * ipc))
        for n in range(count)
        for ipc in (1, 5)
    ]
    chart = curve(table_rows(held), None, "bytes")
    assert {f"M{n}" for n in range(count)} <= words(chart)
