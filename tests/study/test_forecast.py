"""What missing steps will take: medians of finished ones, shared steps once in all, nothing guessed."""

import json
from dataclasses import asdict

import pytest

from vdc.cli import main
from vdc.study.forecast import HEADER, Cost, expected, forecast, measured
from vdc.study.plan import plan
from vdc.study.steps import RECORD, Outcome
from vdc.study.study import load

MIB = 2**20


def finish(root, name, outcome, file, text="{}"):
    """A finished step of another study."""
    path = root / "steps" / name / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    folder = root / "steps" / name
    (folder / "data.bin").write_bytes(bytes(MIB))
    (folder / RECORD).write_text(json.dumps(asdict(outcome)))


@pytest.fixture
def costs(tmp_path):
    """Three fits of 10, 20 and 60 seconds, one that failed, and an evaluation of two students."""
    for number, seconds in enumerate((10, 20, 60)):
        outcome = Outcome("done", "", seconds, 1.0, (number + 1) * 100 * MIB)
        finish(tmp_path, f"fit-x-{number:010}", outcome, "condensed/manifest.json")
    finish(tmp_path, "fit-x-9999999999", Outcome("failed", "no", 5000, 1.0, 9000 * MIB), "log.txt")
    result = json.dumps({"seeds": [0, 1], "seconds": {"mean": 7.0}})
    finish(tmp_path, "evaluate-x-0000000000", Outcome("done", "", 9, 1.0, 50 * MIB), "result.json", result)
    return tmp_path


def test_cells_and_all(write, held, costs):
    held["seeds"] = {"students": 3}
    made = plan(load(write(held)))
    lines = {line[0]: line for line in forecast(made, made.steps, costs, 2)[1:]}
    # a fit: 20 s and at most 300 MiB; an evaluation: 3 students of 7 s; a teacher: nobody knows
    assert lines["a/1"] == ["a/1", "2", "2", "0", "0:00:41", "2.0", "300"]
    assert lines["b/1"] == ["b/1", "3", "3", "1", "0:00:41", "2.0", "300"]
    # four cells and one teacher, of two at once
    assert lines["all"] == ["all", "9", "9", "1", "0:01:22", "8.0", "600"]


def test_what_is_there_costs_nothing(write, held, costs):
    made = plan(load(write(held)))
    name = next(name for name, step in made.steps.items() if step.command == "fit")
    finish(costs, name, Outcome("done", "", 20, 1.0, 1), "condensed/manifest.json")
    assert forecast(made, made.steps, costs, 1)[-1][:4] == ["all", "9", "8", "1"]


def test_the_same_config_is_nearer_than_the_same_command(write, held):
    step = next(iter(plan(load(write(held))).steps.values()))
    label = step.name.rsplit("-", 1)[0]
    known = {f"{label}-0000000000": Cost(5, 1, 1), f"{step.command}-other-0000000000": Cost(100, 1, 1)}
    found = expected(step, known)
    assert found is not None
    assert found.seconds == 5
    assert expected(step, {}) is None


def test_records_of_older_steps_have_no_memory(tmp_path):
    finish(tmp_path, "fit-x-0000000000", Outcome("done", "", 3, 1.0), "condensed/manifest.json")
    record = tmp_path / "steps" / "fit-x-0000000000" / RECORD
    held = json.loads(record.read_text())
    del held["memory"]
    record.write_text(json.dumps(held))
    assert measured(tmp_path)["fit-x-0000000000"].memory == 0


def test_a_dry_run_makes_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["study", "demo", "--dry_run", "--cells", "herding", "--sets", "1", "--out", "there"])
    told = capsys.readouterr().out
    assert all(word in told for word in (*HEADER, "herding", "all"))
    assert not any(tmp_path.iterdir())
