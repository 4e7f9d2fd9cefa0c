"""IDC against slow loops over packed clips, and the training of its network on real ones."""

import pytest
import torch
import torch.nn.functional as F

from tests.methods.test_dc import slow_loss, tiny, watched
from tests.methods.test_dm import real_clips
from tests.methods.tiny import K, fit, toy
from vdc.condensed.memory import MultiFormation
from vdc.data.sampler import Shuffled
from vdc.methods import IDC
from vdc.methods.base.options import Augmentation
from vdc.ops.augment import diff_augment
from vdc.ops.mix import cutmix
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import Layout


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


@pytest.mark.parametrize("metric", ["mse", "l1"])
def test_idc_compares_convolutions_of_packed_augmented_clips(data, metric):
    model = watched(IDC, iterations=1, metric=metric, seed=1)
    fit(model, data)
    clips, labels, theta, found = model.seen[0]
    assert isinstance(model.memory, MultiFormation)
    assert labels.tolist() == [k for k in range(K) for _ in range(4)]

    def look(x, k):  # one draw of all families for a class, real and synthetic
        return diff_augment(x, generator(1, "augment", k, 0, 0), "color_crop_cutout", "all")

    expected = slow_loss(tiny(theta), real_clips(data, 1, 0), clips, labels, 4, metric, look)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)


def test_idc_trains_its_network_on_new_real_clips_between_steps(data):
    model = watched(
        IDC, outer=4, inner=2, iterations=3, net_batch=3, net_lr=0.2, augment=Augmentation(), cutmix=0.0
    )
    fit(model, data)
    thetas = [seen[2] for seen in model.seen]
    keys = list(Shuffled(len(data.labels), derive(0, "network", 0)).keys(0, 0))
    net = tiny(thetas[0]).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2, momentum=0.9, weight_decay=5e-4)
    for step in (1, 2):
        for first in (6 * step - 6, 6 * step - 3):
            (raw,) = data.by_key(keys[first : first + 3], 0, 3, stored=True)
            optimizer.zero_grad()
            F.cross_entropy(net(data.to_batch(raw).clips), raw.labels).backward()
            optimizer.step()
        theta = Layout.of(net).flatten(dict(net.named_parameters())).detach()
        torch.testing.assert_close(theta, thetas[step], rtol=1e-4, atol=1e-5)


def test_idc_mixes_clips_that_its_network_trains_on(data, monkeypatch):
    mixed = []
    monkeypatch.setattr("vdc.methods.idc.cutmix", lambda x, y, g: (mixed.append(len(x)), cutmix(x, y, g))[1])
    fit(watched(IDC, outer=3, inner=2, iterations=3, net_batch=4, cutmix=1.0), data)
    assert mixed == [4] * 4
