import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vdc.ops.mix import cutmix
from vdc.ops.rng import generator


def numbered(n, t=3, h=8, w=10):
    """Clips whose every pixel tells its clip, and the frame and place it comes from."""
    place = torch.arange(3 * t * h * w).view(1, 3, t, h, w)
    return (place + 100_000 * torch.arange(n).view(n, 1, 1, 1, 1)).float()


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32))
def test_one_box_of_other_clips_at_the_same_place(n, height, width, seed):
    clips = numbered(n, 2, height, width)
    before = clips.clone()
    mixed, pasted, kept = cutmix(clips, torch.arange(n), generator(seed))
    assert torch.equal(clips, before)
    assert sorted(pasted.tolist()) == list(range(n))
    place, source = mixed % 100_000, (mixed / 100_000).floor().long()
    assert torch.equal(place, clips % 100_000)  # pixels never move
    own = torch.arange(n).view(n, 1, 1, 1, 1)
    foreign = source != own
    assert torch.equal(torch.where(foreign, pasted.view(n, 1, 1, 1, 1), own), source)
    moved = (pasted != torch.arange(n)).nonzero().flatten()
    for i in moved:
        box = foreign[i, 0, 0]
        assert torch.equal(box, foreign[moved[0], 0, 0])  # the same for the batch
        assert (foreign[i] == box).all()  # and for all channels and frames
        assert torch.equal(box, box.any(1, keepdim=True) & box.any(0, keepdim=True))  # a rectangle
        assert kept.item() == pytest.approx(1 - box.sum().item() / box.numel())
    assert 0 <= kept <= 1


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_the_kept_share_follows_the_papers_law(alpha):
    n, side = 1500, 20
    clips = torch.zeros(1, 1, 1, side, side)
    ours = [cutmix(clips, torch.zeros(1), generator(i), alpha)[2].item() for i in range(n)]
    dice = np.random.default_rng(0)
    theirs = []
    for _ in range(n):
        cut = int(side * math.sqrt(1 - dice.beta(alpha, alpha)))
        edges = [np.clip([c - cut // 2, c + cut // 2], 0, side) for c in dice.integers(side, size=2)]
        theirs.append(1 - np.prod([b - a for a, b in edges]) / side**2)
    at = np.array([*ours, *theirs])
    share = [np.searchsorted(np.sort(x), at, side="right") / n for x in (ours, theirs)]
    assert abs(share[0] - share[1]).max() < 1.95 * math.sqrt(2 / n)  # Kolmogorov-Smirnov, one in a thousand


def test_mixing_depends_on_the_generator_alone_and_takes_soft_labels():
    clips, labels = numbered(5), torch.eye(5)
    first, again, other = (cutmix(clips, labels, generator(s)) for s in (1, 1, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert first[1].shape == (5, 5)


def test_gradients_follow_the_pixels():
    clips = torch.randn(3, 1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: cutmix(x, torch.arange(3), generator(2))[0] ** 2, clips)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_mixes_what_a_cpu_does():
    here = cutmix(numbered(4), torch.arange(4), generator(3))
    there = cutmix(numbered(4).cuda(), torch.arange(4).cuda(), generator(3))
    for a, b in zip(here, there, strict=True):
        assert torch.equal(b.cpu(), a)
