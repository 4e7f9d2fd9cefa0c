from collections import Counter
from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from vdc.data.sampler import EveryClip, PerClass, Shuffled

few = settings(max_examples=40, deadline=None)
counts = st.integers(1, 30)
worlds = st.integers(1, 4)


def epoch(sampler, number):
    sampler.set_epoch(number)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    return keys


# -- shuffled ------------------------------------------------------------------------------------


@few
@given(counts, worlds, st.integers(0, 5))
def test_ranks_shuffle_disjoint_shares_of_equal_length(n, world, number):
    shares = [epoch(Shuffled(n, 7, rank, world), number) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    rows = [row for share in shares for row, draw in share]
    assert {draw for share in shares for _, draw in share} == {number}
    if n >= world:
        assert len(set(rows)) == len(rows) == n - n % world
    else:
        assert set(rows) == set(range(n))


def test_orders_differ_between_epochs_and_seeds():
    orders = [epoch(Shuffled(20, seed), number) for seed, number in ((0, 0), (0, 1), (1, 0))]
    rows = [[row for row, _ in keys] for keys in orders]
    assert rows[0] != rows[1]
    assert rows[0] != rows[2]
    assert epoch(Shuffled(20, 0), 1) == orders[1]


# -- every clip ----------------------------------------------------------------------------------


@few
@given(counts, worlds)
def test_every_video_is_seen_and_few_twice(n, world):
    shares = [epoch(EveryClip(n, rank, world), 0) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    seen = Counter(row for share in shares for row, _ in share)
    assert set(seen) == set(range(n))
    assert sum(seen.values()) - n < world


def test_every_clip_of_some_videos_only():
    assert epoch(EveryClip([5, 2, 9]), 0) == [(5, 0), (2, 0), (9, 0)]
    assert epoch(EveryClip([5, 2, 9]), 3) == [(5, 3), (2, 3), (9, 3)]


# -- per class -----------------------------------------------------------------------------------


@few
@given(st.lists(st.integers(1, 7), min_size=1, max_size=4), st.integers(1, 5), worlds, st.integers(1, 6))
def test_every_step_has_as_many_of_each_class_and_ranks_never_meet(sizes, per_class, world, steps):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    ranks = [PerClass(labels, per_class, None, 3, rank, world, steps=steps) for rank in range(world)]
    keys = [epoch(rank, 0) for rank in ranks]
    assert {len(k) for k in keys} == {steps * per_class * len(sizes)}
    for mine in keys:
        shown = [int(labels[row]) for row, _ in mine]
        assert shown == [k for _ in range(steps) for k in range(len(sizes)) for _ in range(per_class)]
    everything = [key for mine in keys for key in mine]
    assert len(set(everything)) == len(everything)  # no clip twice, on any rank
    for label, size in enumerate(sizes):  # drawn without replacement: rounds are used up one after another
        rounds = Counter(draw for row, draw in everything if labels[row] == label)
        assert [rounds[turn] for turn in range(len(rounds) - 1)] == [size] * (len(rounds) - 1)


@few
@given(st.integers(0, 6))
def test_a_run_that_starts_later_goes_on_where_the_other_is(start):
    labels = torch.tensor([0, 1, 0, 1, 1, 0, 0])
    whole = list(PerClass(labels, 2, None, 0, 1, 2, steps=6))
    assert list(PerClass(labels, 2, None, 0, 1, 2, start_step=start, steps=6)) == whole[start * 4 :]


def test_a_block_of_classes_is_the_same_whatever_the_block():
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 2])
    together = list(PerClass(labels, 2, None, 0, steps=3))
    alone = list(PerClass(labels, 2, [2], 0, steps=3))
    assert alone == [key for key in together if labels[key[0]] == 2]


def test_a_class_without_videos_is_named():
    with pytest.raises(ValueError, match="class 1 has no videos"):
        PerClass(torch.tensor([0, 2]), 1)


def test_later_epochs_go_on_with_the_stream():
    labels = torch.tensor([0, 0, 0, 1, 1])
    long = list(PerClass(labels, 2, None, 0, steps=6))
    short = PerClass(labels, 2, None, 0, steps=2)
    assert [key for number in range(3) for key in epoch(short, number)] == long


# -- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [lambda: Shuffled(10, 1), lambda: EveryClip(10), lambda: PerClass(torch.tensor([0, 1] * 5), 2, steps=5)],
)
def test_a_resumed_epoch_lacks_its_beginning_and_later_ones_do_not(make):
    whole = make()
    resumed = make()
    resumed.resume(2, 4)
    assert list(resumed) == epoch(whole, 2)[4:]
    assert list(resumed) == epoch(whole, 2)[4:]  # asked again
    resumed.set_epoch(3)
    assert list(resumed) == epoch(whole, 3)
    assert len(resumed) == len(whole)


def test_lightning_does_not_wrap_the_samplers():
    assert isinstance(Shuffled(3, 0), DistributedSampler)
    assert list(islice(Shuffled(3, 0), 1))
