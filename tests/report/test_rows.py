"""Tables of evaluations, from results written by hand."""

import csv
import json

import pytest

from tests.mutants import fault, mutants
from tests.small import CLASSES
from vdc.nets import build, save_teacher
from vdc.report.charts import picture
from vdc.report.report import report
from vdc.report.results import files_of
from vdc.report.rows import as_markdown
from vdc.spec import ClipSpec


def result(method="RDED", ipc=1, top1=(30.0, 32.0), total=1000, student="minic3d", labels="hard", **options):
    spread = {"mean": sum(top1) / len(top1), "std": 1.4142 if len(top1) > 1 else None, "values": list(top1)}
    return {
        "format": "vdc evaluation",
        "method": method,
        "ipc": ipc,
        "classes": CLASSES,
        "train_videos": 50,
        "test_videos": 9,
        "student": student,
        "net_options": options,
        "seeds": list(range(len(top1))),
        "spec": {"frames": 4, "size": 10, "stored_frames": None},
        "protocol": {"name": "videodc", "labels": labels},
        "top1": spread,
        "top5": {"mean": 90.0, "std": None, "values": [90.0]},
        "still_top1": {"mean": 12.3, "std": None, "values": [12.3]},
        "reference_best": {"top1": {"mean": 35.0, "std": None, "values": [35.0]}} if ipc else None,
        "bytes": {"clips": total, "labels": 0, "teacher": 0, "total": total},
        "source": {"train": {"videos": 50, "bytes": 40000, "sha256": "t"}, "test": {"sha256": "e"}},
    }


@pytest.fixture
def runs(tmp_path):
    held = {
        "a/evaluations/x.json": result(),
        "a/evaluations/x/seed0/result.json": {"seed": 0, "top1": 99.0},
        "a/other.json": {"format": "vdc condensed set"},
        "a/evaluations/twin.json": result("Random", top1=(20.0,)),
        "full/f.json": result("full data", None, (62.0,), 60000),
        "full/other.json": result("full data", None, (80.0,), 60000, student="i3d"),
    }
    for name, content in held.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_every_result_is_one_line_with_its_ratios(runs):
    rows = report([str(runs / "a"), str(runs / "full")], show=False)
    assert [(row.method, row.ipc) for row in rows] == [
        ("full data", None), ("full data", None), ("RDED", 1), ("Random", 1)
    ]  # fmt: skip
    rded = rows[2]
    assert (rded.top1, rded.top1_std, rded.reference_best, rded.single_frame) == (31.0, 1.4142, 35.0, 12.3)
    assert rded.accuracy_ratio == pytest.approx(31 / 62)  # of the same student, not of i3d
    assert rded.of_source == 1000 / 40000
    assert (
        rows[0].bytes == 40050
    )  # the source files and a label each, not the raw pixels that old results tell
    assert report([str(runs)], show=False) == rows
    assert len(report([str(runs), str(runs / "a" / "evaluations" / "x.json")], show=False)) == 4


def test_files_hold_the_table(runs, tmp_path):
    out = tmp_path / "out"
    report([str(runs / "a")], out=str(out), show=False)
    lines = list(csv.DictReader((out / "report.csv").open()))
    assert [line["method"] for line in lines] == ["RDED", "Random"]
    assert float(lines[0]["top1"]) == 31.0
    assert lines[1]["top1_std"] == ""
    table = (out / "report.md").read_text().splitlines()
    assert len(table) == 4
    assert [cell.strip() for cell in table[2].split("|")[1:-1]] == [
        "RDED", "1", "hard", "minic3d", "31.0 ± 1.4", "", "1,000", "2.5 %", "", "12.3", "35.0"
    ]  # fmt: skip
    assert (out / "report.png").read_bytes().startswith(b"\x89PNG")


def test_probes_of_order_are_columns_where_they_are_known(runs, tmp_path):
    probes = {"reversed_top1": {"mean": 25.0, "std": 1.0}, "shuffled_top1": {"mean": 22.5, "std": None}}
    path = runs / "a/evaluations/x.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | probes))
    row = next(
        row
        for row in report([str(runs / "a")], out=str(tmp_path / "out"), show=False)
        if row.method == "RDED"
    )
    assert (row.reversed, row.shuffled) == (25.0, 22.5)
    head, _, line, other = (tmp_path / "out/report.md").read_text().splitlines()
    shown = [[cell.strip() for cell in text.split("|")] for text in (head, line, other)]
    where = shown[0].index("reversed")
    assert [cells[where : where + 2] for cells in shown] == [
        ["reversed", "shuffled"],
        ["25.0", "22.5"],
        ["", ""],
    ]


def test_students_are_named_with_their_unusual_options(tmp_path):
    plain, unusual = result(norm="bn"), result(top1=(50.0,), norm="in", width=0.5)
    for name, held in (("a", plain), ("b", unusual)):
        (tmp_path / f"{name}.json").write_text(json.dumps(held))
    rows = report([str(tmp_path)], show=False)
    assert [(row.method, row.student) for row in rows] == [
        ("RDED", "minic3d"),
        ("RDED", "minic3d, norm in, width 0.5"),
    ]


def test_printed_table_names_the_scores(runs, capsys):
    report([str(runs)])
    printed = capsys.readouterr().out
    assert "31.0" in printed
    assert "RDED" in printed


def test_published_numbers_stand_beside(runs, tmp_path):
    paper = tmp_path / "paper.yaml"
    paper.write_text(
        "results:\n"
        "- {table: 6, dataset: ucf101, ipc: 1, method: rded, labels: multi_sl, metric: top1, value: 17.7}\n"
        "- {table: 6, dataset: k400, ipc: 1, method: rded, metric: top5, value: 11.9, std: 0.2}\n"
    )
    rows = report([str(runs / "a")], published=str(paper), show=False)
    assert [(row.method, row.top1, row.top5) for row in rows[2:]] == [
        ("rded (published)", 17.7, None), ("rded (published)", None, 11.9)
    ]  # fmt: skip
    assert "11.9 ± 0.2" in as_markdown(rows)
    picture(rows, tmp_path / "plot.png")
    assert [row.top5 for row in report([str(runs / "a")], None, str(paper), "k400", False)[2:]] == [11.9]
    with pytest.raises(ValueError, match="it knows k400, ucf101"):
        report([str(runs / "a")], None, str(paper), "hmdb51", False)


@pytest.mark.parametrize(
    ("dirs", "paper", "message"),
    [(["nowhere"], None, "is not there"), (["."], None, "no evaluations"), (["a"], "gone.yaml", "gone.yaml"),
     (["a"], "a/other.json", "no list `results`")],
)  # fmt: skip
def test_what_cannot_be_read_is_said(runs, tmp_path, monkeypatch, dirs, paper, message):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if dirs == ["."] else runs)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        report(dirs, published=paper, show=False)


def test_sets_of_one_method_are_told_apart_by_their_folders(tmp_path):
    held = {"edc-1": result(), "sre2l-1": result(top1=(10.0,)), "five": result(ipc=5)}
    for name, content in held.items():
        folder = tmp_path / name / "condensed" / "evaluations"
        folder.mkdir(parents=True)
        (folder / "hard.json").write_text(json.dumps(content))
    methods = [(row.method, row.setting) for row in report([str(tmp_path)], show=False)]
    assert methods == [("RDED", "edc-1"), ("RDED", "sre2l-1"), ("RDED", "")]


def test_a_teacher_is_a_bound_of_its_own_network(tmp_path):
    info = {
        "source": {"train": {"videos": 7, "bytes": 5000}},
        "test": {"top1": 80.0, "top5": 100.0, "still_top1": 30.0, "videos": 5},
        "classes": ["a", "b"],
        "recipe": {"seed": 3, "protocol": {"name": "teacher", "labels": "hard"}},
    }
    save_teacher(tmp_path, build("cnn_mean", 2, ClipSpec(frames=2, size=32)), info)
    (row,) = report([str(tmp_path)], show=False)
    assert (row.method, row.ipc, row.seeds, row.top1, row.single_frame) == ("full data", None, 1, 80.0, 30.0)
    assert row.bytes == 5000 + 7  # files, and one byte per label
    assert (row.steps, row.final_loss) == (None, None)
    assert row.accuracy_ratio == 1.0
    own = result(student="cnn_mean", top1=(20.0,)) | {"classes": ["a", "b"], "test_videos": 5}
    own["spec"] |= {"frames": 2, "size": 32}
    (tmp_path / "own.json").write_text(json.dumps(own))
    (tmp_path / "other.json").write_text(json.dumps(own | {"net_options": {"crop": 24}}))
    ratios = {row.source: row.accuracy_ratio for row in report([str(tmp_path)], show=False)}
    assert ratios[str(tmp_path / "own.json")] == 0.25  # options that are not given are the defaults
    assert ratios[str(tmp_path / "other.json")] is None


STORED = {
    "steps": [40, 40],
    "final_loss": [0.2, 0.4],
    "correct": ["a", "b"],
    "stored_ipc": 1,
    "per_class": None,
}
BOUND = {
    "format": 1, "net": "tiny", "options": {}, "num_classes": 3, "classes": CLASSES, "sha256": "0" * 64,
    "spec": {"frames": 4, "size": 10},
    "source": {part: {"videos": 7, "bytes": 5000, "sha256": "x"} for part in ("train", "test")},
    "test": {
        "top1": 80.0, "top5": None, "still_top1": 30.0, "videos": 5, "steps": 40, "final_loss": 0.1, "correct": "a",
    },
    "recipe": {"seed": 3, "protocol": {"name": "teacher", "labels": "hard"}},
}  # fmt: skip


@pytest.mark.parametrize("name", ["result", "teacher"])
def test_every_changed_result_is_shown_or_refused_in_one_line(tmp_path, name):
    path = tmp_path / f"{name}.json"
    whole = BOUND if name == "teacher" else result() | STORED
    path.write_text(json.dumps(whole))
    assert report([str(tmp_path)], show=False)
    refused = 0
    for how, changed in mutants(whole):
        if changed.get("format") != whole["format"]:
            continue  # none of ours
        path.write_text(json.dumps(changed))
        refused += fault(lambda: as_markdown(report([str(tmp_path)], show=False)), path, how)
    assert refused > 200


def test_steps_and_the_last_loss_stand_beside_the_score(tmp_path):
    held = {"old": result("DM"), "new": result() | {"steps": [40, 40], "final_loss": [0.2, 0.4]}}
    for name, content in held.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    rows = {row.method: row for row in report([str(tmp_path)], show=False)}
    assert (rows["RDED"].steps, rows["RDED"].final_loss) == (40, pytest.approx(0.3))
    assert rows["DM"].steps is None
    assert "| steps | train loss |" in as_markdown(list(rows.values()))
    assert "steps" not in as_markdown([rows["DM"]])  # nobody knows them


def test_bytes_over_all_training_clips_coded(tmp_path):
    coded = {"format": "vdc coded clips", "train": "t", "frames": 4, "size": 10, "stride": 8, "bytes": 500}
    held = result()
    held["spec"]["stride"] = 8
    (tmp_path / "a.json").write_text(json.dumps(held))
    (tmp_path / "coded.json").write_text(json.dumps(coded))
    (row,) = report([str(tmp_path)], show=False)
    assert row.of_coded == 2.0
    (tmp_path / "coded.json").write_text(json.dumps(coded | {"size": 20}))
    assert report([str(tmp_path)], show=False)[0].of_coded is None


def test_links_out_of_a_folder_are_followed_and_nothing_is_read_twice(tmp_path):
    step = tmp_path / "steps/evaluate-1"
    (step / "before-1").mkdir(parents=True)
    for path in (step / "result.json", step / "before-1/old.json"):
        path.write_text("{}")
    (tmp_path / "steps/newest").symlink_to(step.name)
    for cell in ("a/1", "b/2"):
        (tmp_path / "cells" / cell).mkdir(parents=True)
        (tmp_path / "cells" / cell / step.name).symlink_to(step)
    assert files_of(tmp_path / "steps") == [step / "result.json"]
    assert files_of(tmp_path / "cells") == [tmp_path / "cells/a/1/evaluate-1/result.json"]
    assert files_of(tmp_path) == [step / "result.json"]
