"""The cache of decoded frames on disk: the same frames, once for all, whatever happens to the files."""

import errno
import logging
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.data.conftest import LENGTHS
from tests.data.videos import indices, tags, write
from vdc.data import RealData, disk
from vdc.data.cache import load
from vdc.data.disk import FRAMES, INDEX, DiskStore, cache_folder, identity
from vdc.data.index import Video
from vdc.data.reader import BadVideo
from vdc.spec import ClipSpec

SIZE = (8, 10)
ALL = sum(LENGTHS) * 8 * 10 * 3  # bytes


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("VDC_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def opened(monkeypatch):
    """Videos opened so far."""
    seen = []
    plain = Video.open
    monkeypatch.setattr(Video, "open", lambda video: seen.append(video.path) or plain(video))
    return seen


def decoded(videos, needed=range, limit=10**9, size=SIZE):
    return load(videos, size, needed, "disk", "train", (0, 1), limit)


def folders(root):
    return sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")


def test_frames_are_those_in_memory_and_decoded_once(videos, root, opened):
    for needed in (range, lambda length: [length - 1, 2, 2]):
        opened.clear()
        ours = decoded(videos, needed)
        assert opened
        theirs = load(videos, SIZE, needed, "ram", "train", (0, 1))
        opened.clear()
        again = decoded(videos, needed)
        assert opened == []  # of no video, not even its length is asked
        for store in (ours, again):
            assert torch.equal(store.frames, theirs.frames)
            assert torch.equal(store.table, theirs.table)
            assert (store.lengths, store.offsets, store.first) == (
                theirs.lengths,
                theirs.offsets,
                theirs.first,
            )
        assert indices(again.frames[again.positions(1, [2, 23])]) == [2, 23]
        assert tags(again.frames[again.positions(1, [2])]) == [1]
    assert len(folders(root)) == 2


def test_the_trainers_inference_mode_may_make_and_open_it(videos, root):
    with torch.inference_mode():
        stores = [decoded(videos), decoded(videos)]
    for store in stores:
        frames = store.frames.index_select(0, store.positions(1, [3])).float().requires_grad_()
        frames.square().sum().backward()
        assert indices(frames.detach()) == [3]


def test_clips_are_bit_equal(videos, root):
    folder = os.path.dirname(videos[0].path)
    with open(f"{folder}/list.txt", "w") as file:
        file.writelines(f"{os.path.basename(video.path)} {row % 2}\n" for row, video in enumerate(videos[:4]))
    batches = []
    for cache in ("none", "disk", "disk"):
        data = RealData(
            folder, "list.txt", "list.txt", spec=ClipSpec(frames=4, size=8, stride=3), cache=cache
        )
        batches.append([raw for loader in (data.shuffled(), data.tested("test")) for raw in loader])
    for plain, *others in zip(*batches, strict=True):
        for other in others:
            assert all(torch.equal(a, b) for a, b in zip(plain, other, strict=True))


def test_the_key_is_of_files_size_decoder_and_frames(videos, tmp_path):
    key = identity(videos, SIZE, range)
    assert key == identity(list(videos), SIZE, range)
    others = {
        identity(videos, (8, 8), range),
        identity(videos, SIZE, lambda length: [0]),
        identity(videos[::-1], SIZE, range),
        identity([replace(videos[0], decoder="decord"), *videos[1:]], SIZE, range),
    }
    stat = os.stat(videos[0].path)
    os.utime(videos[0].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    others.add(identity(videos, SIZE, range))
    assert len(others | {key}) == 6


@pytest.mark.parametrize("part", [FRAMES, INDEX])
@pytest.mark.parametrize("damage", ["cut", "gone", "other"])
def test_a_damaged_cache_is_made_anew(videos, root, opened, caplog, part, damage):
    whole = decoded(videos).frames.clone()
    path = folders(root)[0] / part
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "cut" else data + bytes(100))
    opened.clear()
    with caplog.at_level(logging.WARNING):
        assert torch.equal(decoded(videos).frames, whole)
    assert opened
    assert "decoded again, the cache is damaged" in caplog.text


def test_a_flipped_bit_is_found_where_it_is_used(videos, root):
    store = decoded(videos)
    path = folders(root)[0] / FRAMES
    data = bytearray(path.read_bytes())
    data[store.first[2] * 240 + 7] ^= 1
    path.write_bytes(data)
    damaged = decoded(videos)
    damaged.positions(1, [0])
    with pytest.raises(
        ValueError, match=r"frames\.u8: frames of video 2 are not what was written: remove that folder"
    ):
        damaged.positions(2, [0])


def test_what_a_killed_process_left_is_no_cache(videos, root):
    code = """
import os, sys
from vdc.data import disk
from vdc.data.cache import load
from vdc.data.index import Video
plain = disk.checksum
def end(frames):
    os.kill(os.getpid(), 9)
disk.checksum = end
load([Video(path, 0) for path in sys.argv[1:]], (8, 10), range, "disk", "train", (0, 1), 10**9)
"""
    done = subprocess.run([sys.executable, "-c", code, *(video.path for video in videos)], check=False)
    assert done.returncode == -9
    assert folders(root) == []
    left = [path for path in root.iterdir() if path.is_dir()]
    assert len(left) == 1
    assert len(decoded([replace(video, label=0) for video in videos]).frames) == sum(LENGTHS)
    assert not left[0].exists()


def test_several_processes_share_what_one_decodes(videos, root):
    code = """
import sys
from vdc.data.cache import load
from vdc.data.index import Video
seen = []
plain = Video.open
Video.open = lambda video: seen.append(video) or plain(video)
store = load([Video(path, 0) for path in sys.argv[1:]], (8, 10), range, "disk", "train", (0, 1), 10**9)
print(bool(seen), int(store.frames.long().sum()))
"""
    command = [sys.executable, "-c", code, *(video.path for video in videos)]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = sorted(run.communicate()[0].split() for run in runs)
    assert [made for made, _ in told] == ["False", "True"]
    assert told[0][1] == told[1][1]


def test_a_full_disk_leaves_nothing(videos, root, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="nothing there was changed") as told:
        decoded(videos)
    assert told.value.errno == errno.ENOSPC
    assert [path.name for path in root.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(disk, "free_bytes", lambda folder: ALL - 1)
    with pytest.raises(
        ValueError, match=r"--data.cache disk: the 4 train videos take 0.00 GB, and 0.00 GB are free at"
    ):
        decoded(videos)


def test_writes_of_parts_are_gone_on_with(videos, root, monkeypatch):
    plain = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: plain(file, data[:100], offset))
    assert torch.equal(decoded(videos).frames, load(videos, SIZE, range, "ram", "train", (0, 1)).frames)


def test_the_oldest_make_room(videos, root):
    with pytest.raises(
        ValueError, match=r"4 train videos take 0.00 GB, more than --data.cache_gb 1e-09: raise it"
    ):
        decoded(videos, limit=1)
    sizes = [(8, 10), (10, 8), (4, 20)]  # as many bytes each
    held = []
    for age, size in enumerate(sizes):
        store = decoded(videos, size=size, limit=2 * ALL + 20_000)
        held.append(store.folder)
        if age == 1:
            os.utime(held[0], (1, 1))
            os.utime(held[1], (2, 2))
            first = decoded(videos, size=sizes[0])  # used again: the other is older now
    assert [path.exists() for path in held] == [True, False, True]
    assert indices(first.frames[first.positions(0, [3])]) == [3]


def test_what_others_are_writing_counts(videos, root):
    (root / ".other").mkdir(parents=True)
    (root / ".other/frames.u8").write_bytes(bytes(1000))
    with pytest.raises(
        ValueError, match=r"take 0.00 GB beside 0.00 GB being written, more than --data.cache_gb"
    ):
        decoded(videos, limit=ALL + 999)
    assert folders(root) == []
    assert decoded(videos, limit=ALL + 1000).lengths == LENGTHS


def test_nothing_is_removed_where_that_does_not_help(videos, root, monkeypatch):
    kept = decoded(videos).folder
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 0)
    with pytest.raises(ValueError, match="GB are free at"):
        decoded(videos * 50)
    assert kept.exists()


def test_a_bad_video_is_named_and_nothing_is_left(videos, root, tmp_path):
    path = write(tmp_path / "a.mp4", noise=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    with pytest.raises(BadVideo, match=r"a\.mp4: cannot be decoded"):
        decoded([*videos, Video(str(path), 0)])
    assert folders(root) == []


def test_workers_open_the_file_themselves(videos, root):
    store = decoded(videos)
    text = pickle.dumps(store)
    assert len(text) < 1000
    other = pickle.loads(text)
    assert isinstance(other, DiskStore)
    assert torch.equal(other.frames, store.frames)


def test_where_it_lies(monkeypatch):
    monkeypatch.setenv("VDC_CACHE", "/x")
    assert str(cache_folder()) == "/x"
    monkeypatch.delenv("VDC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/y")
    assert str(cache_folder()) == "/y/vdc/frames"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/z")
    assert str(cache_folder()) == "/z/.cache/vdc/frames"
