"""The three lines that need nothing else of vdc."""

import subprocess
import sys

import pytest
import torch
from torch.utils.data import DataLoader

import vdc
from vdc.condensed.format import load
from vdc.condensed.manifest import CLIPS


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
