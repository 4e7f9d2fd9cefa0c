import math

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from vdc.ops.stats import (
    Moments,
    Momentum,
    Stat,
    channel_moments,
    class_target,
    flatness,
    layer_distance,
    patch_moments,
    pooled,
    smooth_,
    statistic_distance,
)


def maps(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_moments(values):
    """Two passes over a list of numbers."""
    values = values.flatten().tolist()
    mean = math.fsum(values) / len(values)
    return mean, math.fsum((v - mean) ** 2 for v in values) / len(values)


def test_channel_moments_are_the_two_pass_loop():
    x = maps(2, 3, 2, 4, 5) * 2 + 1
    stat = channel_moments(x)
    batch = pooled(stat)
    for c in range(3):
        for n in range(2):
            assert (stat.mean[n, c].item(), stat.var[n, c].item()) == pytest.approx(slow_moments(x[n, c]))
        assert (batch.mean[c].item(), batch.var[c].item()) == pytest.approx(slow_moments(x[:, c]))


def test_batch_moments_are_those_of_a_norm_layer():
    """A training-mode norm with momentum 1 keeps exactly the batch statistics (unbiased variance)."""
    x = maps(3, 2, 2, 4, 4).float()
    norm = nn.BatchNorm3d(2, momentum=1.0)
    norm(x)
    batch, count = pooled(channel_moments(x)), x[:, 0].numel()
    assert torch.allclose(batch.mean, norm.running_mean, atol=1e-6)
    assert torch.allclose(batch.var * count / (count - 1), norm.running_var, atol=1e-6)


def test_channel_moments_gradient():
    x = maps(2, 2, 1, 2, 3).requires_grad_()
    assert gradcheck(lambda t: tuple(channel_moments(t)), x)
    assert gradgradcheck(lambda t: tuple(channel_moments(t)), x)
    assert gradcheck(lambda t: tuple(pooled(channel_moments(t))), x)


def test_channel_moments_survive_a_large_mean_and_half_precision():
    x = (maps(2, 2, 4, 32, 32) + 1000).float()
    exact = channel_moments(x.double())
    assert torch.allclose(channel_moments(x).var.double(), exact.var, rtol=1e-4)
    half = x.bfloat16().requires_grad_()
    stat = channel_moments(half)
    assert stat.var.dtype == torch.float32
    assert torch.allclose(stat.mean.double(), half.detach().double().mean((2, 3, 4)), rtol=1e-6)
    stat.mean.sum().backward()
    assert half.grad.dtype == torch.bfloat16


@pytest.mark.parametrize(("height", "width"), [(4, 8), (5, 3)])  # fits the window; has to be stretched
def test_patch_moments_fold_frames_into_the_batch(height, width):
    x, window = maps(2, 3, 2, height, width), 4
    frames = torch.cat([x[:, :, t] for t in range(2)])  # any order of frames: the statistics do not see it
    rows, columns = math.ceil(height / window), math.ceil(width / window)
    frames = F.interpolate(frames, (rows * window, columns * window), mode="bilinear")
    batch = pooled(patch_moments(x, window))
    for i in range(rows):
        for j in range(columns):
            cell = frames[:, :, i * window : (i + 1) * window, j * window : (j + 1) * window]
            found = batch.mean[i * columns + j].item(), batch.var[i * columns + j].item()
            assert found == pytest.approx(slow_moments(cell))
    assert batch.mean.shape == (rows * columns,)


def test_patch_moments_are_per_clip_and_differentiable():
    x = maps(3, 2, 2, 3, 4)
    assert torch.equal(patch_moments(x, 2).mean[1], patch_moments(x[1:2], 2).mean[0])
    assert gradcheck(lambda t: tuple(patch_moments(t, 2)), maps(1, 1, 2, 3, 2).requires_grad_())


LABELS = torch.tensor([0, 2, 2, 1, 0, 2, 2])


def accumulate(x, labels, batches):
    moments = Moments.zeros(3, x.shape[1])
    for rows in batches:
        moments.update(channel_moments(x[rows]), labels[rows])
    return moments


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_moments_are_the_two_pass_ones(offset):
    x = maps(7, 2, 2, 3, 3) * torch.arange(1, 8).view(7, 1, 1, 1, 1) + offset
    moments = accumulate(x, LABELS, [[0, 1, 2], [3], [4, 5, 6]])
    for k in range(3):
        for c in range(2):
            clips = [x[n, c] for n in range(7) if LABELS[n] == k]
            mean, var = slow_moments(torch.stack(clips))
            within = math.fsum(slow_moments(clip)[1] for clip in clips) / len(clips)
            assert moments.classes("within").mean[k, c].item() == pytest.approx(mean, rel=1e-12)
            assert moments.classes("within").var[k, c].item() == pytest.approx(within, rel=1e-9)
            assert moments.classes("pooled").var[k, c].item() == pytest.approx(var, rel=1e-8)
    for c in range(2):
        mean, var = slow_moments(x[:, c])
        within = math.fsum(slow_moments(x[n, c])[1] for n in range(7)) / 7
        assert moments.dataset().mean[c].item() == pytest.approx(mean, rel=1e-12)
        assert moments.dataset().var[c].item() == pytest.approx(var, rel=1e-8)
        assert moments.dataset("within").var[c].item() == pytest.approx(within, rel=1e-9)


def test_moments_of_ranks_merge():
    x = maps(7, 2, 1, 3, 3)
    whole = accumulate(x, LABELS, [list(range(7))])
    one, other = accumulate(x, LABELS, [[0, 2, 4]]), accumulate(x, LABELS, [[6], [1, 3, 5]])
    one.merge(other)
    assert torch.allclose(one.sums, whole.sums, rtol=1e-14)
    assert other.sums[:, 0].tolist() == [0, 1, 3]  # the merged one is left alone


def test_moments_take_no_graph_and_single_precision_input():
    x = maps(2, 2, 1, 3, 3).float().requires_grad_()
    moments = Moments.zeros(3, 2)
    moments.update(channel_moments(x), LABELS[:2])
    assert not moments.sums.requires_grad
    assert moments.sums.dtype == torch.float64


def test_moments_name_what_was_not_seen():
    moments = Moments.zeros(3, 2)
    with pytest.raises(ValueError, match="no clip"):
        moments.dataset()
    moments.update(channel_moments(maps(1, 2, 1, 2, 2)), torch.tensor([1]))
    with pytest.raises(ValueError, match=r"\[0, 2\]"):
        moments.classes()


def test_class_target_counts_repeats():
    classes = Stat(torch.tensor([[1.0], [4.0], [100.0]]), torch.tensor([[2.0], [5.0], [100.0]]))
    target = class_target(classes, torch.tensor([0, 0, 1]))
    assert (target.mean.item(), target.var.item()) == (2.0, 3.0)


def test_statistic_distance_by_hand():
    mean, var = torch.tensor([4.0, 5.0]), torch.tensor([1.0, 1.0])
    distance = statistic_distance(mean, var, torch.tensor([1.0, 1.0]), torch.tensor([6.0, 13.0]))
    assert distance.item() == 5 + 13  # 3-4-5 and 5-12-13: roots, not squares


def test_statistic_distance_gradient_and_match():
    tensors = [maps(3, seed=s).requires_grad_() for s in range(4)]
    assert gradcheck(statistic_distance, tensors)
    mean = maps(3).requires_grad_()
    statistic_distance(mean, mean + 1, mean.detach(), mean.detach() + 1).backward()
    assert mean.grad.tolist() == [0, 0, 0]  # no NaN at a perfect match


def test_layer_distance_mixes():
    batch, dataset, classes = (
        Stat(torch.full((1,), m), torch.full((1,), v)) for m, v in ((0, 0), (1, 2), (10, 20))
    )
    batch, dataset, classes = (Stat(s.mean.float(), s.var.float()) for s in (batch, dataset, classes))
    assert layer_distance(batch, dataset, classes, 0.25).item() == 0.25 * 3 + 0.75 * 30
    assert layer_distance(batch, dataset, None, 1.0).item() == 3
    assert layer_distance(batch, None, classes, 0.0).item() == 30
    with pytest.raises(ValueError, match="class statistics"):
        layer_distance(batch, dataset, None, 0.5)


def test_alpha_one_on_norm_layers_is_sre2l():
    norm = nn.BatchNorm3d(3)
    norm.running_mean.copy_(torch.tensor([0.5, -1.0, 2.0]))
    norm.running_var.copy_(torch.tensor([1.5, 1.0, 0.2]))
    x = maps(4, 3, 2, 5, 5).float().requires_grad_()
    mean, var = x.mean((0, 2, 3, 4)), x.var((0, 2, 3, 4), unbiased=False)
    expected = (norm.running_var - var).norm(2) + (norm.running_mean - mean).norm(2)
    (slope,) = torch.autograd.grad(expected, x)
    found = layer_distance(
        pooled(channel_moments(x)), Stat(norm.running_mean, norm.running_var), None, alpha=1.0
    )
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(x.grad, slope, atol=1e-7)


@pytest.mark.parametrize(("corrected", "second"), [(True, 0.56 / 0.36), (False, 0.56)])
def test_momentum_by_hand(corrected, second):
    momentum = Momentum(0.8, corrected)
    first = momentum("a", torch.tensor([1.0]))
    assert first.item() == pytest.approx(1.0 if corrected else 0.2)
    current = torch.tensor([2.0], requires_grad=True)
    value = momentum("a", current)
    assert value.item() == pytest.approx(second)
    (3 * value).backward()
    assert current.grad.item() == 3  # as if it were the batch's own
    assert momentum("b", torch.tensor([7.0])).item() == pytest.approx(
        7.0 if corrected else 1.4
    )  # taps are apart


def test_momentum_resets_resumes_and_switches_off():
    momentum = Momentum(0.8)
    momentum("a", torch.tensor([1.0]))
    resumed = Momentum(0.8, averages=dict(momentum.averages), weights=dict(momentum.weights))
    x = torch.tensor([5.0])
    assert torch.equal(resumed("a", x), momentum("a", x))
    momentum.reset()
    assert momentum("a", x).item() == pytest.approx(5.0)
    off = Momentum(0.0)
    assert [off("a", torch.tensor([v])).item() for v in (3.0, 4.0)] == [3.0, 4.0]


def test_smooth_by_hand():
    slow, now = torch.tensor([1.0]), torch.tensor([2.0], requires_grad=True)
    smooth_([slow], [now], 0.75)
    assert slow.tolist() == [1.25]
    assert not slow.requires_grad


def test_flatness_by_hand():
    """Two classes, T 1: KL((3/4, 1/4) || (1/2, 1/2)) beside a row that agrees."""
    slow = torch.tensor([[math.log(3.0), 0.0], [1.0, 2.0]])
    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    one = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert flatness(logits, slow, 1.0).item() == pytest.approx(one / 2)
    assert flatness(logits, slow, 1.0, "mean").item() == pytest.approx(one / 4)
    assert flatness(4 * logits, 4 * slow, 4.0).item() == pytest.approx(one / 2)  # no factor T^2


def test_flatness_gradient_holds_the_slow_copy():
    logits, slow = maps(2, 3).requires_grad_(), maps(2, 3, seed=1).requires_grad_()
    assert gradcheck(lambda a: flatness(a, slow.detach()), logits)
    flatness(logits, slow).backward()
    assert slow.grad is None
