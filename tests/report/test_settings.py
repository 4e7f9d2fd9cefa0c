"""Lines of a table that differ in a setting say so."""

import json

from tests.report.test_rows import result
from vdc.report.report import report
from vdc.report.settings import flat, shown, told_apart


def configured(alpha=0.0, loss="ce", memory="Pixels", seed=0, **spec):
    held = result("EDC")
    held["protocol"] |= {"loss": loss}
    held["spec"] |= spec
    held["condensed_seed"] = seed
    model = {"class_path": "vdc.methods.EDC", "init_args": {"alpha": alpha, "out": f"runs/{alpha}", "memory": {
        "class_path": memory, "init_args": {} if memory == "Pixels" else {"factor": 2}}}}  # fmt: skip
    return held | {"config": {"model": model, "data": {"init_args": {"root": f"/{alpha}"}}}}


def settings(tmp_path, **held):
    for name, content in held.items():
        folder = tmp_path / name / "condensed/evaluations"
        folder.mkdir(parents=True)
        (folder / "hard.json").write_text(json.dumps(content))
    rows = {row.source.split("/")[-4]: row.setting for row in report([str(tmp_path)], show=False)}
    return [rows[name] for name in held]


def test_settings_that_differ_are_told_and_places_are_not(tmp_path):
    found = settings(tmp_path, a=configured(0.0), b=configured(0.5), c=configured(0.5, "kl"))
    assert found == ["loss ce, alpha 0", "loss ce, alpha 0.5", "loss kl, alpha 0.5"]


def test_windows_frames_memories_and_starts(tmp_path):
    plain = configured(stored_frames=2, window="none")
    packed = configured(memory="MultiFormation", stored_frames=8, window="slide")
    found = settings(tmp_path, a=plain, b=configured(stored_frames=8, window="slide"), c=packed)
    assert found[0] == "stored_frames 2, window none, memory Pixels"
    assert found[2] == "stored_frames 8, window slide, memory MultiFormation"  # its factor tells nobody apart
    again = [("a", configured(seed=1)), ("b", configured(seed=2))]
    assert told_apart(again, ["kind"] * 2) == ["start 1", "start 2"]


def test_one_set_of_a_kind_says_nothing_and_equal_ones_their_folders(tmp_path):
    assert settings(tmp_path / "one", a=configured(0.3)) == [""]
    assert settings(tmp_path / "two", a=configured(0.3), b=configured(0.3)) == ["a", "b"]


def test_the_configuration_of_older_results_is_that_of_their_sets(tmp_path):
    old = {}
    for name, alpha in (("a", 0.1), ("b", 0.2)):
        held = configured(alpha)
        (tmp_path / name / "condensed").mkdir(parents=True)
        manifest = {"method": "EDC", "config": held.pop("config")}
        (tmp_path / name / "condensed/manifest.json").write_text(json.dumps(manifest))
        folder = tmp_path / name / "condensed/evaluations"
        folder.mkdir()
        (folder / "hard.json").write_text(json.dumps(held))
    old = {row.source.split("/")[-4]: row.setting for row in report([str(tmp_path)], show=False)}
    assert old == {"a": "alpha 0.1", "b": "alpha 0.2"}


def test_flat_and_words():
    config = {
        "model": {
            "class_path": "a.b.EDC",
            "init_args": {"teachers": ["runs/t1", "runs/t2/condensed"], "seed": 3},
        }
    }
    assert flat(config) == {"model": "EDC", "model.teachers": ["t1", "t2"]}
    assert [shown(v) for v in (0.5, True, None, [1, 0.25], "x")] == ["0.5", "yes", "none", "1-0.25", "x"]
