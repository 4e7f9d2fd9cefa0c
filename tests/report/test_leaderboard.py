"""A leaderboard takes nothing on trust: each change of a file has its reason."""

import json
from pathlib import Path

import pytest
import torch

from tests.small import SPEC, Videos, make_set
from vdc.evaluate.condensed_data import CondensedData
from vdc.evaluate.evaluate import condensed_task
from vdc.report.leaderboard import leaderboard
from vdc.train.protocol import Protocol
from vdc.train.scores import pack

ANSWERS = {0: [1, 1, 1, 0, 0, 0, 1, 1, 0, 0, 1, 0], 1: [1, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 0]}  # 6 and 7 of 12


def evaluated(path):
    """A set of one evaluation, by the code that writes those, of answers by hand."""
    data = CondensedData(make_set(path), Protocol(epochs=2), Videos())
    task = condensed_task(data, "tiny", {}, Path(path) / "evaluations", "one")
    runs = {}
    for seed, bits in ANSWERS.items():
        score = 100 * sum(bits) / 12
        runs[seed] = {
            "seed": seed, "top1": score, "top5": None, "still_top1": 1.0, "still_top5": None,
            "per_class": [score] * 3, "confusion": [[1] * 3] * 3, "videos": 12, "seconds": 1.0,
            "correct": pack(torch.tensor(bits, dtype=torch.bool)), "checks": [],
        }  # fmt: skip
    task.summarise(runs, with_checks=False)
    return Path(path) / "evaluations/one.json"


def test_an_honest_evaluation_is_ranked(tmp_path, capsys):
    evaluated(tmp_path / "set")
    board = leaderboard([str(tmp_path / "set")], str(tmp_path / "board"))
    (line,) = board["ranked"]
    assert board["refused"] == []
    assert (line["method"], line["ipc"], line["student"], line["seeds"]) == ("Random", 2, "tiny", 2)
    assert line["top1"] == pytest.approx(100 * 6.5 / 12, abs=1e-3)
    assert line["bytes"] == 6 * SPEC.nbytes + 6
    told = json.loads((tmp_path / "board/leaderboard.json").read_text())
    assert told["ranked"][0]["key"] == line["key"]
    page = (tmp_path / "board/leaderboard.html").read_text()
    assert "54.2 ± 5.9" in page
    assert "Not ranked" not in page
    assert capsys.readouterr().out.startswith("1 ranked, 0 refused")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda held: held["top1"].update(mean=90.0), "top1.mean is 90.0, its seeds give 54"),
        (
            lambda held: held["top1"].update(values=[50.0, 100.0]),
            "top1 of seed 1 is 100.0, its stored answers give 58",
        ),
        (lambda held: held["top1"].update(std=0.1), "top1.std is 0.1"),
        (lambda held: held["protocol"].update(epochs=1), "its key follows from no set here"),
        (lambda held: held.update(student="minic3d"), "its key follows from no set here"),
        (lambda held: held.update(ipc=1), "its key follows from no set here"),
        (lambda held: held["bytes"].update(clips=5), "bytes.clips is 5, its set takes"),
        (lambda held: held["bytes"].update(total=5), "bytes.total is 5, its parts are"),
        (lambda held: held.update(method="NCFM"), "method or classes are not those of its set"),
        (lambda held: held.update(correct=None), "no answers to the test clips"),
    ],
)
def test_what_was_changed_is_refused_with_its_reason(change, reason, tmp_path):
    file = evaluated(tmp_path / "set")
    held = json.loads(file.read_text())
    change(held)
    file.write_text(json.dumps(held))
    board = leaderboard([str(tmp_path / "set")], str(tmp_path / "board"))
    assert board["ranked"] == []
    assert reason in board["refused"][0]["reason"]
    assert reason.replace("'", "&#39;") in (tmp_path / "board/leaderboard.html").read_text()


def test_a_damaged_set_takes_its_evaluations_with_it(tmp_path):
    evaluated(tmp_path / "set")
    clips = tmp_path / "set/clips.safetensors"
    clips.write_bytes(clips.read_bytes()[:-1] + b"x")
    board = leaderboard([str(tmp_path / "set")], str(tmp_path / "board"))
    assert board["ranked"] == []
    assert "has changed" in board["refused"][0]["reason"]
    assert "its key follows from no set here" in board["refused"][1]["reason"]


def test_a_twin_stands_beside_its_method(tmp_path):
    """Another method's evaluation of the same clips and protocol: zero points ahead."""
    file = evaluated(tmp_path / "set")
    evaluated(tmp_path / "twin")
    manifest = tmp_path / "set/manifest.json"
    held = json.loads(manifest.read_text())
    from vdc.condensed.format import _digest

    held["method"] = "DM"
    held["digest"] = _digest(held)
    manifest.write_text(json.dumps(held))
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"method": "DM"}))
    board = leaderboard([str(tmp_path / "set"), str(tmp_path / "twin")], str(tmp_path / "board"))
    lines = {line["method"]: line for line in board["ranked"]}
    assert lines["DM"]["ahead"] == 0.0
    assert lines["Random"]["random_twin"] is None
