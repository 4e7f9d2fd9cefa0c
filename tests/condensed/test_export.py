import io
import json
import tarfile

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from tests.condensed.conftest import K, make_labels, make_set, stored_frames
from vdc.condensed.export import export, folder_names
from vdc.condensed.format import load
from vdc.condensed.preview import STRIP, contact_sheet, enlarge, grid, write_gif
from vdc.data import RealData
from vdc.data.readers.folder import FrameFolder
from vdc.spec import ClipSpec


def decode(path):
    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        return np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video=0)])


def ramp(height=16, width=16):
    """8 frames, frame t grey 30 * t."""
    return (30 * torch.arange(8)).to(torch.uint8).view(8, 1, 1, 1).expand(8, height, width, 3)


def test_an_animation_plays_all_frames_forever():
    image = Image.open(io.BytesIO(write_gif(ramp(), fps=8)))
    assert (image.n_frames, image.info["loop"], image.info["duration"]) == (8, 0, 120)  # GIF counts in 10 ms
    image.seek(3)
    assert image.convert("RGB").getpixel((5, 5)) == (90, 90, 90)


def test_enlarged_pixels_are_repeated():
    frames = torch.arange(4, dtype=torch.uint8).view(1, 2, 2, 1)
    assert enlarge(frames, 4)[0, ..., 0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3], [2, 2, 3, 3]]
    assert enlarge(frames, 1).shape == frames.shape


def test_a_grid_puts_clips_row_by_row():
    frames = torch.arange(1, 4, dtype=torch.uint8).view(3, 1, 1, 1, 1).expand(3, 5, 4, 4, 3)
    sheet = grid(frames, columns=2)
    assert sheet.shape == (5, 12, 12, 3)
    assert [sheet[4, y, x, 0].item() for y, x in ((0, 0), (3, 9), (6, 3), (6, 6), (4, 0))] == [1, 2, 3, 0, 0]


def test_a_contact_sheet_has_a_row_per_clip_and_frames_along_it():
    frames = torch.stack([ramp(), ramp().flip(0)])
    sheet = contact_sheet(frames, ["one", "a longer name"], columns=3, side=16)
    margin = sheet.width - 3 * 18
    assert sheet.height == 2 * 18 + STRIP  # the numbers of the frames below
    assert np.asarray(sheet)[36:, margin:].max() > 128
    got = [[sheet.getpixel((margin + 18 * x + 8, 18 * y + 8))[0] for x in range(3)] for y in range(2)]
    assert got == [[0, 120, 210], [210, 90, 0]]  # frames 0, 3.5 (to even: 4) and 7, and their mirror
    names = np.asarray(sheet)[:18, :margin]
    assert names.max() > 128


def test_folder_names_are_plain_and_distinct():
    classes = ["push [x] left/right", "push (x) left right", "größe", "..", "a.b-c+d"]
    assert folder_names(classes) == [
        "push_x_left_right",
        "push_x_left_right_1",
        "größe",
        "class_3",
        "a.b-c+d",
    ]


def exported(folder, out, ipc=None):
    return export(load(folder), out, ipc)


def test_an_export_is_a_list_of_videos_that_hold_the_clips(folder, tmp_path):
    out = exported(folder, tmp_path / "videos")
    lines = [line.split() for line in (out / "list.txt").read_text().splitlines()]
    assert [int(label) for _, label in lines] == [0, 0, 1, 1, 2, 2]
    assert lines[3][0] == "b/001.mp4"
    for (path, _), frames in zip(lines, stored_frames(), strict=True):
        assert np.abs(decode(out / path).astype(int) - frames.numpy()).mean() < 4
    assert (out / "classes.txt").read_text().split() == ["a", "b", "c"]
    with safe_open(out / "labels.safetensors", "pt") as held:
        assert torch.equal(held.get_tensor("soft"), make_labels().soft)
        assert json.loads(held.metadata()["labels"])["seed"] == 9


def test_an_export_of_fewer_items(folder, tmp_path):
    out = exported(folder, tmp_path / "videos", ipc=1)
    assert (out / "list.txt").read_text().splitlines() == ["a/000.mp4 0", "b/000.mp4 1", "c/000.mp4 2"]
    with safe_open(out / "labels.safetensors", "pt") as held:
        assert torch.equal(held.get_tensor("soft"), make_labels().soft[[0, 2, 4]])
    with pytest.raises(ValueError, match="ipc 3 asked"):
        exported(folder, tmp_path / "more", ipc=3)


def test_hard_labels_are_the_list_alone(tmp_path):
    out = exported(make_set(tmp_path / "set", labels=make_labels("hard")), tmp_path / "videos")
    assert sorted(p.name for p in out.iterdir()) == ["a", "b", "c", "classes.txt", "list.txt"]


def test_a_filled_folder_is_not_exported_to(folder):
    with pytest.raises(ValueError, match="exists and is not an empty folder"):
        exported(folder, folder)
    assert load(folder).num_classes == K


def test_frames_are_read_back_by_mmaction2s_list(folder, tmp_path):
    """By our reader of its rawframe lists, which are `path frames label`."""
    out = export(load(folder), tmp_path / "out", format="frames")
    lines = (out / "list.txt").read_text().splitlines()
    assert lines[0] == "a/000 4 0"
    read = RealData(str(out), "list.txt", "list.txt", spec=ClipSpec(frames=4, size=12, stride=1))
    assert [video.frames for video in read.splits["train"]] == [4] * 6
    assert read.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for line, frames in zip(lines, stored_frames(), strict=True):
        shown = FrameFolder(str(out / line.split()[0])).get(range(4))
        assert np.abs(shown.numpy().astype(int) - frames.numpy()).mean() < 8


def test_a_tar_holds_samples_as_webdataset_names_them(folder, tmp_path):
    """Read as its specification says: files of one stem, one after the other, are one sample."""
    out = export(load(folder), tmp_path / "out", format="webdataset")
    samples = {}
    with tarfile.open(out / "clips.tar") as tar:
        names = tar.getnames()
        for member in tar:
            stem, _, kind = member.name.partition(".")
            samples.setdefault(stem, {})[kind] = tar.extractfile(member).read()
    assert [name.partition(".")[0] for name in names[::2]] == list(samples)
    assert [int(sample["cls"]) for sample in samples.values()] == [0, 0, 1, 1, 2, 2]
    for sample, frames in zip(samples.values(), stored_frames(), strict=True):
        with av.open(io.BytesIO(sample["mp4"])) as film:
            shown = np.stack([f.to_ndarray(format="rgb24") for f in film.decode(video=0)])
        assert np.abs(shown.astype(int) - frames.numpy()).mean() < 4
    assert sorted(p.name for p in out.iterdir()) == [
        "classes.txt",
        "clips.tar",
        "labels.safetensors",
        "list.txt",
    ]
