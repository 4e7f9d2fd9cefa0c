import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.killing import Killed
from vdc.system import files
from vdc.system.files import (
    HOST,
    atomic_write,
    fresh_dir,
    read_json,
    sha256,
    sweep,
    write_json,
    write_link,
)


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def interrupted(path):
    path.write_text("half")
    raise KeyboardInterrupt


def test_atomic_write_makes_folders_and_leaves_only_the_file(tmp_path):
    with atomic_write(tmp_path / "a" / "x.mp4") as path:
        assert path.suffix == ".mp4"  # an encoder guesses its format from it
        assert path.parent == tmp_path / "a"  # a rename never crosses file systems
        path.write_text("new")
        assert not (tmp_path / "a" / "x.mp4").exists()
    assert names(tmp_path / "a") == ["x.mp4"]
    assert (tmp_path / "a" / "x.mp4").read_text() == "new"


def test_somebody_reading_the_old_file_is_not_disturbed(tmp_path):
    (tmp_path / "x").write_text("old")
    with (tmp_path / "x").open() as reader:
        with atomic_write(tmp_path / "x") as path:
            path.write_text("new")
        assert reader.read() == "old"
    assert (tmp_path / "x").read_text() == "new"


def test_atomic_write_keeps_the_old_file_when_the_block_fails(tmp_path):
    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(tmp_path / "x") as path:
        interrupted(path)
    assert names(tmp_path) == ["x"]
    assert (tmp_path / "x").read_text() == "old"


@pytest.mark.parametrize("before", [None, {}, {"manifest.json": "old", "stale.json": "old"}])
def test_fresh_dir_replaces_an_older_version_whole(tmp_path, before):
    out = tmp_path / "set"
    if before is not None:
        out.mkdir()
        for name, text in before.items():
            (out / name).write_text(text)
    with fresh_dir(out) as folder:
        (folder / "manifest.json").write_text("new")
    assert names(tmp_path) == (["before-1", "set"] if before else ["set"])
    assert names(out) == ["manifest.json"]
    assert (out / "manifest.json").read_text() == "new"
    for name, text in (before or {}).items():
        assert (tmp_path / "before-1/set" / name).read_text() == text


def test_fresh_dir_keeps_the_old_folder_when_the_block_fails(tmp_path):
    out = tmp_path / "set"
    out.mkdir()
    (out / "manifest.json").write_text("old")
    with pytest.raises(KeyboardInterrupt), fresh_dir(out) as folder:
        interrupted(folder / "manifest.json")
    assert names(tmp_path) == ["set"]
    assert (out / "manifest.json").read_text() == "old"


def test_fresh_dir_never_deletes_a_folder_of_something_else(tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("years of work")
    with (
        pytest.raises(ValueError, match=r"thesis holds other files \(chapter1.tex\)") as error,
        fresh_dir(out) as made,
    ):
        (made / "manifest.json").write_text("new")
    assert (out / "chapter1.tex").read_text() == "years of work"
    assert str(made) in str(error.value)
    assert (made / "manifest.json").read_text() == "new"  # hours of condensation are not thrown away either


def test_fresh_dir_never_replaces_a_file(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(ValueError, match="is not replaced"), fresh_dir(tmp_path / "set"):
        pass
    assert (tmp_path / "set").read_text() == "a file"


def test_fresh_dir_follows_a_link_to_another_disk(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "set").symlink_to(tmp_path / "disk")
    with fresh_dir(tmp_path / "set") as folder:
        (folder / "x").write_text("new")
    assert (tmp_path / "set").is_symlink()
    assert (tmp_path / "disk" / "x").read_text() == "new"


def test_json_round_trip_is_readable_by_people(tmp_path):
    value = {"classes": ["Tanzen für Anfänger", "跳舞"], "top1": 0.125, "none": None, "deep": [{"a": [1, 2]}]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    assert "跳舞" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_write_json_of_the_unwritable_keeps_the_old_file(tmp_path):
    write_json(tmp_path / "x.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"path": tmp_path})
    assert read_json(tmp_path / "x.json") == 1
    assert names(tmp_path) == ["x.json"]


@pytest.mark.parametrize("content", [b'{\n"a": 1,\n}', b"", b"\xff\xfe"])
def test_read_json_names_the_broken_file(tmp_path, content):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON: (line [13]|not UTF-8)"):
        read_json(tmp_path / "x.json")


def test_sha256_of_the_standard_example(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")  # FIPS 180-4, appendix B.1
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# -- what a kill leaves --------------------------------------------------------------------------------------

DEAD = f"{HOST}-4194304-{0:016x}"  # of no living process


def test_a_link_is_turned_in_one_step_and_what_a_killed_process_left_goes(tmp_path):
    (tmp_path / f".newest.{DEAD}").symlink_to("a")
    write_link(tmp_path / "newest", "a")
    write_link(tmp_path / "newest", "b")
    assert [entry.name for entry in tmp_path.iterdir()] == ["newest"]
    assert (tmp_path / "newest").readlink() == Path("b")


def test_sweeping_spares_the_living_and_finishes_what_was_whole(tmp_path):
    living = f".other.{HOST}-{os.getppid()}-{1:016x}.json"
    for name in (
        f".result.{DEAD}.json",
        living,
        ".hidden",
        f".new.{DEAD}-whole",
        f".old.{DEAD}-whole",
        "old",
    ):
        (tmp_path / name).write_text(name)
    sweep(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".hidden", living, "before-1", "new", "old"]
    assert (tmp_path / "old").read_text() == "old"
    assert (tmp_path / "before-1/old").read_text() == f".old.{DEAD}-whole"


class DieAt:
    """Rename as the system does, until so many renames are done."""

    def __init__(self, monkeypatch, swaps):
        self.left = 1000
        swap = files.exchange if swaps else lambda one, other: False
        for module, name, real in (
            (os, "rename", os.rename),
            (os, "replace", os.replace),
            (files, "exchange", swap),
        ):
            monkeypatch.setattr(module, name, self.counted(real))

    def counted(self, real):
        def rename(*args):
            if not self.left:
                raise Killed
            self.left -= 1
            return real(*args)

        return rename


@pytest.mark.parametrize("swaps", [True, False])
def test_a_kill_at_any_rename_leaves_a_whole_folder_and_the_older_one(tmp_path, monkeypatch, swaps):
    """Without the system's exchange there is a moment when no folder has its name: the next start mends that."""
    renames = DieAt(monkeypatch, swaps)

    def write(place, text):
        with fresh_dir(place / "set") as folder:
            (folder / "clips").write_text(text)

    for done in range(4 + (not swaps)):
        place = tmp_path / str(done)
        write(place, "old")
        renames.left = done
        with pytest.raises(Killed) if done < 3 + (not swaps) else nullcontext():
            write(place, "new")
        renames.left = 1000
        monkeypatch.setattr(files, "RUN", f"{done:08x}")  # another process of the same number
        sweep(place)
        assert names(place) == (["before-1", "set"] if done else ["set"])
        assert sorted(path.read_text() for path in place.rglob("clips")) == (
            ["new", "old"] if done else ["old"]
        )
