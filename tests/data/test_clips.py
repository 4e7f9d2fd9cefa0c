import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from tests.data.conftest import LENGTHS
from tests.data.videos import indices, tags, write
from vdc.data.cache import load
from vdc.data.clips import ClipLoader, Steps, VideoClips, whole
from vdc.data.index import Video
from vdc.data.reader import BadVideo
from vdc.data.sampler import EveryClip
from vdc.ops.rng import generator


def clips(videos, **options):
    defaults = {"frames": 4, "stride": 4, "load_size": (16, 20), "size": 14, "seed": 3}
    return VideoClips(videos, **(defaults | options))


def times(batch):
    """Frame numbers of every clip, (N, m, T)."""
    return np.array(indices(batch.frames)).reshape(batch.frames.shape[:3])


def test_a_batch_holds_what_its_keys_name(videos):
    batch = clips(videos, clips=2).__getitems__([(2, 0), (0, 7), (2, 1)])
    assert batch.frames.shape == (3, 2, 4, 16, 20, 3)
    assert batch.frames.dtype == torch.uint8
    assert batch.boxes.shape == (3, 2, 5)
    assert (batch.rows.tolist(), batch.labels.tolist()) == ([2, 0, 2], [0, 0, 0])
    assert tags(batch.frames) == [2] * 8 + [0] * 8 + [2] * 8


def test_an_item_depends_on_seed_row_and_draw_alone(videos):
    one = clips(videos).__getitems__([(0, 0), (1, 5), (3, 2)])
    other = clips(videos)
    for i, key in enumerate([(0, 0), (1, 5), (3, 2)]):
        item = other[key]
        assert torch.equal(item.frames[0], one.frames[i])
        assert torch.equal(item.boxes[0], one.boxes[i])
    assert len({tuple(other[(0, draw)].boxes.flatten().tolist()) for draw in range(5)}) == 5
    assert not torch.equal(clips(videos, seed=4)[(0, 0)].boxes, other[(0, 0)].boxes)


def test_clip_j_of_a_draw_is_clip_number_draw_times_m_plus_j(videos):
    three, one = clips(videos, clips=3), clips(videos)
    batch = three[(0, 2)]
    for j in range(3):
        single = one[(0, 6 + j)]
        assert torch.equal(single.frames[0, 0], batch.frames[0, j])
        assert torch.equal(single.boxes[0, 0], batch.boxes[0, j])
    frames, boxes = three.read([0], [[7]])
    assert torch.equal(frames[0, 0], batch.frames[0, 1])
    assert torch.equal(boxes[0, 0], batch.boxes[0, 1])


def test_random_starts_are_uniform_over_all_that_fit(videos):
    batch = clips(videos).__getitems__([(0, draw) for draw in range(150)])
    starts = times(batch)[:, 0, 0]
    assert set(starts) == set(range(LENGTHS[0] - 12))  # 40 frames, the last of a clip is start + 12
    assert np.bincount(starts).max() < 20  # 5.4 expected
    assert (np.diff(times(batch)[:, 0], axis=1) == 4).all()


def test_short_videos_are_sampled_densely(videos):
    dense = times(clips(videos).__getitems__([(3, draw) for draw in range(30)]))[:, 0]
    assert {tuple(row) for row in dense} == {(0, 1, 2, 3), (1, 2, 3, 4)}  # 5 frames: stride 1


def test_short_videos_may_loop(videos):
    looped = times(clips(videos, short_video="loop").__getitems__([(3, 0), (1, 0)]))[:, 0]
    assert looped[0].tolist() == [0, 4, 3, 2]  # 0 4 8 12 modulo 5
    assert np.diff(looped[1]).tolist() == [4, 4, 4]  # 24 frames are not short
    last = VideoClips([Video("", 0)], 4, 4, (1, 1), 1, short_video="loop")
    starts = {last._indices(15, [0], [generator(i)])[0] for i in range(60)}
    assert starts == {0, 1, 2}  # 15 frames: short of 16, but 13 of them make a clip


@pytest.mark.parametrize(
    ("m", "starts"),
    [(1, [14]), (2, [0, 27]), (3, [0, 14, 27]), (4, [0, 9, 18, 27])],
)
def test_spread_clips_cover_the_video_evenly(videos, m, starts):
    batch = clips(videos, clips=m, starts="spread")[(0, 0)]
    expected = np.rint(np.linspace(0, 27, m)) if m > 1 else [27 // 2]
    assert times(batch)[0, :, 0].tolist() == list(expected)
    assert times(clips(videos, clips=m, starts="spread")[(0, 5)]).tolist() == times(batch).tolist()


def test_first_starts_at_the_first_frame(videos):
    assert times(clips(videos, starts="first")[(0, 9)])[0, 0].tolist() == [0, 4, 8, 12]


def test_boxes(videos):
    box = clips(videos, boxes="full")[(0, 0)].boxes[0, 0]
    assert box.tolist() == [0, 0, 16, 20, 0]
    box = clips(videos, boxes="centre")[(0, 0)].boxes[0, 0]
    assert box.tolist() == [1, 3, 14, 14, 0]
    box = clips(videos, boxes="centre", size=30)[(0, 0)].boxes[0, 0]
    assert box.tolist() == [0, 2, 16, 16, 0]  # no larger than the frame
    boxes = clips(videos).__getitems__([(0, draw) for draw in range(100)]).boxes[:, 0]
    assert 0.3 < boxes[:, 4].mean() < 0.7
    assert ((boxes[:, 0] + boxes[:, 2] <= 16) & (boxes[:, 1] + boxes[:, 3] <= 20)).all()


def test_a_store_gives_the_same_items(videos):
    from_disk = clips(videos, clips=2, short_video="loop")
    store = load(videos, (16, 20), range, "ram", "train", (0, 1))
    from_memory = clips(videos, clips=2, short_video="loop", store=store)
    keys = [(row, draw) for draw in range(3) for row in range(4)]
    for mine, other in zip(from_memory.__getitems__(keys), from_disk.__getitems__(keys), strict=True):
        assert torch.equal(mine, other)


def test_workers_give_the_same_batches(videos):
    dataset, keys = clips(videos), [(row, 1) for row in range(4)]
    here = list(ClipLoader(dataset, 2, sampler=keys, collate_fn=whole))
    there = list(ClipLoader(dataset, 2, sampler=keys, collate_fn=whole, num_workers=2))
    assert [batch.rows.tolist() for batch in there] == [[0, 1], [2, 3]]
    assert all(
        torch.equal(a, b) for one, two in zip(here, there, strict=True) for a, b in zip(one, two, strict=True)
    )


def test_an_error_in_a_worker_is_one_line_that_names_the_file(tmp_path):
    path = write(tmp_path / "a.mp4")
    path.write_bytes(b"broken")
    loader = DataLoader(clips([Video(str(path), 0)]), 1, sampler=[(0, 0)], collate_fn=whole, num_workers=1)
    with pytest.raises(BadVideo) as caught:
        list(loader)
    assert str(caught.value) == f"{path}: cannot be decoded: Invalid data found when processing input"


def test_steps_count():
    loader = ClipLoader(Steps(3), batch_size=None, sampler=EveryClip(3))
    assert [int(step) for step in loader] == [0, 1, 2]
