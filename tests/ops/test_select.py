import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vdc.ops.rng import generator
from vdc.ops.select import _spread, herding, k_center, kmeans_medoids, still_learnt

cases = st.tuples(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**32))  # n, D, seed


def points(n, d, seed):
    return torch.randn(n, d, generator=generator(seed, "points"), dtype=torch.float64)


def norm(v):
    return sum(x * x for x in v) ** 0.5


def gap(a, b):
    return norm([x - y for x, y in zip(a, b, strict=True)])


def herding_cost(rows, chosen, j):
    """How far the mean of the choice is from the mean of all after taking j, times the number taken."""
    taken = [rows[i] for i in chosen] + [rows[j]]
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return gap([m * len(taken) for m in mean], [sum(column) for column in zip(*taken, strict=True)])


def k_center_cost(rows, chosen, j):
    """Distance to the mean first, then minus the distance to the nearest taken."""
    mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return -min(gap(rows[j], rows[i]) for i in chosen) if chosen else gap(rows[j], mean)


@pytest.mark.parametrize(("choose", "cost"), [(herding, herding_cost), (k_center, k_center_cost)])
@given(case=cases, data=st.data())
def test_every_choice_is_the_best_of_those_left(choose, cost, case, data):
    features = points(*case)
    rows, chosen = features.tolist(), []
    for j in choose(features, data.draw(st.integers(1, len(rows)))).tolist():
        left = [i for i in range(len(rows)) if i not in chosen]
        assert j in left
        best = min(cost(rows, chosen, i) for i in left)
        assert cost(rows, chosen, j) <= best + 1e-9  # two clips are equally far from their own mean
        chosen.append(j)


def test_choices_in_numbers():
    line = torch.tensor([[0.0], [1.0], [2.0], [3.0], [10.0]])  # mean 3.2
    assert herding(line, 3).tolist() == [3, 2, 1]  # nearest to 3.2, 6.4 - 3 and 9.6 - 5
    assert k_center(line, 4).tolist() == [3, 4, 0, 1]


@given(cases)
def test_a_prefix_is_a_smaller_choice(case):
    features = points(*case)
    for choose in (herding, k_center):
        whole = choose(features, len(features)).tolist()
        assert sorted(whole) == list(range(len(features)))
        assert all(choose(features, k).tolist() == whole[:k] for k in range(1, len(features)))


@pytest.mark.parametrize("choose", [herding, k_center, lambda f, k: kmeans_medoids(f, k, generator(0))])
def test_copies_are_never_chosen_twice(choose):
    copies = torch.ones(5, 3)
    copies[4] = 2
    for k in range(1, 6):
        chosen = choose(copies, k)
        assert chosen.dtype == torch.int64
        assert len(set(chosen.tolist())) == k


@pytest.mark.parametrize("choose", [herding, k_center, lambda f, k: kmeans_medoids(f, k, generator(0))])
def test_impossible_choices_are_refused(choose):
    with pytest.raises(ValueError, match="cannot choose 4 of 3 clips"):
        choose(torch.randn(3, 2), 4)
    with pytest.raises(ValueError, match="cannot choose 0 of 3"):
        choose(torch.randn(3, 2), 0)
    with pytest.raises(ValueError, match="NaN"):
        choose(torch.tensor([[0.0], [torch.nan]]), 1)


def lloyd_by_hand(features, centres):
    """The fixed point from the given start, one point at a time."""
    for _ in range(100):
        groups = [[] for _ in centres]
        for x in features:
            groups[min(range(len(centres)), key=lambda c: norm((x - centres[c]).tolist()))].append(x)
        moved = [torch.stack(g).mean(0) if g else c for g, c in zip(groups, centres, strict=True)]
        if all(torch.allclose(a, b, rtol=0, atol=1e-14) for a, b in zip(moved, centres, strict=True)):
            break
        centres = moved
    chosen = []
    for c in centres:
        left = [j for j in range(len(features)) if j not in chosen]
        chosen.append(min(left, key=lambda j: norm((features[j] - c).tolist())))
    return chosen


@pytest.mark.parametrize(("n", "d", "k"), [(9, 2, 3), (14, 3, 5), (6, 1, 6), (5, 2, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_kmeans_equals_a_loop(n, d, k, seed):
    features = points(n, d, seed)
    start = features[_spread(features, k, generator(seed))]
    assert kmeans_medoids(features, k, generator(seed)).tolist() == lloyd_by_hand(features, list(start))


def test_kmeans_takes_the_middle_of_every_blob():
    middle = torch.tensor([[0.0, 0], [50, 0], [0, 50], [50, 50]])
    ring = torch.tensor([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
    features = (middle[:, None] + ring).flatten(0, 1)
    for seed in range(10):
        assert sorted(kmeans_medoids(features, 4, generator(seed)).tolist()) == [0, 5, 10, 15]


def test_the_start_spreads_by_squared_distance():
    line = torch.tensor([[0.0], [1.0], [3.0]])
    draws = [tuple(_spread(line, 2, generator(i)).tolist()) for i in range(3000)]
    first = [draws.count((0, j)) for j in (1, 2)]
    assert sum(first) == pytest.approx(1000, abs=110)  # 4 standard deviations
    assert first[1] / sum(first) == pytest.approx(9 / 10, abs=0.04)  # 3^2 / (1^2 + 3^2)
    assert not any(a == b for a, b in draws)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_chooses_what_a_cpu_does():
    features = points(30, 5, 0)
    for choose in (herding, k_center, lambda f, k: kmeans_medoids(f, k, generator(0))):
        assert choose(features.cuda(), 7).tolist() == choose(features, 7).tolist()


def test_still_learnt_is_the_mean_deviation_of_late_windows():
    errors = torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    by_hand = []
    for column in errors.T.tolist():
        windows = [column[0:4], column[1:5]]  # six epochs, two windows of four; the last epoch is not used
        by_hand.append(sum(statistics.stdev(window) for window in windows) / 2)
    assert still_learnt(errors).tolist() == pytest.approx(by_hand)
    later = errors.clone()
    later[5] = 9.0
    assert torch.equal(still_learnt(later), still_learnt(errors))
    with pytest.raises(ValueError, match="3 epochs are too few for 2 windows: at least 4"):
        still_learnt(errors[:3])
