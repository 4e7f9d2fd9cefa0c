import os
import platform
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from vdc.system.mp4 import encode, write_mp4


def ramp(height=16, width=16, frames=8):
    """Frame t is grey level 30 * t."""
    return (30 * torch.arange(frames)).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, height, width, 3)


def decode(path):
    with av.open(str(path)) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv444p"])
def test_a_decoded_frame_tells_its_index(tmp_path, pixels):
    write_mp4(tmp_path / "x.mp4", ramp(), fps=8, pixels=pixels)
    found = decode(tmp_path / "x.mp4")
    assert found.shape == (8, 16, 16, 3)
    assert (np.rint(found.mean((1, 2, 3)) / 30) == np.arange(8)).all()


def test_odd_sides_are_made_even_by_repeating_the_last_line(tmp_path):
    write_mp4(tmp_path / "x.mp4", ramp(15, 17))
    found = decode(tmp_path / "x.mp4")
    assert found.shape == (8, 16, 18, 3)
    assert np.abs(found[4].astype(int) - 120).max() <= 2


def test_noise_survives_full_colour_resolution(tmp_path):
    noise = torch.randint(256, (4, 15, 16, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_mp4(tmp_path / "x.mp4", noise, crf=4, pixels="yuv444p")
    assert np.abs(decode(tmp_path / "x.mp4").astype(int) - noise.numpy()).mean() < 4


def test_a_frame_that_decodes_alone_comes_as_often_as_asked(tmp_path):
    write_mp4(tmp_path / "x.mp4", ramp(), gop=3)
    with av.open(str(tmp_path / "x.mp4")) as film:
        alone = [t for t, frame in enumerate(film.decode(video=0)) if frame.key_frame]
    assert alone[0] == 0
    assert all(later - t <= 3 for t, later in zip(alone, [*alone[1:], 8], strict=True))


def test_frames_are_scaled_and_timed(tmp_path):
    frames = (
        av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24") for frame in ramp(40, 60).contiguous()
    )
    assert encode(tmp_path / "x.avi", frames, (20, 30), Fraction(30000, 1001), {"crf": "10"}) == 8
    with av.open(str(tmp_path / "x.avi")) as film:
        assert film.format.name.startswith("mov")  # mp4, whatever the suffix
        assert film.streams.video[0].average_rate == Fraction(30000, 1001)
    assert decode(tmp_path / "x.avi").shape == (8, 20, 30, 3)


def test_the_same_frames_give_the_same_bytes(tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, ramp())
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


MEMORY = """
import sys, torch
from vdc.system.mp4 import write_mp4
rows, columns, times = torch.arange(-56, 56).view(-1, 1), torch.arange(-56, 56), torch.arange(8).view(-1, 1, 1)
growing = rows ** 2 + columns ** 2 < (5 + 5 * times) ** 2
write_mp4(sys.argv[1], (20 + 200 * growing).byte()[..., None].expand(-1, -1, -1, 3))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc fills memory")
def test_what_memory_held_before_changes_no_byte(tmp_path):
    for fill in ("1", "85", "170", "255"):
        environment = os.environ | {"MALLOC_PERTURB_": fill}
        subprocess.run([sys.executable, "-c", MEMORY, tmp_path / fill], env=environment, check=True)
    first, *others = [path.read_bytes() for path in tmp_path.iterdir()]
    assert others == [first] * 3
