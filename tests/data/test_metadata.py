"""Hugging Face folders: metadata.csv and metadata.jsonl, in split folders or for a whole set."""

import json

import pytest

from tests.data.test_index import touch
from vdc.data.index import read_index
from vdc.data.splits import read_lists

ROWS = [("a.mp4", "walk"), ("sub/b.mp4", "run"), ("c.mp4", "walk")]


def write(folder, rows, kind="csv", label="label"):
    folder.mkdir(parents=True, exist_ok=True)
    touch(folder, *(name for name, _ in rows))
    if kind == "csv":
        text = f"file_name,{label}\n" + "".join(f"{name},{value}\n" for name, value in rows)
    else:
        text = "".join(
            json.dumps({"file_name": name, label: value, "fps": 25}) + "\n" for name, value in rows
        )
    (folder / f"metadata.{kind}").write_text(text)


def found(index, folder):
    return [(video.path.removeprefix(f"{folder}/"), index.classes[video.label]) for video in index.videos]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
@pytest.mark.parametrize("classes", [None, "walk\nrun\n"])
def test_split_folders_with_metadata(tmp_path, kind, classes):
    write(tmp_path / "train", ROWS, kind)
    write(tmp_path / "test", [("d.mp4", "run")], kind)
    if classes:
        (tmp_path / "classes.txt").write_text(classes)
    lists = read_lists(str(tmp_path), None, None, "auto", None)
    assert lists["train"].classes == (["walk", "run"] if classes else ["run", "walk"])
    assert found(lists["train"], tmp_path / "train") == ROWS
    assert found(lists["test"], tmp_path / "test") == [("d.mp4", "run")]


@pytest.mark.parametrize("told", ["folder", "column"])
def test_metadata_of_a_whole_set(tmp_path, told):
    names = (
        ["train/a.mp4", "validation/b.mp4", "train/c.mp4"]
        if told == "folder"
        else ["a.mp4", "b.mp4", "c.mp4"]
    )
    touch(tmp_path, *names)
    head = "file_name,label\n" if told == "folder" else "file_name,label,split\n"
    parts = ["train", "validation", "train"]
    tails = ["" if told == "folder" else f",{part}" for part in parts]
    labels = ["x", "y", "y"]
    lines = [f"{name},{label}{tail}\n" for name, label, tail in zip(names, labels, tails, strict=True)]
    (tmp_path / "metadata.csv").write_text(head + "".join(lines))
    with pytest.warns(UserWarning, match="no test folder"):
        lists = read_lists(str(tmp_path), None, None, "auto", None)
    assert found(lists["train"], tmp_path) == [(names[0], "x"), (names[2], "y")]
    assert found(lists["test"], tmp_path) == [(names[1], "y")]


def test_metadata_without_parts_is_the_training_list(tmp_path):
    write(tmp_path, [(name, number) for name, number in (("a.mp4", 0), ("b.mp4", 1))], "jsonl")
    lists = read_lists(str(tmp_path), None, None, "auto", None)
    assert list(lists) == ["train"]
    assert found(lists["train"], tmp_path) == [("a.mp4", "0"), ("b.mp4", "1")]


def test_class_folders_beside_a_note_of_that_name_stay_class_folders(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/b.mp4")
    (tmp_path / "metadata.csv").write_text("author,year\nme,2024\n")
    index = read_index(str(tmp_path), None)
    assert found(index, tmp_path) == [("run/b.mp4", "run"), ("walk/a.mp4", "walk")]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"file_name": "a.mp4"}\n', r"metadata.jsonl:1: no label|no column of labels|neither a label"),
        ("{broken\n", r"metadata.jsonl:1: not valid JSON"),
        ('["a.mp4", 0]\n', r"metadata.jsonl:1: expected an object"),
        (
            '{"file_name": "a.mp4", "label": 0}\n{"file_name": "b.mp4", "label": null}\n',
            r"metadata.jsonl:2: no label",
        ),
    ],
)
def test_rows_that_make_no_sense(tmp_path, text, told):
    (tmp_path / "metadata.jsonl").write_text(text)
    with pytest.raises(ValueError, match=told):
        read_index(str(tmp_path), "metadata.jsonl", "huggingface")
    (tmp_path / "x").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds neither metadata.csv nor metadata.jsonl"):
        read_index(str(tmp_path), "x", "huggingface")


def test_datasets_reads_the_same(tmp_path):
    datasets = pytest.importorskip("datasets")
    write(tmp_path / "train", ROWS, "jsonl")
    write(tmp_path / "test", [("d.mp4", "run")], "jsonl")
    files = {part: str(tmp_path / part / "**") for part in ("train", "test")}
    theirs = datasets.load_dataset("videofolder", data_files=files, cache_dir=str(tmp_path / "cache"))
    lists = read_lists(str(tmp_path), None, None, "auto", None)
    for part in ("train", "test"):
        held = theirs[part].cast_column("video", datasets.Video(decode=False))
        told = sorted(
            (row["video"]["path"].removeprefix(f"{tmp_path}/{part}/"), row["label"]) for row in held
        )
        assert told == sorted(found(lists[part], tmp_path / part))
