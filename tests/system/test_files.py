import pytest

from vdc.system.files import atomic_write, fresh_dir, read_json, sha256, write_json


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
