import os
import random
import struct

import av
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from tests.data.videos import in_order, indices, write
from vdc.data.reader import BadVideo, decoder_version, open_video
from vdc.system.mp4 import write_mp4

TIMES = np.random.default_rng(0).integers(5, 200, 40).cumsum().tolist()
FILES = {
    "short_groups.mp4": {"gop": 6},
    "open_groups.mp4": {
        "codec": "libx264",
        "pixels": "yuv444p",
        "options": {"preset": "medium", "x264-params": "open-gop=1:bframes=4:keyint=8:b-adapt=0"},
    },
    "long_group.mkv": {"gop": 100},
    "reordered.avi": {"codec": "mpeg4", "pixels": "yuv420p", "options": {"b": "2M"}},
    "plain.avi": {"codec": "mpeg4", "pixels": "yuv420p", "options": {"b": "2M", "bf": "0"}},
    "variable_rate.mp4": {"times": TIMES},
    "variable_rate.mkv": {"times": TIMES},
    "one.mp4": {"frames": 1},
}


@pytest.mark.parametrize("name", FILES)
def test_any_frame_is_found_exactly(tmp_path, name):
    path = write(tmp_path / name, **{"frames": 40, **FILES[name]})
    oracle = in_order(path)
    assert len(open_video(str(path))) == len(oracle)
    dice = random.Random(0)
    reader = open_video(str(path))
    for _ in range(8):  # one reader, and so seeks back, too
        wanted = [dice.randrange(len(oracle)) for _ in range(5)]
        assert np.array_equal(reader.get(wanted), oracle[wanted])
    if FILES[name].get("codec") != "mpeg4":  # the others are precise enough to tell frames apart
        assert indices(reader.get(range(len(reader)))) == list(range(len(oracle)))
    reader.check()


def test_order_and_repeats_are_kept(tmp_path):
    reader = open_video(str(write(tmp_path / "a.mp4")))
    assert indices(reader.get([5, 3, 3, 20, 0])) == [5, 3, 3, 20, 0]


def test_resizing_while_decoding_is_antialiased(tmp_path):
    path = str(tmp_path / "a.mp4")
    y, x = np.mgrid[:64, :96]
    picture = np.stack([(y * 3) % 256, x * 2, 128 + 60 * np.sin(x / 3) * np.cos(y / 4)], -1).astype(np.uint8)
    write_mp4(path, torch.from_numpy(picture)[None].repeat(3, 1, 1, 1), crf=0, pixels="yuv444p")
    reader = open_video(path)
    full = reader.get([1])
    small = reader.get([1], (24, 40))
    assert small.shape == (1, 24, 40, 3)
    oracle = interpolate(full.movedim(-1, 1).float(), (24, 40), mode="bilinear", antialias=True)
    assert (small - oracle.movedim(1, -1)).abs().mean() < 2


def test_a_file_turned_by_its_header_is_shown_upright(tmp_path):
    path = write(tmp_path / "a.mp4", frames=2, size=(32, 48), noise=True)
    upright = open_video(str(path)).get([0])
    data = bytearray(path.read_bytes())
    matrix = data.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    turned = open_video(str(path)).get([0])
    assert turned.shape == (1, 48, 32, 3)
    assert torch.equal(turned, upright.rot90(-1, (1, 2)))  # the matrix turns clockwise
    assert open_video(str(path)).get([0], (24, 16)).shape == (1, 24, 16, 3)


# -- files that cannot be read -------------------------------------------------------------------


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


def audio(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 8000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def damaged(path):
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + len(data) // 10] = bytes(len(data) // 10)
    path.write_bytes(data)
    return path


def renamed(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new))
    return path


def text(path, content="no video"):
    path.write_text(content)
    return path


FIRST = {"movflags": "faststart"}  # the index comes before the frames
PIECES = {"movflags": "frag_keyframe+empty_moov"}
AVI = {"codec": "mpeg4", "pixels": "yuv420p"}
H264 = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "20"}}
WMV = {"codec": "wmv2", "pixels": "yuv420p", "settings": {}}
MPEG2 = {"codec": "mpeg2video", "pixels": "yuv420p", "settings": {"b": "2M"}}
BAD = {
    "missing": (lambda d: d / "a.mp4", "No such file"),
    "empty": (lambda d: text(d / "a.mp4", ""), "Invalid data"),
    "text": (lambda d: text(d / "a.mp4", "hello " * 200), "Invalid data"),
    "cut_index": (lambda d: cut(write(d / "a.mp4"), 0.8), "Invalid data"),
    "cut_frames": (lambda d: cut(write(d / "a.mp4", container=FIRST, noise=True), 0.8), "cut off"),
    "cut_avi": (lambda d: cut(write(d / "a.avi", **AVI, noise=True), 0.7), "cut off"),
    "cut_mkv": (lambda d: cut(write(d / "a.mkv", noise=True), 0.7), "cut off"),
    "cut_fragments": (lambda d: cut(write(d / "a.mp4", container=PIECES, noise=True), 0.8), "cut off"),
    "cut_ts": (lambda d: cut(write(d / "a.ts", **H264, noise=True), 0.8), "cut off"),
    "cut_flv": (lambda d: cut(write(d / "a.flv", **H264, noise=True), 0.8), "cut off"),
    "cut_wmv": (lambda d: cut(write(d / "a.wmv", **WMV, noise=True), 0.8), "cut off"),
    "cut_mpg": (lambda d: cut(write(d / "a.mpg", **MPEG2, noise=True), 0.8), "damaged"),
    "audio": (lambda d: audio(d / "a.mp4"), "no video stream"),
    "damaged": (lambda d: damaged(write(d / "a.mp4", noise=True)), "damaged"),
    "damaged_avi": (
        lambda d: damaged(write(d / "a.avi", 48, **AVI, noise=True)),
        "damaged, it holds 47 packets",
    ),
    "damaged_mkv": (lambda d: damaged(write(d / "a.mkv", noise=True)), "damaged"),
    "damaged_ts": (lambda d: damaged(write(d / "a.ts", **H264, noise=True)), "missing|damaged"),
    "no_codec": (lambda d: renamed(write(d / "a.avi", **AVI), b"FMP4", b"XQZ9"), "no decoder"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_named_in_one_line(tmp_path, name):
    make, reason = BAD[name]
    path = make(tmp_path)
    with pytest.raises(BadVideo, match=reason) as caught:
        open_video(str(path)).check()
    assert str(caught.value).startswith(f"{path}: cannot be decoded: ")
    assert "\n" not in str(caught.value)


def test_frames_before_the_damage_are_sound(tmp_path):
    path = write(tmp_path / "a.mp4", gop=4, noise=True)
    oracle = in_order(path)
    reader = open_video(str(damaged(path)))
    assert np.array_equal(reader.get([0, 3]), oracle[[0, 3]])
    with pytest.raises(BadVideo, match=r"a\.mp4"):
        reader.get(range(len(reader)))


def test_the_traceback_of_a_worker_is_dropped():
    wrapped = (
        "Caught BadVideo in DataLoader worker process 0.\n"
        "Original Traceback (most recent call last):\n  File ...\n"
        "vdc.data.reader.BadVideo: /a/b.mp4: cannot be decoded: no frames\n"
    )
    assert str(BadVideo(wrapped)) == "/a/b.mp4: cannot be decoded: no frames"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_no_file_stays_open(tmp_path):
    path = str(write(tmp_path / "a.mp4"))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        open_video(path).get([1])
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_the_decoder_is_named():
    assert decoder_version().startswith("av ")
