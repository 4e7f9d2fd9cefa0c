"""Tables: what was measured, what was published, and what is not there."""

import csv
import json
from dataclasses import replace
from io import StringIO

import pytest
import yaml

from vdc.report.study import opening
from vdc.study.plan import plan
from vdc.study.plot import draw
from vdc.study.study import load
from vdc.study.table import as_csv, as_markdown, leading, long, pivot, rows
from vdc.study.table import write as write_table


@pytest.fixture
def made(write, held, tmp_path, monkeypatch):
    """A plan, with results of three of its four cells and published numbers of two."""
    monkeypatch.chdir(tmp_path)
    entries = [
        {"table": 1, "method": "A", "ipc": 1, "metric": "top1", "value": 20.0, "std": 1.0},
        {"table": 1, "method": "b", "ipc": 1, "metric": "top1", "value": 30.0},
        {"table": 1, "method": "b", "ipc": 5, "metric": "top5", "value": 99.0},
        {"table": 2, "method": "b", "ipc": 1, "metric": "top1", "value": 1.0},
    ]
    path = tmp_path / "studies/published/paper.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(yaml.safe_dump({"results": entries}))
    held["published"] = {"file": "paper", "where": {"table": 1}, "names": {"method": {"a": "A"}}}
    held["table"]["names"] = {"a": "Method A"}
    held["seeds"] = {"condensation": 2, "students": 2}
    made = plan(load(write(held)))
    for cell, base in zip(made.cells, (10.0, 20.0, 40.0), strict=False):
        for number, name in enumerate(cell.runs):
            values = [base + number, base + number + 2, 77.0]  # of a third student, who is not asked for
            score = {"mean": 0.0, "values": values}
            result = {
                "seeds": [0, 1, 2],
                "top1": score,
                "still_top1": {"mean": 5.0 + number},
                "bytes": {"total": 1000},
            }
            folder = made.steps[name].folder(tmp_path / "out")
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps(result | {"final_loss": [1.0, 2.0]}))
    return made


def test_ours_over_sets_and_students_beside_the_published(made, tmp_path):
    found = rows(made, tmp_path / "out", {})
    first = found[0]
    assert first.values == (10.0, 12.0, 11.0, 13.0)
    assert first.mean == 11.5
    assert first.std == pytest.approx(1.29099, abs=1e-5)
    assert (first.published, first.difference) == ((20.0, 1.0), -8.5)
    assert first.beside == {"single_frame": 5.5, "bytes": 1000.0}
    assert found[3].mean is None
    assert found[3].published == (None, None)  # top-5 is another score


def test_rows_and_columns_as_the_study_has_them(made, tmp_path):
    assert pivot(made.study, rows(made, tmp_path / "out", {})) == [
        ["method", "1", "5"],
        ["Method A", "11.5 ± 1.3 (20.0 ± 1.0, -8.5)", "21.5 ± 1.3"],
        ["b", "41.5 ± 1.3 (30.0, +11.5)", ""],
    ]


def test_the_long_table_and_the_page(made, tmp_path):
    found = rows(made, tmp_path / "out", {})
    assert long(made.study, found)[1] == [
        "Method A", "1", "top-1 %", "11.5 ± 1.3", "4", "20.0 ± 1.0", "-8.5", "5.5", "1,000",
    ]  # fmt: skip
    page = as_markdown(made.study, found)
    assert page.startswith("# A table\n\nDoe 2024, Table 1.")
    assert "| b | 41.5 ± 1.3 (30.0, +11.5) |  |" in page
    assert "2 students on each of 2 sets" in page


def test_any_figure_of_a_result_stands_beside(made, tmp_path):
    study = replace(made.study, table=replace(made.study.table, beside=["final_loss", "nothing"]))
    found = rows(replace(made, study=study), tmp_path / "out", {})
    assert found[0].beside == {"final_loss": 1.5, "nothing": None}


def test_the_csv_is_unrounded_and_empty_where_nothing_ran(made, tmp_path):
    lines = list(csv.DictReader(StringIO(as_csv(made.study, rows(made, tmp_path / "out", {})))))
    assert [line["mean"] for line in lines] == ["11.5", "21.5", "41.5", ""]
    assert lines[0]["values"] == "10.0 12.0 11.0 13.0"
    assert (lines[2]["published"], lines[2]["difference"]) == ("30.0", "11.5")
    assert lines[3]["values"] == ""


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_files_and_plots(made, tmp_path, kind):
    study = replace(made.study, table=replace(made.study.table, plot=kind))
    found = rows(made, tmp_path / "out", {})
    write_table(study, found, tmp_path / "page")
    draw(study, found, tmp_path / "page")
    names = {path.name for path in (tmp_path / "page").iterdir()}
    assert names == {"table.md", "table.csv", "table.json", "plot.png", "plot.pdf"}
    told = opening(str(tmp_path / "page"))
    assert (told.title, told.table[0][: told.texts]) == (study.title, leading(study, found))
    assert (tmp_path / "page/plot.pdf").read_bytes().startswith(b"%PDF")


def test_nothing_is_drawn_of_nothing(made, tmp_path):
    draw(made.study, [], tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_published_files_are_checked(made, tmp_path):
    path = tmp_path / "studies/published/paper.yaml"
    path.write_text("results: [{method: a}]")
    with pytest.raises(ValueError, match=r"paper.yaml has no list `results`"):
        rows(made, tmp_path / "out", {})
    path.write_text("results: [{method: a, value: 3, table: 9}]")
    with pytest.raises(ValueError, match=r"no entry of \{'table': 1\}"):
        rows(made, tmp_path / "out", {})
