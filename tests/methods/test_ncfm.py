"""NCFM against complex characteristic functions; what it shares with DM is tested with DM."""

import pytest
import torch

from tests.methods.test_dm import real_clips, watched
from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.memory import MultiFormation
from vdc.methods import NCFM
from vdc.methods.base.networks import load_flat_parameters
from vdc.methods.base.options import Augmentation
from vdc.nets import build
from vdc.ops.rng import generator


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def slow_ncf(net, real, syn, labels, frequencies):
    """Mean over t and sum over classes of sqrt(A^2 / 2 + P / 2) of complex characteristic functions."""
    total = 0.0
    for k in range(len(real)):
        phi = []
        for clips in (real[k], syn[labels == k]):
            unit = torch.stack([net.embed(clip[None])[0] / net.embed(clip[None])[0].norm() for clip in clips])
            phi.append(torch.exp(1j * (unit @ frequencies.T)).mean(0))
        amplitude = (phi[0].abs() - phi[1].abs()) ** 2
        phase = 2 * (phi[0].abs() * phi[1].abs() - (phi[0] * phi[1].conj()).real)
        total = total + (amplitude / 2 + phase / 2).clamp_min(1e-12).sqrt().mean()
    return total


def test_ncfm_compares_characteristic_functions_of_unit_features(data):
    model = fit(
        watched(NCFM, data, augment=Augmentation(), frequencies=16, weight=7.0, iterations=1, seed=2), data
    )
    context, clips, labels, weights, terms = model.seen[0]
    assert isinstance(model.memory, MultiFormation)
    assert len(clips) == 4 * K  # packed 2 x 2
    assert list(terms) == ["law"]  # no trained networks, no calibration
    net = build("tiny", K, SPEC, norm="in").eval()
    load_flat_parameters(net, weights)
    expected = 7 * slow_ncf(net, real_clips(data, 2, 0), clips, labels, context.frequencies)
    torch.testing.assert_close(terms["law"], expected, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(
        context.frequencies, torch.randn(16, 384, generator=generator(2, "frequencies", 0, 0))
    )


def test_ncfm_takes_networks_between_the_ends_of_experts_and_calibrates_with_the_last(data, two_experts):
    folder, thetas = two_experts
    model = fit(
        watched(NCFM, data, experts=folder, augment=Augmentation(), iterations=6, calibration=0.5), data
    )
    shares = []
    for _, clips, labels, weights, terms in model.seen:
        found = []
        for number in range(2):
            first, last = thetas[number, 0], thetas[number, 2]
            share = ((weights - last) @ (first - last) / (first - last).square().sum()).item()
            if torch.allclose(weights, last + share * (first - last), atol=1e-5):
                found.append((number, share))
        assert len(found) == 1
        shares.append(found[0])
        net = build("tiny", K, SPEC, norm="in").eval()
        load_flat_parameters(net, thetas[found[0][0], 2])
        wrong = -net(clips).log_softmax(1)[torch.arange(len(clips)), labels]
        expected = 0.5 * sum(wrong[labels == k].mean() for k in range(K))
        torch.testing.assert_close(terms["calibration"], expected, rtol=1e-4, atol=1e-5)
    assert {number for number, _ in shares} == {0, 1}
    assert all(0 <= share <= 1 for _, share in shares)
