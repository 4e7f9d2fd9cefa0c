import pytest
import torch

from tests.data.conftest import LENGTHS
from tests.data.videos import indices, tags, write
from vdc.data import cache
from vdc.data.cache import load, undecodable
from vdc.data.index import Video
from vdc.data.reader import BadVideo

SIZE = (8, 10)
ALL = sum(LENGTHS) * 8 * 10 * 3  # bytes


def test_a_whole_split_is_where_the_store_says(videos):
    store = load(videos, SIZE, range, "auto", "train", (0, 1))
    assert store.lengths == LENGTHS
    assert store.frames.shape == (sum(LENGTHS), *SIZE, 3)
    for row, wanted in ((0, [39, 0, 3]), (1, [23, 5, 5]), (3, [4])):
        frames = store.frames[store.positions(row, wanted)]
        assert indices(frames) == wanted
        assert tags(frames) == [row] * len(wanted)


def test_only_the_frames_needed_are_kept(videos):
    store = load(videos, SIZE, lambda length: [length - 1, 2, 2], "ram", "test", (0, 1))
    assert len(store.frames) == 8
    assert indices(store.frames[store.positions(1, [2, 23])]) == [2, 23]
    assert (store.positions(1, [0]) == -1).all()


@pytest.mark.parametrize(
    ("mode", "free", "kept"),
    [("auto", 4 * ALL, True), ("auto", 4 * ALL - 4, False), ("none", 99 * ALL, False), ("ram", ALL, True)],
)
def test_auto_takes_a_quarter_of_the_free_memory(videos, monkeypatch, mode, free, kept):
    monkeypatch.setattr(cache, "free_memory", lambda sharing: free)
    assert (load(videos, SIZE, range, mode, "train", (0, 1)) is not None) == kept
    if mode == "auto":  # processes of one machine share
        monkeypatch.setattr(cache, "free_memory", lambda sharing: 2 * free // sharing)
        assert (load(videos, SIZE, range, mode, "train", (1, 2)) is not None) == kept


def test_ram_that_does_not_suffice_is_an_error_with_the_estimate(videos, monkeypatch):
    monkeypatch.setattr(cache, "free_memory", lambda sharing: ALL - 1)
    with pytest.raises(ValueError, match=r"--data\.cache ram: the 4 train videos take about 0\.0 GB at 8x10"):
        load(videos, SIZE, range, "ram", "train", (0, 1))


def test_a_large_split_is_judged_by_a_sample(videos, monkeypatch):
    opened = []
    monkeypatch.setattr(cache, "_length", lambda video: opened.append(video) or 1000)
    monkeypatch.setattr(cache, "free_memory", lambda sharing: ALL)
    assert load(videos * 100, SIZE, range, "auto", "train", (0, 1)) is None
    assert len(opened) <= 2 * cache.SAMPLE


def test_a_bad_video_is_named_while_decoding(tmp_path, videos):
    path = write(tmp_path / "a.mp4", noise=True)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    path.write_bytes(data)
    bad = Video(str(path), 0)
    with pytest.raises(BadVideo, match=r"a\.mp4: cannot be decoded"):
        load([*videos, bad], SIZE, range, "ram", "train", (0, 1))
    found = undecodable([*videos[:2], bad, Video(str(tmp_path / "b.mp4"), 0), *videos[2:]], (0, 1))
    assert list(found) == [2, 3]
    assert "a.mp4" in found[2]
    assert "No such file" in found[3]


def test_the_result_does_not_depend_on_the_number_of_threads(videos):
    one, two = (load(videos, SIZE, range, "ram", "train", (0, n)) for n in (1, 64))
    assert torch.equal(one.frames, two.frames)
