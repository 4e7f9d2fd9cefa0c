import time

import numpy as np
import pytest
import torch

from tests.data import odd
from tests.data.test_reader import BAD
from tests.data.videos import in_order, write
from vdc.data.index import Video
from vdc.data.reader import BadVideo, decoder_version, open_video
from vdc.data.readers import decord_file
from vdc.data.readers.decord_file import DecordFile
from vdc.data.real import RealData
from vdc.spec import ClipSpec

pytest.importorskip("decord", reason="no wheels for this machine")
SIZE = {"size": (48, 64)}
RIGHT = {
    "a.mp4": odd.H264,
    "a.mkv": odd.H264,
    "vp8.webm": odd.VP8,
    "vp9.webm": odd.VP9,
    "still.avi": {"codec": "mjpeg", "pixels": "yuvj420p", "settings": {}},
    "xvid.avi": odd.IN_ORDER,
}
UNCUT = {**odd.MPEG4, "settings": {"b": "4M", "bf": "2", "sc_threshold": "1000000000"}}
OTHERWISE = {
    "open groups": lambda d: write(d / "a.mp4", 48, **odd.OPEN, **SIZE),
    "edit list": lambda d: odd.trimmed(write(d / "w.mp4", 48, **odd.H264, **SIZE), d / "a.mp4", 20, 12),
    "counted": lambda d: write(d / "a.avi", 24, **odd.MPEG4, **SIZE),
    "codec mpeg4 with B-pictures": lambda d: write(d / "a.mp4", 24, gop=100, **UNCUT, **SIZE),
}


@pytest.fixture(autouse=True)
def _unwarned(monkeypatch):
    monkeypatch.setattr(decord_file, "WARNED", set())


@pytest.mark.parametrize("name", RIGHT)
def test_the_same_frames_as_sequential_decoding_shows(tmp_path, name, recwarn):
    path = write(tmp_path / name, 30, **RIGHT[name], **SIZE)
    oracle = in_order(path).astype(int)
    reader = open_video(str(path), decoder="decord")
    assert isinstance(reader, DecordFile)
    assert len(reader) == len(oracle)
    reader.check()
    for wanted in ([29, 3, 3, 17], [0, 8, 16, 24]):
        found = reader.get(wanted)
        assert found.dtype == torch.uint8
        assert np.abs(found.numpy() - oracle[wanted]).max() <= 3
    assert reader.get([5, 2], (24, 32)).shape == (2, 24, 32, 3)
    same = open_video(str(path)).get([5], (24, 32)).int() - reader.get([5], (24, 32)).int()
    assert same.abs().max() <= 3
    assert not [w for w in recwarn if "decord" in str(w.message)]


@pytest.mark.parametrize("reason", OTHERWISE)
def test_kinds_that_it_reads_otherwise_are_warned_of_once(tmp_path, reason, recwarn):
    path = str(OTHERWISE[reason](tmp_path))
    for _ in range(2):
        open_video(path, decoder="decord")
    told = [str(w.message) for w in recwarn if "--data.decoder pyav" in str(w.message)]
    assert len(told) == 1
    assert path in told[0]
    assert reason in told[0]


@pytest.mark.parametrize(
    ("name", "warned"), [("clockwise", False), ("left_right", True), ("transposed", True)]
)
def test_mirrored_pictures_are_warned_of(tmp_path, name, warned):
    path = odd.oriented(write(tmp_path / "a.mp4", **odd.H264, **SIZE), odd.ORIENTATIONS[name][0])
    stat = path.stat()
    assert bool(decord_file.oddity(str(path), stat.st_mtime_ns, stat.st_size)) == warned


@pytest.mark.parametrize("name", ["missing", "empty", "text", "cut_index", "cut_frames", "audio", "damaged"])
def test_a_bad_file_is_named_in_one_line(tmp_path, name):
    path = BAD[name][0](tmp_path)
    with pytest.raises(BadVideo) as caught:
        open_video(str(path), decoder="decord").check()
    assert str(caught.value).startswith(f"{path}: cannot be decoded: ")
    assert "\n" not in str(caught.value)


def test_what_decord_cannot_read_is_named_too(tmp_path):
    path = write(tmp_path / "a.mp4")  # RGB, which its scaler does not know
    with pytest.raises(BadVideo, match=r"a\.mp4: cannot be decoded: decord: "):
        open_video(str(path), decoder="decord").get([0])


def test_a_decoder_that_hangs_is_left_behind(tmp_path, monkeypatch):
    class Hangs:
        def VideoReader(self, path, num_threads):
            time.sleep(5)

    path = write(tmp_path / "a.mp4", **odd.H264)
    monkeypatch.setattr(decord_file, "decord", Hangs)
    monkeypatch.setattr(decord_file, "PATIENCE", 0.1)
    with pytest.raises(BadVideo, match=r"a\.mp4: cannot be decoded: decord gave no answer in 0 s"):
        open_video(str(path), decoder="decord")


def test_without_decord_the_flag_is_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "decord", None)
    with pytest.raises(ValueError, match=r"--data\.decoder decord: decord is not installed"):
        RealData(str(tmp_path), decoder="decord")


def test_a_set_is_read_by_the_decoder_that_was_asked_for(tmp_path):
    lines = []
    for i in range(4):
        write(tmp_path / f"{i}.mp4", 16, tag=40 * i, **odd.H264, **SIZE)
        lines.append(f"{i}.mp4 {i % 2}\n")
    (tmp_path / "train.txt").write_text("".join(lines))
    options = {"spec": ClipSpec(frames=4, size=16, stride=2), "augment": False}
    ours, theirs = (RealData(str(tmp_path), "train.txt", decoder=d, **options) for d in ("pyav", "decord"))
    assert theirs.fingerprint()["decoder"] == decoder_version("decord") == "decord 0.6.0"
    assert ours.fingerprint()["decoder"].startswith("av ")
    assert all(isinstance(video.open(), DecordFile) for video in theirs.splits["train"])
    assert isinstance(Video(str(tmp_path / "0.mp4"), 0, decoder="decord").open(), DecordFile)
    for one, two in zip(ours.shuffled(), theirs.shuffled(), strict=True):
        assert torch.equal(one.rows, two.rows)
        assert (one.frames.int() - two.frames.int()).abs().max() <= 3
