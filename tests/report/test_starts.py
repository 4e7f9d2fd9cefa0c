"""Sets of several starts as one line, from results written by hand."""

import json

import pytest

from tests.report.test_rows import result
from vdc.report.report import report
from vdc.report.starts import pooled


def start(seed, top1, method="DM", **changed):
    made_from = changed.pop("init", f"runs/random-{seed}{seed}{seed}{seed}{seed}{seed}/condensed")
    config = {"model": {"class_path": f"vdc.methods.{method}", "init_args": {"init": made_from} | changed}}
    runs = {"steps": [40, 40], "final_loss": [0.5, 0.7]}
    return result(method, top1=top1) | runs | {"condensed_seed": seed, "config": config}


def of(*held):
    return [(f"runs/{i}/x.json", one) for i, one in enumerate(held)]


def test_starts_are_one_line_of_all_runs_by_hand():
    single = result("full data", None, (80.0,))
    other = start(0, (10.0, 20.0), alpha=0.1)
    found = pooled(of(start(0, (30.0, 34.0)), start(1, (40.0, 44.0)), single, other))
    assert [held.get("starts") for _, held in found] == [2, None, None]
    held = found[0][1]
    assert held["top1"] == {"mean": 37.0, "std": 6.2183, "values": [30.0, 34.0, 40.0, 44.0]}
    assert held["reference_best"]["top1"]["values"] == [35.0, 35.0]
    assert held["seeds"] == [0, 1, 0, 1]
    assert (held["steps"], held["final_loss"]) == ([40] * 4, [0.5, 0.7, 0.5, 0.7])
    assert found[1][1] is single
    assert found[2][1] is other


@pytest.mark.parametrize(
    "second",
    [
        start(0, (40.0, 44.0)),  # the same seed again
        start(1, (40.0, 44.0), loss="mmd"),
        start(1, (40.0, 44.0), init="noise"),
        start(1, (40.0,)),  # fewer students
        start(1, (40.0, 44.0)) | {"ipc": 2},
        start(1, (40.0, 44.0)) | {"condensed_seed": None},
        start(1, (40.0, 44.0)) | {"test_data": {"videos": {"sha256": "others"}}},
    ],
)
def test_what_differs_in_anything_else_stays_apart(second):
    assert len(pooled(of(start(0, (30.0, 34.0)), second))) == 2


def test_starts_that_were_made_by_hand_are_known_too():
    runs = [start(seed, (30.0,), init=f"runs/random-grid-ipc1-seed{seed}-abcde{seed}") for seed in range(3)]
    assert [held["starts"] for _, held in pooled(of(*runs))] == [3]
    other = start(1, (30.0,), init="runs/herding-grid-ipc1-seed1-abcdef")
    assert len(pooled(of(runs[0], other))) == 2


def test_the_report_shows_one_line_and_writes_all(tmp_path):
    for file, held in of(start(0, (30.0, 34.0)), start(1, (40.0, 44.0)), result("full data", None, (74.0,))):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(json.dumps(held))
    full, line = report([str(tmp_path)], out=str(tmp_path / "out"), show=False)
    assert (full.starts, line.starts, line.seeds, line.top1, line.accuracy_ratio) == (None, 2, 4, 37.0, 0.5)
    assert line.setting == ""
    assert "| starts |" in (tmp_path / "out/report.md").read_text().replace("  ", " ")
    assert len((tmp_path / "out/report.csv").read_text().splitlines()) == 4  # a head, and a line a file
