from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from vdc.ops.rng import generator
from vdc.ops.windows import (
    apply_view,
    centre_starts,
    draw_starts,
    frame_indices,
    interpolate,
    interval,
    kept_frames,
    key_frames,
    max_start,
    take_window,
    temporal_segments,
)
from vdc.spec import ClipSpec

videos = st.tuples(st.integers(1, 400), st.integers(1, 24), st.integers(1, 12))  # length, frames, stride


def counting(*shape):
    """Clips whose pixels are their frame number, plus 1000 per clip."""
    clip = 1000 * torch.arange(shape[0], dtype=torch.float32).view(-1, 1, 1, 1, 1)
    return (clip + torch.arange(shape[2]).view(1, 1, -1, 1, 1)).expand(shape)


# -- raw videos ----------------------------------------------------------------------------------------------


@given(videos, st.floats(0, 1))
def test_a_window_has_its_length_lies_in_the_video_and_is_evenly_spaced(video, where):
    length, frames, _ = video
    start = round(where * max_start(*video))
    indices = frame_indices(*video, start)
    assert len(indices) == frames
    assert indices[0] == start
    assert set(indices) <= set(range(length))
    if length >= frames:
        assert all(b - a == interval(*video) for a, b in pairwise(indices))


@given(videos)
def test_no_frame_is_out_of_reach_and_no_start_too_far(video):
    length, frames, _ = video
    reached = {i for start in range(max_start(*video) + 1) for i in frame_indices(*video, start)}
    assert reached == set(range(length))
    if length >= frames:
        assert max_start(*video) + (frames - 1) * interval(*video) == length - 1


@given(videos)
def test_short_videos_are_sampled_densely(video):
    length, frames, stride = video
    if length >= frames * stride:
        assert interval(*video) == stride
    else:
        assert 1 <= interval(*video) <= stride
        assert length < frames or interval(*video) == length // frames


@pytest.mark.parametrize(
    ("length", "start", "want"),
    [
        (100, 43, [43, 51, 59, 67, 75, 83, 91, 99]),  # the last start of stride 8: 99 - 7 * 8
        (64, 0, [0, 8, 16, 24, 32, 40, 48, 56]),
        (63, 0, [0, 7, 14, 21, 28, 35, 42, 49]),  # 63 // 8 = 7
        (8, 0, [0, 1, 2, 3, 4, 5, 6, 7]),
        (5, 0, [0, 1, 2, 3, 4, 4, 4, 4]),
        (1, 0, [0] * 8),
    ],
)
def test_frame_indices_by_hand(length, start, want):
    assert frame_indices(length, 8, 8, start) == want
    assert start in (0, max_start(length, 8, 8))


def test_an_empty_video_is_refused():
    with pytest.raises(ValueError, match="a video of 0 frames"):
        frame_indices(0, 8, 8, 0)


# -- starts --------------------------------------------------------------------------------------------------


@given(st.integers(1, 12), st.integers(0, 20), st.integers(0, 2**32))
def test_slide_windows_lie_in_the_item(cut, more, seed):
    spec = ClipSpec(frames=cut, stored_frames=cut + more, window="slide")
    starts = draw_starts(50, spec, generator(seed))
    assert starts.dtype == torch.int64
    assert set(starts.tolist()) <= set(range(more + 1))


def test_slide_starts_are_uniform_up_to_the_last_frame():
    spec = ClipSpec(frames=8, stored_frames=24, window="slide")
    counts = torch.bincount(draw_starts(17_000, spec, generator(0)), minlength=17)
    assert len(counts) == 17
    assert (counts - 1000).abs().max() < 130  # 4 standard deviations


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32))
def test_segments_are_the_equal_parts(cut, parts, seed):
    spec = ClipSpec(frames=cut, stored_frames=cut * parts, window="segment")
    starts = draw_starts(400, spec, generator(seed))
    assert set(starts.tolist()) == {i * cut for i in range(parts)}
    assert centre_starts(3, spec).tolist() == [(parts - 1) // 2 * cut] * 3


def test_starts_depend_on_the_generator_alone():
    spec = ClipSpec(frames=4, stored_frames=40, window="slide")
    assert torch.equal(draw_starts(9, spec, generator(1)), draw_starts(9, spec, generator(1)))
    assert not torch.equal(draw_starts(9, spec, generator(1)), draw_starts(9, spec, generator(2)))
    assert draw_starts(3, ClipSpec(), generator(0)).tolist() == [0, 0, 0]
    assert centre_starts(2, spec).tolist() == [18, 18]


# -- windows and interpolation -------------------------------------------------------------------------------


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 6), st.data())
def test_take_window_equals_a_loop(n, length, more, data):
    clips = counting(n, 2, length + more, 2, 3)
    starts = data.draw(st.lists(st.integers(0, more), min_size=n, max_size=n))
    want = torch.stack([clip[:, s : s + length] for clip, s in zip(clips, starts, strict=True)])
    assert torch.equal(take_window(clips, torch.tensor(starts), length), want)


@pytest.mark.parametrize(
    ("kind", "length", "frames", "want"),
    [
        ("duplicate", 4, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        ("duplicate", 3, 8, [0, 0, 0, 1, 1, 1, 2, 2]),
        ("linear", 4, 8, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]),
        ("linear_ends", 2, 4, [0, 1 / 3, 2 / 3, 1]),
        ("linear_ends", 5, 9, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4]),
        ("linear", 8, 4, [0.5, 2.5, 4.5, 6.5]),
        ("linear", 1, 3, [0, 0, 0]),
    ],
)
def test_interpolate_by_hand(kind, length, frames, want):
    clips = counting(1, 1, length, 1, 1)
    torch.testing.assert_close(
        interpolate(clips, frames, kind).flatten(), torch.tensor(want, dtype=torch.float32)
    )


@given(st.integers(2, 12), st.integers(2, 24), st.sampled_from(["linear", "linear_ends"]))
def test_interpolate_equals_torch(length, frames, kind):
    clips = torch.randn(2, 3, length, 2, 3, generator=generator(length, frames), dtype=torch.float64)
    want = F.interpolate(clips, (frames, 2, 3), mode="trilinear", align_corners=kind == "linear_ends")
    torch.testing.assert_close(interpolate(clips, frames, kind), want, rtol=0, atol=1e-12)


@given(st.integers(1, 12), st.integers(1, 24))
def test_duplicate_equals_a_loop(length, frames):
    want = [float(i * length // frames) for i in range(frames)]
    assert interpolate(counting(1, 1, length, 1, 1), frames, "duplicate").flatten().tolist() == want


@pytest.mark.parametrize("kind", ["duplicate", "linear", "linear_ends"])
def test_windows_and_interpolation_are_differentiable_twice(kind):
    clips = torch.randn(2, 1, 4, 1, 2, dtype=torch.float64, requires_grad=True)

    def view(x):
        return interpolate(take_window(x, torch.tensor([1, 0]), 3), 5, kind) ** 2

    assert torch.autograd.gradcheck(view, clips)
    assert torch.autograd.gradgradcheck(view, clips)


def test_impossible_interpolation_is_refused():
    with pytest.raises(ValueError, match=r"spec.interpolation none cannot turn 4 frames into 8"):
        interpolate(counting(1, 1, 4, 1, 1), 8, "none")
    with pytest.raises(ValueError, match="linear_ends cannot turn 4 frames into 1"):
        interpolate(counting(1, 1, 4, 1, 1), 1, "linear_ends")


def test_pieces_equal_slices():
    clips = counting(2, 3, 6, 1, 2)
    want = [clips[n, :, s : s + 2] for n in range(2) for s in (0, 2, 4)]
    assert torch.equal(temporal_segments(clips, 3), torch.stack(want))
    assert temporal_segments(clips, 1) is clips


# -- views ---------------------------------------------------------------------------------------------------


def test_a_view_cuts_then_stretches():
    spec = ClipSpec(frames=4, stored_frames=8, window="slide", window_frames=2, interpolation="duplicate")
    clips = counting(2, 3, 8, 1, 1)
    seen = apply_view(clips, spec, torch.tensor([6, 1]))
    assert seen.shape == (2, 3, 4, 1, 1)
    assert seen[:, 0, :, 0, 0].tolist() == [[6, 6, 7, 7], [1001, 1001, 1002, 1002]]
    assert apply_view(clips, spec)[0, 0, :, 0, 0].tolist() == [3, 3, 4, 4]  # the middle two of eight


def test_an_identity_view_is_free():
    clips = counting(2, 3, 8, 1, 1)
    assert apply_view(clips, ClipSpec(), draw_starts(2, ClipSpec(), generator(0))) is clips


def test_a_parametric_view_refines_the_duplicated_clip():
    spec = ClipSpec(frames=4, stored_frames=2, interpolation="parametric", interpolator="somewhere")
    clips = counting(1, 3, 2, 1, 1)
    assert apply_view(clips, spec, None, lambda x: x + 0.5)[0, 0, :, 0, 0].tolist() == [0.5, 0.5, 1.5, 1.5]
    with pytest.raises(ValueError, match="needs its trained interpolator"):
        apply_view(clips, spec)
    with pytest.raises(ValueError, match=r"set spec.interpolator to its folder, from `vdc pretrain"):
        ClipSpec(frames=4, stored_frames=2, interpolation="parametric")


@pytest.mark.parametrize(
    ("frames", "count", "middles", "ends"),
    [(8, 2, [2, 6], [0, 7]), (8, 4, [1, 3, 5, 7], [0, 2, 5, 7]), (4, 4, [0, 1, 2, 3], [0, 1, 2, 3]),
     (16, 3, [2, 8, 13], [0, 8, 15])],
)  # fmt: skip
def test_key_frames_by_hand(frames, count, middles, ends):
    assert key_frames(frames, count) == middles
    assert key_frames(frames, count, ends=True) == ends


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_equal_parts_of_a_clip_hold_equal_parts_of_its_key_frames(segments, keys, more, ends):
    count = segments * keys
    frames = count * more
    if ends and count == 1:
        return
    found = key_frames(frames, count, ends)
    assert found == sorted(set(found))
    owners = [key * segments // frames for key in found]
    assert owners == [segment for segment in range(segments) for _ in range(keys)]
    shown = interpolate(torch.tensor(found).view(1, 1, -1, 1, 1), frames, "duplicate").flatten()
    assert ends or ((shown - torch.arange(frames)).abs() <= frames // count // 2).all()


def test_an_item_keeps_consecutive_frames_unless_it_is_stretched_whole():
    assert kept_frames(ClipSpec(frames=8)) == (8, None)
    assert kept_frames(ClipSpec(frames=8, stored_frames=16, window="slide")) == (16, None)
    short = ClipSpec(frames=8, stored_frames=2, interpolation="duplicate")
    assert kept_frames(short) == (8, [2, 6])
    assert kept_frames(short, 4) == (8, [1, 3, 5, 7])
    assert kept_frames(short, 8) == (8, None)
    assert kept_frames(short, 1) == (1, None)  # any frame of the video
    assert kept_frames(ClipSpec(frames=8, stored_frames=2, interpolation="linear_ends")) == (8, [0, 7])


def test_clips_of_another_length_are_refused():
    with pytest.raises(ValueError, match=r"spec.stored_frames is 16, but these clips hold 8 frames"):
        apply_view(counting(1, 3, 8, 1, 1), ClipSpec(frames=8, stored_frames=16, window="slide"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_sees_what_a_cpu_does():
    spec = ClipSpec(frames=8, stored_frames=16, window="slide", window_frames=4, interpolation="linear")
    clips, starts = torch.randn(3, 3, 16, 4, 4), draw_starts(3, spec, generator(0))
    torch.testing.assert_close(apply_view(clips.cuda(), spec, starts).cpu(), apply_view(clips, spec, starts))
