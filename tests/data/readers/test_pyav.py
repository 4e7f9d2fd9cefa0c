"""What a player shows is what the reader gives: plain sequential decoding is the oracle."""

import os
import random
from pathlib import Path

import av
import numpy as np
import pytest

from tests.data import odd
from tests.data.videos import in_order, write
from vdc.data.prepare import Job, Settings, transcode
from vdc.data.readers.base import BadVideo
from vdc.data.readers.pyav import VideoFile


def made(path, frames=48, **options):
    return write(path, frames, **options)


def cut(how, name, options):
    return lambda d: how(made(d / f"whole_{name}", **options), d / name)


def joined(d):
    path = made(d / "a.ts", **odd.H264)
    path.write_bytes(2 * path.read_bytes())
    return path


KINDS = {
    # containers without an exact index
    "h264.ts": lambda d: made(d / "a.ts", **odd.H264),
    "open.ts": lambda d: made(d / "a.ts", **odd.OPEN),
    "hevc.ts": lambda d: made(d / "a.ts", **odd.HEVC),
    "bluray.m2ts": lambda d: made(d / "a.m2ts", **odd.H264, container={"mpegts_m2ts_mode": "1"}),
    "mpeg2.mpg": lambda d: made(d / "a.mpg", **odd.MPEG2),
    "mpeg2.vob": lambda d: made(d / "a.vob", **odd.MPEG2),
    "h264.flv": lambda d: made(d / "a.flv", **odd.H264),
    "wmv2.wmv": lambda d: made(d / "a.wmv", **odd.WMV),
    "joined.ts": joined,
    "reordered.avi": lambda d: made(d / "a.avi", **odd.MPEG4),
    "h264.avi": lambda d: made(d / "a.avi", **odd.H264),
    # groups of pictures that were cut
    **{
        f"{how.__name__}_{name}": cut(how, name, options)
        for how in (odd.from_second_key, odd.from_middle)
        for name, options in (
            ("open.mp4", odd.OPEN),
            ("open.mkv", odd.OPEN),
            ("open.ts", odd.OPEN),
            ("hevc.mkv", odd.HEVC),
            ("h264.flv", odd.H264),
            ("mpeg2.mpg", odd.MPEG2),
            ("mpeg2.mp4", odd.MPEG2),
            ("mpeg4.avi", odd.MPEG4),
            ("mpeg4.mkv", odd.MPEG4),
            ("vp9.webm", {**odd.VP9, "gop": 12}),
            ("vp8.webm", {**odd.VP8, "gop": 12}),
        )
    },
    # edit lists
    "trimmed.mp4": lambda d: odd.trimmed(made(d / "w.mp4", **odd.H264, gop=24), d / "a.mp4", 32, 24),
    "trimmed_open.mov": lambda d: odd.trimmed(made(d / "w.mov", **odd.OPEN), d / "a.mov", 22, 15),
    "two_edits.mp4": lambda d: odd.two_edits(made(d / "a.mp4", **odd.H264), (30, 44), (6, 20)),
    "two_overlapping_edits.mp4": lambda d: odd.two_edits(made(d / "a.mp4", **odd.H264), (10, 24), (20, 40)),
    # AVI: repeated and dropped pictures, headers and indices that lie
    "repeated.avi": lambda d: odd.rewritten(
        made(d / "a.avi", **odd.IN_ORDER), dict.fromkeys(range(9, 30, 2), b"")
    ),
    "repeated_b.avi": lambda d: odd.rewritten(made(d / "a.avi", **odd.MPEG4), {10: b"", 11: b"", 30: b""}),
    "dropped.avi": lambda d: odd.rewritten(made(d / "a.avi", **odd.IN_ORDER), {20: odd.not_coded(21)}),
    "long_header.avi": lambda d: odd.rewritten(made(d / "a.avi", **odd.IN_ORDER), {}, length=100),
    "short_header.avi": lambda d: odd.rewritten(made(d / "a.avi", **odd.IN_ORDER), {}, length=10),
    "wrong_index.avi": lambda d: odd.rewritten(made(d / "a.avi", **odd.IN_ORDER), {}, astray={12, 24}),
    # which stream
    "cover.mp4": lambda d: odd.cover_first(made(d / "a.mp4", **odd.H264)),
    "still.mp4": lambda d: odd.still_first(made(d / "w.mp4", **odd.H264), d / "a.mp4"),
    "still.mkv": lambda d: odd.still_first(made(d / "w.mkv", **odd.H264), d / "a.mkv"),
    # metadata
    "latin.avi": lambda d: odd.latin(made(d / "a.avi", **odd.MPEG4)),
    "latin.mp4": lambda d: odd.latin(made(d / "a.mp4", **odd.H264)),
    "latin.mkv": lambda d: odd.latin(made(d / "a.mkv", **odd.H264)),
    "latin.flv": lambda d: odd.latin(made(d / "a.flv", **odd.H264)),
    # key frames that are none on their own
    "refreshed.mp4": lambda d: made(
        d / "a.mp4", **{**odd.H264, "options": {"x264-params": "intra-refresh=1:keyint=16:bframes=0"}}
    ),
    "interlaced.mp4": lambda d: made(
        d / "a.mp4", **{**odd.H264, "options": {"x264-params": "interlaced=1:crf=5"}}
    ),
    "fragments.mp4": lambda d: made(
        d / "a.mp4", **odd.H264, container={"movflags": "frag_keyframe+empty_moov"}
    ),
    "av1.mp4": lambda d: made(d / "a.mp4", codec="libsvtav1", pixels="yuv420p", settings={}, size=(64, 64)),
}
SHOWN = {  # frames, where the number is known without decoding
    "h264.ts": 48,
    "joined.ts": 96,
    "trimmed.mp4": 16,
    "trimmed_open.mov": 26,
    "from_second_key_hevc.mkv": 32,
    "cover.mp4": 48,
    "long_header.avi": 48,
    "repeated.avi": 48,
    "dropped.avi": 48,
}


@pytest.mark.parametrize("name", KINDS)
def test_what_a_player_shows_is_what_the_reader_gives(tmp_path, name):
    path = KINDS[name](tmp_path)
    oracle = in_order(tmp_path / f"w{path.suffix}") if name.startswith("still") else in_order(path)
    assert len(oracle) == SHOWN.get(name, len(oracle))
    reader = VideoFile(str(path))
    assert len(reader) == len(oracle)
    reader.check()
    for i in range(len(oracle)):  # one by one
        assert np.array_equal(VideoFile(str(path)).get([i])[0], oracle[i]), f"frame {i}"
    dice = random.Random(0)
    for _ in range(8):  # together, with one reader
        wanted = [dice.randrange(len(oracle)) for _ in range(4)]
        assert np.array_equal(reader.get(wanted), oracle[wanted]), wanted
    assert np.array_equal(reader.get(range(len(oracle))), oracle)
    assert transcode(Job(path, tmp_path / "small.mp4", Settings(32, 8, 18))) == len(oracle)


@pytest.mark.parametrize("name", ["hevc.mp4", "hevc.ts", "mpeg4.mkv"])
def test_a_hole_in_the_middle_is_an_error(tmp_path, name):
    options = odd.HEVC if name.startswith("hevc") else odd.MPEG4
    path = odd.with_hole(made(tmp_path / f"w_{name}", **options), tmp_path / name)
    with pytest.raises(BadVideo, match="missing"):
        VideoFile(str(path)).check()
    with pytest.raises(BadVideo, match="missing"):
        transcode(Job(path, tmp_path / "small.mp4", Settings(32, 8, 18)))


def test_seeks_are_used_where_they_can_be_trusted(tmp_path):
    for name, options, sought in (
        ("a.mp4", odd.H264, True),
        ("b.mkv", odd.OPEN, True),
        ("c.webm", odd.VP9, True),
        ("d.avi", odd.IN_ORDER, True),
        ("e.avi", odd.MPEG4, False),
        ("f.ts", odd.H264, False),
    ):
        path = write(tmp_path / name, 24, size=(64, 96), noise=True, **options)
        assert VideoFile(str(path)).timeline.sought == sought, name


# -- how a picture is held -----------------------------------------------------------------------

CORNERS = {"a": (220, 30, 30), "b": (30, 220, 30), "c": (30, 30, 220), "d": (200, 200, 200)}


@pytest.mark.parametrize("name", odd.ORIENTATIONS)
def test_all_eight_orientations(tmp_path, name):
    matrix, corners = odd.ORIENTATIONS[name]
    picture = np.zeros((32, 64, 3), np.uint8)
    for i, colour in enumerate(CORNERS.values()):
        picture[16 * (i // 2) :][:16, 32 * (i % 2) :][:, :32] = colour
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "1"})
        stream.height, stream.width, stream.pix_fmt = 32, 64, "yuv420p"
        for _ in range(3):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    odd.oriented(path, matrix)
    small = tmp_path / "small.mp4"
    transcode(Job(path, small, Settings(32, 8, 5)))
    height, width = (64, 32) if matrix[0] == 0 else (32, 64)
    for frames in (
        VideoFile(str(path)).get([1]),
        VideoFile(str(path)).get([1], (height // 2, width // 2)),
        VideoFile(str(small)).get([1]),
    ):
        frame = frames[0].int()
        assert frame.shape[0] / frame.shape[1] == height / width
        found = [frame[3, 3], frame[3, -4], frame[-4, 3], frame[-4, -4]]
        for corner, letter in zip(found, corners, strict=True):
            assert (corner - corner.new_tensor(CORNERS[letter])).abs().max() < 25, name


# -- whatever is in a file -----------------------------------------------------------------------

SOURCES = {
    "a.mp4": {"noise": True},
    "a.avi": {**odd.MPEG4, "noise": True},
    "b.avi": odd.IN_ORDER,
    "a.mkv": odd.H264,
    "a.webm": odd.VP8,
    "a.flv": {**odd.H264, "noise": True},
    "a.ts": {**odd.H264, "noise": True},
    "a.mpg": odd.MPEG2,
}


def mutated(data, dice):
    """Bytes changed, zeroed, left out, or cut off."""
    data, kind = bytearray(data), dice.randrange(5)
    start, length = dice.randrange(len(data)), dice.randrange(1, len(data) // 8)
    if kind < 2:  # anywhere, or in the header
        for _ in range(dice.randrange(1, 16)):
            data[dice.randrange(len(data) if kind else 1200)] = dice.randrange(256)
    elif kind == 2:
        data[start : start + length] = bytes(len(data[start : start + length]))
    elif kind == 3:
        del data[start : start + length]
    else:
        del data[start:]
    return bytes(data)


def outcome(path):
    """What is wrong with a video, in the reader's words; nothing if it can be read."""
    try:
        VideoFile(str(path)).check()
    except BadVideo as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.slow)])
def test_mutated_files_are_read_or_refused_and_what_passes_the_check_can_be_read(tmp_path, name, count):
    data = write(tmp_path / name, **SOURCES[name]).read_bytes()
    dice = random.Random(name)
    passed = 0
    for i in range(count):
        path = tmp_path / f"{i}{Path(name).suffix}"
        path.write_bytes(mutated(data, dice))
        if reason := outcome(path):
            assert reason.startswith(f"{path}: cannot be decoded: ")
            assert "\n" not in reason
            continue
        passed += 1
        for _ in range(3):
            reader = VideoFile(str(path))
            wanted = [dice.randrange(len(reader)) for _ in range(4)]
            assert reader.get(wanted, (16, 16)).shape == (4, 16, 16, 3)
    assert 0 < passed < count


def test_anything_a_decoder_raises_is_a_bad_video(tmp_path, monkeypatch):
    path = write(tmp_path / "a.mp4")
    for error in (
        UnicodeDecodeError("utf-8", b"\xd3", 0, 1, "bad"),
        AttributeError("no thread_count"),
        MemoryError(),
    ):

        def fails(*args, error=error, **options):
            raise error

        monkeypatch.setattr(av, "open", fails)
        with pytest.raises(BadVideo, match=r"a\.mp4: cannot be decoded: ."):
            VideoFile(str(path))


REAL = os.environ.get("VDC_REAL_VIDEOS")


@pytest.mark.timeout(1800)
@pytest.mark.skipif(REAL is None, reason="VDC_REAL_VIDEOS names no folder of real videos")
def test_real_files_read_frame_by_frame_as_sequential_decoding_shows():
    files = sorted(path for path in Path(REAL or "").iterdir() if path.is_file())
    assert files
    for path in files:
        oracle = in_order(path)
        reader = VideoFile(str(path))
        assert len(reader) == len(oracle)
        reader.check()
        assert np.array_equal(reader.get(range(len(oracle))), oracle)
        for i in range(0, len(oracle), 3):
            assert np.array_equal(VideoFile(str(path)).get([i])[0], oracle[i]), f"{path}: frame {i}"
