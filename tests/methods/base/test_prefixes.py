"""The state machine of multi-size: by hand, and against the published code's trace."""

import pytest
import torch

from tests.methods.tiny import SPEC
from vdc.condensed.memory import MultiFormation
from vdc.methods.base.multisize import prefix_rows
from vdc.methods.base.prefixes import MultiSize, Prefixes, StepFeatures, prefix_distances

FORCED = [1, 1, 3, 2, 2, 4, 1]


def forced(freeze, items=5):
    """Frozen first items while each of the winners is matched."""
    prefixes, found = Prefixes(MultiSize(freeze=freeze), 2, items), []
    for size in FORCED:
        prefixes.switch(torch.tensor([size]))
        assert prefixes.matched.tolist() == [size, size]
        found.append(prefixes.frozen.tolist())
    assert all(a == b for a, b in found)
    return [a for a, _ in found]


def test_frozen_prefixes_are_those_of_the_published_code():
    """He 2024's reg_ipcx.py, traced: winners 1, 1, 3, 2, 2, 4, 1 freeze -, -, 1, 1, 1, 3, -."""
    assert forced("permanent") == [0, 0, 1, 1, 1, 3, 0]


def test_the_rule_of_the_paper_freezes_what_was_matched_just_before():
    assert forced("predecessor") == [0, 0, 1, 0, 0, 2, 0]


def test_when_is_measured_and_chosen():
    prefixes = Prefixes(MultiSize(interval=5, average=2), 1, 4)
    measured, chosen = [], []
    for step in range(18):
        if prefixes.due(step):
            chosen.append(step)
            prefixes.switch(torch.tensor([1]))
            assert not prefixes.due(step)
        if prefixes.measuring(step):
            measured.append(step)
    assert measured == [3, 4, 8, 9, 13, 14]
    assert chosen == [2, 5, 10, 15]


def off(distances):
    """Features of items such that the mean of the first n is sqrt(distance n) off from (0, 1): (C, N - 1) -> (n, 2)."""
    d = torch.tensor(distances, dtype=torch.float32).sqrt()
    sums = d * torch.arange(1, d.shape[1] + 1)
    items = torch.diff(sums, prepend=torch.zeros(len(d), 1), dim=1)
    items = torch.cat([items, torch.zeros(len(d), 1)], 1).reshape(-1, 1)
    return torch.cat([items, torch.ones_like(items)], 1)


def seen(then, now, counts=None):
    """Items at these distances from means of real clips, which are 1 long: (C, N - 1) each -> `StepFeatures`."""
    real = torch.tensor([[0.0, 1.0]]).repeat(len(now), 1)
    return StepFeatures(
        off(now), off(then), real, torch.ones(len(now)) if counts is None else torch.tensor(counts)
    )


def first(plan, classes, items):
    """After the first choice, which is one item whatever was seen."""
    prefixes = Prefixes(plan, classes, items)
    prefixes.choose()
    assert prefixes.matched.tolist() == [1] * classes
    return prefixes


@pytest.mark.parametrize("classwise", [False, True])
def test_the_prefix_whose_distance_changed_most_is_matched(classwise):
    prefixes = first(MultiSize(classwise=classwise), 2, 4)
    prefixes.add(seen([[7.0, 4.0, 1.0], [9.0, 4.0, 1.0]], [[7.5, 2.0, 5.0], [9.0, 1.0, 1.0]]))
    prefixes.add(seen([[7.0, 4.0, 1.0], [9.0, 4.0, 1.0]], [[5.5, 2.0, 5.0], [9.0, 1.0, 1.0]]))
    # fell by -.5, 2, -4 and by 0, 3, 0; then by 1.5, 2, -4 and by 0, 3, 0: on average .5, 2, -4 and 0, 3, 0
    expected = [[1.0, 4.0, -8.0], [0.0, 6.0, 0.0]] if classwise else [[1.0, 10.0, -8.0]]
    torch.testing.assert_close(prefixes.sums.float(), torch.tensor(expected))
    prefixes.choose()
    assert prefixes.matched.tolist() == ([3, 2] if classwise else [2, 2])
    assert prefixes.frozen.tolist() == [1, 1]
    assert prefixes.counts.sum() == prefixes.sums.abs().sum() == 0


def test_networks_of_another_scale_count_alike():
    one, many = (first(MultiSize(), 2, 3) for _ in range(2))
    for scale in (1.0, 20.0):
        found = seen([[3.0, 5.0], [1.0, 7.0]], [[2.0, 1.0], [4.0, 3.0]], [2.0, 4.0])
        one.add(found)
        features = (scale * part for part in found[:3])
        many.add(StepFeatures(*features, found.counts))
    torch.testing.assert_close(one.sums, many.sums)


def test_a_class_that_was_not_seen_stays_where_it_is():
    prefixes = first(MultiSize(classwise=True), 2, 3)
    for counts, expected in (([1.0, 0.0], [2, 1]), ([0.0, 0.0], [2, 1]), ([0.0, 3.0], [2, 2])):
        prefixes.add(seen([[4.0, 4.0], [4.0, 4.0]], [[4.0, 9.0], [4.0, 9.0]], counts))
        prefixes.choose()
        assert prefixes.matched.tolist() == expected


def test_together_classes_count_as_often_as_they_were_seen():
    prefixes = first(MultiSize(), 2, 3)
    prefixes.add(seen([[4.0, 9.0], [50.0, 50.0]], [[3.0, 7.0], [5.0, 9.0]], [2.0, 0.0]))
    prefixes.add(seen([[4.0, 9.0], [6.0, 9.0]], [[3.0, 8.0], [9.0, 9.0]], [2.0, 7.0]))
    assert prefixes.sums[0].tolist() == pytest.approx([1.0 + 1 - 3, 2.0 + 1 + 0], abs=1e-5)
    assert prefixes.counts.tolist() == [3]


def test_distances_are_those_of_a_slow_loop():
    items, real = torch.randn(2 * 4 * 3, 5), torch.randn(2, 5)
    found = prefix_distances(items, real, 4)
    for k in range(2):
        for n in (1, 2, 3):
            clips = [items[k * 12 + row] for row in range(3 * n)]  # three clips per item
            expected = sum((sum(clip[d] for clip in clips) / len(clips) - real[k, d]) ** 2 for d in range(5))
            torch.testing.assert_close(found[k, n - 1], expected)


def test_prefixes_are_the_first_items_of_every_class():
    memory = MultiFormation(2, 3, SPEC, factor=2)
    assert prefix_rows(memory, torch.tensor([2, 2])).tolist() == memory.prefix(2).tolist()
    assert prefix_rows(memory, torch.tensor([1, 2])).tolist() == [0, 1, 2, 3, *range(12, 20)]


@pytest.mark.parametrize("classwise", [False, True])
def test_state_is_plain_and_complete(classwise):
    prefixes, memory = first(MultiSize(classwise=classwise), 2, 4), MultiFormation(2, 4, SPEC, factor=2)
    prefixes.add(seen([[9.0, 4.0, 1.0], [9.0, 4.0, 2.0]], [[7.0, 3.0, 5.0], [9.0, 1.0, 1.0]]))
    prefixes.choose()
    prefixes.keep(memory)
    with torch.no_grad():
        memory.videos.add_(1.0)
    prefixes.add(seen([[2.0, 3.0, 5.0], [9.0, 2.0, 1.0]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]))
    state = prefixes.state()
    again = Prefixes(MultiSize(classwise=classwise), 2, 4)
    again.load_state(state, memory)
    assert str(again.state()) == str(state)
    assert again.earlier.videos.equal(memory.videos - 1.0)
    assert not again.earlier.videos.requires_grad
    assert not [v for v in state.values() if isinstance(v, torch.Tensor)]
    for one in (prefixes, again):
        one.choose()
    assert again.matched.tolist() == prefixes.matched.tolist()
