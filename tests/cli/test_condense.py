"""`vdc condense`: from a folder of videos to a page, and what it refuses."""

import math
import shutil
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests.data.videos import write
from vdc.cli import main
from vdc.data.doctor import examine
from vdc.data.settle import settle
from vdc.data.splits import read_lists
from vdc.spec import ClipSpec
from vdc.study.plan import plan
from vdc.study.quick import choose, clip_spec, item_bytes, items, study_text
from vdc.study.study import load


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Two classes of four videos of 16 frames, in class folders."""
    root = tmp_path_factory.mktemp("made") / "my videos"
    for k, name in enumerate(("run fast", "walk")):
        for i in range(4):
            write(root / name / f"{i}.mp4", 16, tag=5 + 10 * (4 * k + i), size=(64, 80))
    return root


@pytest.fixture
def root(made, tmp_path):
    return shutil.copytree(made, tmp_path / "my videos")


def refused(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(["condense", *map(str, words)])
    assert end.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    found = [line for line in lines if line.startswith("error: ")]
    assert len(found) == 1
    return found[0]


def test_what_is_no_set_is_refused(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    file = tmp_path / "a.txt"
    file.write_text("x")
    out = tmp_path / "out"
    assert "holds no class folders" in refused(capsys, tmp_path / "empty", "--out", out)
    assert "is a file" in refused(capsys, file, "--out", out)
    assert "no such file or folder" in refused(capsys, tmp_path / "nowhere", "--out", out)
    assert not out.exists() or not any(out.iterdir())


def test_one_class_is_refused(root, tmp_path, capsys):
    shutil.rmtree(root / "walk")
    assert "a single class, 'run fast'" in refused(capsys, root, "--out", tmp_path / "out")


def test_one_video_of_a_class_is_refused(root, tmp_path, capsys):
    for i in (1, 2, 3):
        (root / "walk" / f"{i}.mp4").unlink()
    line = refused(capsys, root, "--out", tmp_path / "out")
    assert "1 of 2 classes have fewer than two different videos" in line
    assert "('walk')" in line
    assert not any((tmp_path / "out").iterdir())


def test_options_that_cannot_be_met_are_refused(root, tmp_path, capsys, monkeypatch):
    out = ["--out", tmp_path / "out"]
    assert "is 0.16MB" in refused(capsys, root, *out, "--budget", "100kB")  # 2 x 8 x 3 x 56 x 56, up
    assert "expected bytes" in refused(capsys, root, *out, "--budget", "much")
    assert "from 1 to 3" in refused(capsys, root, *out, "--ipc", 4)
    assert "either --ipc or --budget" in refused(capsys, root, *out, "--ipc", 1, "--budget", "5MB")
    assert "minutes must be positive" in refused(capsys, root, *out, "--minutes", 0)
    monkeypatch.setattr(sys.modules["vdc.cli.condense"], "free_bytes", lambda place: 10**6)
    assert "1 MB are free" in refused(capsys, root, *out)
    assert not any((tmp_path / "out").iterdir())


def test_files_of_others_are_kept(root, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "train.txt").write_text("mine")
    assert "not of vdc condense" in refused(capsys, root, "--out", out)
    assert (out / "train.txt").read_text() == "mine"


def test_a_split_is_made_without_broken_videos_and_copies(root, tmp_path):
    (root / "walk" / "bad.mp4").write_bytes(b"no video")
    shutil.copy(root / "walk" / "0.mp4", root / "walk" / "again.mp4")
    found = examine(str(root))
    settled = settle(found, tmp_path / "out")
    lists = read_lists(settled.root, settled.train, settled.test, "auto", None)
    assert lists["train"].classes == ["run fast", "walk"]
    paths = {part: {video.path for video in index.videos} for part, index in lists.items()}
    assert len(paths["train"]) == 6
    assert len(paths["test"]) == 2
    assert not paths["train"] & paths["test"]
    assert not any("bad" in path for held in paths.values() for path in held)
    assert sum("again.mp4" in p or "walk/0.mp4" in p for held in paths.values() for p in held) == 1
    assert settled.counts == [3, 3]
    assert any("names do not tell" in note for note in settled.notes)


def test_a_split_that_is_there_is_taken(root, tmp_path):
    for part in ("train", "val"):
        shutil.copytree(root, tmp_path / "sorted" / part)
    for i in range(2):
        for name in ("run fast", "walk"):
            (tmp_path / "sorted" / "train" / name / f"{i}.mp4").unlink()
    settled = settle(examine(str(tmp_path / "sorted")), tmp_path / "out")
    assert (settled.train, settled.test) == tuple(str(tmp_path / "sorted" / p) for p in ("train", "val"))
    assert settled.counts == [2, 2]
    assert not (tmp_path / "out").exists()


def test_sizes_come_from_the_videos():
    found = SimpleNamespace(sizes={"80 x 64": 3, "320 x 240": 1}, rates={"25": 4}, frames=(8, 29, 100))
    assert clip_spec(found) == ClipSpec(frames=8, size=56, stride=4)
    small = SimpleNamespace(sizes={"60 x 50": 3}, rates={}, frames=(4, 5, 6))
    assert clip_spec(small) == ClipSpec(frames=8, size=48, stride=1)
    long = SimpleNamespace(sizes={"320 x 240": 3}, rates={"25": 3}, frames=(900, 900, 900))
    assert clip_spec(long).stride == 12  # half a second


def test_the_study_fits_the_minutes_and_can_be_run(made, tmp_path):
    found = examine(str(made))
    settled = settle(found, tmp_path)
    spec = clip_spec(found)
    assert items(settled, spec, None, None) == 1
    assert items(settled, spec, None, 4 * item_bytes(spec)) == 2
    least, short, ample = (choose(found, settled, spec, 1, m, 0.016, 1.0) for m in (0.1, 5, 60))
    assert least.epochs == least.full_epochs == 1
    assert least.seconds > 6  # more than was asked for, and said
    assert short.seconds <= 300
    assert (short.students, short.factor, ample.epochs, ample.steps) == (3, 1, 150, 200)
    file = tmp_path / "study.yaml"
    file.write_text(study_text(settled, short, "x", ["two", "lines"]))
    found_plan = plan(load(file))
    assert [cell.name for cell in found_plan.cells] == ["random", "dm", "full"]
    assert [step.command for step in found_plan.steps.values()].count("evaluate") == 3


def test_items_hold_four_clips_where_classes_have_as_many_videos(made, tmp_path):
    found, settled = examine(str(made)), settle(examine(str(made)), tmp_path)
    many = replace(settled, counts=[8, 20])
    spec = clip_spec(found)
    assert [choose(found, many, spec, ipc, 60, 0.016, 1.0).factor for ipc in (1, 2, 3)] == [2, 2, 1]
    chosen = choose(found, many, spec, 1, 60, 0.016, 1.0)
    assert chosen.set_bytes == 2 * item_bytes(spec)
    assert chosen.epochs == math.ceil(75 * 5 / 4)
    assert chosen.learns
    assert not choose(found, many, spec, 2, 3, 0.1, 1.0).learns
    file = tmp_path / "study.yaml"
    file.write_text(study_text(many, chosen, "x", []))
    steps = plan(load(file)).steps.values()
    sets = {step.name: step for step in steps if step.command == "fit"}
    assert [step.settings["model.memory"] for step in sets.values()] == ["MultiFormation"] * 2
    random, dm = sets  # one starts from the other
    assert sets[dm].settings["model.init"] == f"@{random}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_command(made, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["condense", str(made), "--out", str(out), "--minutes", "0.2"]
    main(words)
    said = capsys.readouterr().out
    assert f"page: {out / 'page.html'}" in said.replace("\n", " ")
    assert "more than the 0.2 minutes" in said
    text = (out / "page.html").read_text()
    assert all(name in text for name in ("DM", "Random", "vdc condense"))
    assert len(list(out.glob("steps/evaluate-*/result.json"))) == 3
    main(words)  # nothing is made twice
    assert "going on with" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*words, "--ipc", "1"])
