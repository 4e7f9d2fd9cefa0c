"""The three lines that need nothing else of vdc."""

import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

import vdc
from tests.condensed.conftest import make_labels, make_set, stored_frames
from vdc.condensed.format import load
from vdc.condensed.labels import Labels, Views
from vdc.condensed.manifest import CLIPS
from vdc.evaluate.condensed_data import CondensedData
from vdc.train.protocol import Protocol


def test_load_gives_every_clip_with_its_class(condensed):
    data = vdc.load(condensed)
    memory = load(condensed).memory()
    clips, labels = memory.render(torch.arange(6))
    assert [label for _, label in data] == labels.tolist()
    assert torch.stack([clip for clip, _ in data]).equal(clips)
    assert data[-1][0].equal(clips[5])
    first, classes = next(iter(DataLoader(data, batch_size=6)))
    assert first.shape == (6, 3, 4, 16, 16)
    assert first.dtype == torch.float32
    assert classes.tolist() == [0, 0, 1, 1, 2, 2]


def test_a_prefix_has_the_first_items_of_every_class(condensed):
    whole, part = vdc.load(condensed), vdc.load(condensed, ipc=1)
    assert len(part) == 3
    assert all(part[i][0].equal(whole[2 * i][0]) for i in range(3))


def test_a_changed_byte_is_caught(condensed, tmp_path):
    path = tmp_path / "set" / CLIPS
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(held)
    with pytest.raises(ValueError, match="has changed"):
        vdc.load(condensed)


def test_clips_past_the_end_are_refused(condensed):
    with pytest.raises(IndexError, match="clip 6 of 6"):
        vdc.load(condensed)[6]


def test_import_is_light():
    code = "import sys, vdc; assert vdc.__version__; assert not {'torch', 'lightning'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_soft_labels_transforms_and_frames(tmp_path):
    folder = make_set(tmp_path / "many")
    soft = vdc.load(folder, labels="soft", transform=lambda clip: clip.mean())
    assert torch.equal(torch.stack([label for _, label in soft]), make_labels().soft.float())
    assert soft[3][0] == vdc.load(folder)[3][0].mean()
    frames = vdc.load(folder, uint8=True)
    assert torch.equal(torch.stack([clip for clip, _ in frames]), stored_frames())


def test_views_are_those_that_a_student_is_trained_on(tmp_path):
    recipe = {"crop_scale": [0.3, 1.0], "flip": 0.5, "rows": 6}
    views = Views.top(torch.randn(6, 3, 3, generator=torch.Generator().manual_seed(2)), 2, 9, recipe)
    folder = make_set(tmp_path / "set", labels=Labels(make_labels("hard").hard, None, views))
    data, student = vdc.load(folder, labels="views"), CondensedData(folder, Protocol(epochs=4))
    seen = set()
    for epoch in range(4):
        data.set_epoch(epoch)
        student.begin(epoch)
        batch = student.compose(torch.arange(6))
        assert torch.allclose(torch.stack([clip for clip, _ in data]), batch.clips)
        assert torch.equal(torch.stack([label for _, label in data]), batch.targets)
        seen.add(data.view)
    assert seen == {0, 1, 2}
    part = vdc.load(folder, ipc=1, labels="views")
    data.set_epoch(0)
    assert torch.equal(part[1][0], data[2][0])  # the first item of the second class


def test_a_loader_shows_another_order_and_view_at_every_pass(tmp_path):
    data = vdc.load(make_set(tmp_path / "set", labels=make_labels_with_rows()), labels="views")
    loader = data.as_dataloader(batch_size=6)
    seen = []
    for _ in range(2):
        ((clips, labels),) = loader
        assert (clips.shape, labels.shape) == ((6, 3, 4, 12, 12), (6, 3))
        seen.append((data.view, clips))
    assert seen[0][0] != seen[1][0]
    ((again, _),) = data.as_dataloader(batch_size=6)
    assert torch.equal(again, seen[0][1])
    hard = vdc.load(data.path).as_dataloader(batch_size=4, shuffle=False)
    assert [labels.tolist() for _, labels in hard] == [[0, 0, 1, 1], [2, 2]]


def make_labels_with_rows():
    labels = make_labels()
    labels.views.recipe["rows"] = 6
    return labels


def test_it_says_what_it_is(condensed):
    told = repr(vdc.load(condensed, ipc=1))
    assert "Random, 3 classes x 1 = 3 items, 3 clips of 4 x 16 x 16, hard labels" in told
    assert told.endswith(f"{3 * 4 * 16 * 16 * 3 + 3:,} bytes)")


def test_labels_that_are_not_there_are_refused(condensed):
    with pytest.raises(ValueError, match="stores no soft labels: make them with `vdc relabel"):
        vdc.load(condensed, labels="soft")
    with pytest.raises(ValueError, match="labels 'warm': hard, soft or views"):
        vdc.load(condensed, labels="warm")
