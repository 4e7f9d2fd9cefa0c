"""Exports that other toolkits take as their own datasets, read back by ours and by theirs."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.condensed.conftest import make_set, stored_frames
from tests.condensed.test_export import decode
from vdc.condensed.export import export
from vdc.condensed.format import load
from vdc.data.index import read_index
from vdc.data.splits import read_lists


def shown(index, out):
    return [(video.path.removeprefix(f"{out}/"), index.classes[video.label]) for video in index.videos]


CLIPS = [(f"{name}/{item:03d}.mp4", name) for name in "abc" for item in range(2)]


def test_mmaction2_finds_an_annotation_file_and_a_config(folder, tmp_path):
    out = export(load(folder), tmp_path / "out", format="mmaction2")
    assert shown(read_index(str(out / "videos"), str(out / "train_list.txt")), out / "videos") == CLIPS
    assert (out / "label_map.txt").read_text().split() == ["a", "b", "c"]
    config = {}
    exec((out / "dataset.py").read_text(), config)
    dataset = config["train_dataloader"]["dataset"]
    assert (dataset["type"], config["num_classes"], config["clip_len"]) == ("VideoDataset", 3, 4)
    assert config["data_preprocessor"]["mean"] == [123.675, 116.28, 103.53]  # mmaction2's own, of ImageNet
    for line in (out / dataset["ann_file"]).read_text().splitlines():
        path, label = line.split()  # as VideoDataset splits them
        assert (out / dataset["data_prefix"]["video"] / path).is_file()
        assert int(label) < 3


def test_a_hugging_face_folder_is_read_back(folder, tmp_path):
    out = export(load(folder), tmp_path / "out", format="huggingface")
    lists = read_lists(str(out), None, None, "auto", None)
    assert shown(lists["train"], out / "train") == CLIPS
    for video, frames in zip(lists["train"].videos, stored_frames(), strict=True):
        assert np.abs(decode(video.path).astype(int) - frames.numpy()).mean() < 4
    _, front, body = (out / "README.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["task_categories"] == ["video-classification"]
    assert told["configs"][0]["data_files"] == [{"split": "train", "path": "train/**"}]
    assert load(folder).manifest["digest"] in body
    assert "| labels | views, in `labels.safetensors`" in body
    assert not re.search(r"[{}]\w", body)  # nothing left to fill


def test_classes_of_any_name_keep_their_order(tmp_path):
    names = ["zeta", 'say "a", b', "größe/x"]
    out = export(load(make_set(tmp_path / "set", classes=names)), tmp_path / "out", format="huggingface")
    assert read_lists(str(out), None, None, "auto", None)["train"].classes == names


def test_datasets_loads_the_folder_by_its_card(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    out = export(load(folder), tmp_path / "out", format="huggingface")
    held = datasets.load_dataset(str(out), split="train", cache_dir=str(tmp_path / "cache"))
    rows = held.cast_column("video", datasets.Video(decode=False))
    told = sorted((row["video"]["path"].removeprefix(f"{out}/train/"), row["label"]) for row in rows)
    assert told == CLIPS


def test_webdataset_loads_the_tar(folder, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    out = export(load(folder), tmp_path / "out", format="webdataset")
    samples = (
        webdataset.WebDataset(str(out / "clips.tar"), shardshuffle=False).decode().to_tuple("mp4", "cls")
    )
    index = read_index(str(out), "clips.tar")
    assert [(video, int(label)) for video, label in samples] == [
        (Path(video.path).read_bytes(), video.label) for video in index.videos
    ]
    assert index.classes == ["a", "b", "c"]
