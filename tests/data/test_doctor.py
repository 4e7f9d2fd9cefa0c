"""`vdc doctor`: what is in a set, and what would break or falsify a run on it."""

import io
import json
import os
import shutil

import av
import pytest
from rich.console import Console

from tests.data.test_index import touch
from tests.data.videos import write
from vdc.cli import main
from vdc.data.doctor import examine, lists_in


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two classes in train and test folders, nothing wrong."""
    root = tmp_path_factory.mktemp("sound")
    tag = 0
    for part in ("train", "test"):
        for name in ("run", "walk"):
            for i in range(2):
                write(root / part / name / f"{i}.mp4", 8 + tag, tag=5 + 10 * tag, size=(24, 32))
                tag += 1
    return root


@pytest.fixture
def root(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "set")


def kinds(found, grave=True):
    return sorted(finding.kind for finding in found.findings if finding.grave == grave)


def of(found, kind):
    return next(finding for finding in found.findings if finding.kind == kind)


def remux(path, target):
    """The same packets in another container."""
    with av.open(str(path)) as source, av.open(str(target), "w") as film:
        stream = film.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                film.mux(packet)


def test_a_sound_set_is_clean(sound):
    found = examine(str(sound))
    assert found.clean
    assert found.findings == ()
    assert found.classes == {"run": {"train": 2, "test": 2}, "walk": {"train": 2, "test": 2}}
    assert found.frames == (8, 11.5, 15)
    assert found.sizes == {"32 x 24": 8}
    assert found.bytes == sum(path.stat().st_size for path in sound.rglob("*.mp4"))
    assert json.loads(json.dumps(found.as_json()))["clean"] is True


def test_broken_and_missing_videos(root):
    (root / "train/run/0.mp4").write_bytes(b"nothing")
    whole = (root / "train/walk/1.mp4").read_bytes()
    (root / "train/walk/1.mp4").write_bytes(whole[: len(whole) // 2])
    found = examine(str(root))
    assert kinds(found) == ["broken"]
    assert len(of(found, "broken").paths) == 2
    (root / "train.txt").write_text("train/run/1.mp4 0\ntrain/walk/0.mp4 1\ntrain/walk/gone.mp4 1\n")
    (root / "test.txt").write_text("test/run/1.mp4 0\ntest/walk/0.mp4 1\n")
    found = examine(str(root))
    assert kinds(found) == ["missing"]
    assert of(found, "missing").paths == (str(root / "train/walk/gone.mp4"),)
    (root / "test.txt").unlink()
    assert "no test videos" in of(examine(str(root), "train.txt"), "note").message


@pytest.mark.parametrize("how", ["copy", "container", "link"])
def test_a_leak_is_found_by_content(root, how):
    source, target = root / "train/run/0.mp4", root / "test/run/9.mp4"
    if how == "copy":
        shutil.copyfile(source, target)
    elif how == "link":
        target.symlink_to(source)
    else:
        target = target.with_suffix(".mkv")
        remux(source, target)
        assert source.read_bytes() != target.read_bytes()
    found = examine(str(root), whole=False)
    assert kinds(found) == ["leak"]
    told = {
        "copy": "files of the same bytes",
        "link": "one file",
        "container": "files that show the same frames",
    }
    assert of(found, "leak").message.startswith(f"{told[how]} in train and test")
    assert of(found, "leak").paths == (f"train: {source}", f"test: {target}")


def test_one_video_with_two_labels_and_one_twice(root):
    shutil.copyfile(root / "train/run/0.mp4", root / "train/walk/9.mp4")
    shutil.copyfile(root / "train/run/1.mp4", root / "train/run/9.mp4")
    found = examine(str(root), whole=False)
    assert kinds(found) == ["labels"]
    assert "with two labels, run and walk" in of(found, "labels").message
    assert "duplicate" in kinds(found, grave=False)


def test_classes_that_cannot_be_learnt(root):
    for i in range(2):
        (root / f"train/run/{i}.mp4").write_bytes(b"nothing")
    found = examine(str(root))
    assert kinds(found) == ["broken", "classes"]
    assert "1 of 2 classes have no train video that can be read: 'run'" in of(found, "classes").message
    shutil.rmtree(root / "train/run")
    shutil.rmtree(root / "test/run")
    assert "a single class, 'walk'" in of(examine(str(root)), "classes").message


def test_what_only_needs_to_be_known_is_no_fault(root):
    touch(root, "train/run/notes.txt", "train/run/a.MTS")
    shutil.rmtree(root / "test/run")
    (root / "test/run").mkdir()
    shutil.copyfile(root / "train/run/0.mp4", root / "test/run/x_g01_c01.mp4")
    (root / "test/run/x_g01_c01.mp4").unlink()
    write(root / "test/run/1.mp4", 20, tag=200, size=(24, 32))
    found = examine(str(root), whole=False)
    assert found.clean
    assert "1 .mts" in of(found, "note").message


def test_recordings_in_both_parts_are_told_by_names(tmp_path):
    for i, (part, name) in enumerate(
        [("train", "v_walk_g01_c01"), ("train", "v_walk_g02_c01"), ("test", "v_walk_g01_c02")]
    ):
        write(tmp_path / part / "walk" / f"{name}.mp4", 8, tag=10 * i)
    found = examine(str(tmp_path), whole=False)
    assert any("1 of 1 tested sources are trained on too, told by UCF101's groups: v_walk_g01" in f.message
               for f in found.findings)  # fmt: skip


def test_a_bad_list_is_a_finding(root):
    (root / "train.txt").write_text("train/run/1.mp4 0\ntrain/walk/0.mp4 x\n")
    found = examine(str(root))
    assert kinds(found) == ["list"]
    assert "train.txt:2: 'x' is not a label" in of(found, "list").message


def test_lists_are_found_by_their_names(tmp_path):
    assert lists_in(tmp_path) == {}
    touch(tmp_path, "test.csv", "notes.txt", ".train.txt", "._train.txt")
    assert lists_in(tmp_path) == {}
    touch(tmp_path, "Train.txt", "val.json", "training.mp4")
    assert lists_in(tmp_path) == {"train": "Train.txt", "val": "val.json", "test": "test.csv"}
    touch(tmp_path / "ucf", "trainlist01.txt", "testlist01.txt", "classInd.txt")
    assert lists_in(tmp_path / "ucf") == {"train": "trainlist01.txt", "test": "testlist01.txt"}


ODD = ["jump [high]", "a [/b]", "[red]x", os.fsdecode(b"gr\xfcn"), "\x1b[2Jclear"]


def test_names_are_printed_as_they_are(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for part in ("train", "test"):
        lines = []
        for i, name in enumerate(ODD):
            write(tmp_path / part / f"[{i}].mp4", 8 + i, tag=10 + 40 * i + (part == "test"), size=(24, 32))
            lines.append(f"{part}/[{i}].mp4;{name}\n")
        (tmp_path / f"{part}.csv").write_bytes(os.fsencode("".join(lines).replace("\x1b", "")))
    shutil.copyfile(tmp_path / "train/[1].mp4", tmp_path / "test/[0].mp4")
    with pytest.raises(SystemExit, match="1"):
        main(["doctor", str(tmp_path), "--json", str(tmp_path / "out.json"), "--quick", "true"])
    printed = capsys.readouterr().out
    for name in ("jump [high]", "a [/b]", "[red]x", "gr\\udcfcn", "[2Jclear", "test/[0].mp4"):
        assert name in printed
    held = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert sorted(held["classes"]) == sorted(name.replace("\x1b", "") for name in ODD)
    assert held["clean"] is False
    folder = tmp_path / "folders" / "train"
    for i, name in enumerate(("new\nline", "\x1b[2Jclear")):  # names that a list cannot hold
        write(folder / name / "1.mp4", 8, tag=50 * i)
    main(["doctor", str(folder), "--quick", "true"])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "new\\nline" in printed


def test_the_command(sound, root, capsys):
    main(["doctor", str(sound)])
    assert "nothing found that would break or falsify a run" in capsys.readouterr().out
    (root / "train/run/0.mp4").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="1"):
        main(["doctor", str(root)])
    assert "broken: 1 videos cannot be read" in capsys.readouterr().out
    (root / "list.txt").write_text("train/run/1.mp4 0\ntrain/walk/0.mp4 1\n")
    main(["doctor", str(root / "list.txt")])
    for args, match in (
        ([str(root / "nowhere")], "no such file or folder"),
        ([str(root), "--train", "none.txt"], "none.txt: no such list"),
        ([str(root / "list.txt"), "--train", "x.txt"], "is a list itself"),
        ([str(root), "--frmat", "x"], "frmat"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["doctor", *args])
        assert match in capsys.readouterr().err


def test_the_table_keeps_to_80_columns(sound):
    console = Console(width=80, file=io.StringIO())
    console.print(examine(str(sound), whole=False).table())
    text = console.file.getvalue()
    assert "…" not in text
    assert "8 to 15, median 11.5" in text
    assert max(map(len, text.splitlines())) <= 80
