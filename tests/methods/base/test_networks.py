"""What matching does with networks: features in chunks, gradients, endless batches, a new start."""

import pytest
import torch
import torch.nn.functional as F

from tests.methods.tiny import SPEC, K, toy
from vdc.data.sampler import Shuffled
from vdc.methods.base.networks import chunked_features, endless, mean_gradient, renew
from vdc.nets import build
from vdc.ops.rng import generator


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def test_mean_gradient_takes_parameters_of_enough_axes():
    net, clips, labels = (
        build("tiny", K, SPEC, norm="in"),
        torch.randn(3, 3, 4, 16, 16),
        torch.tensor([0, 2, 1]),
    )
    found = mean_gradient(net, 4, clips, labels)
    assert list(found) == ["conv1.weight", "conv2.weight"]
    every = mean_gradient(net, 0, clips, labels)
    F.cross_entropy(net(clips), labels).backward()
    assert every.keys() == dict(net.named_parameters()).keys()
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(every[name], parameter.grad)


@pytest.mark.parametrize("first", [0, 3, 8, 13])
def test_endless_goes_on_over_epochs_from_any_batch(data, first):
    def loader():
        return data.by_key(Shuffled(20, 7), 0, 3, stored=True)

    whole = endless(loader(), 0)
    rows = [next(whole).rows.tolist() for _ in range(16)]
    part = endless(loader(), first)
    assert [next(part).rows.tolist() for _ in range(16 - first)] == rows[first:]
    assert sorted(row for batch in rows[:7] for row in batch) == list(range(20))
    assert rows[:7] != rows[7:14]


def test_embed_is_the_same_in_chunks_and_holds_no_more():
    net, clips = build("tiny", K, SPEC, norm="in").eval(), torch.randn(7, 3, 4, 16, 16, requires_grad=True)
    results = []
    for chunk in (2, 7):
        maps = chunked_features(net, clips, chunk)
        results += [maps, *torch.autograd.grad(maps.square().sum(), clips)]
    torch.testing.assert_close(results[0], results[2])
    torch.testing.assert_close(results[1], results[3])
    torch.testing.assert_close(chunked_features(net, clips, 3, pooled=True), net.features(clips))
    most = []
    handle = net.conv2.register_forward_hook(lambda _, inputs, __: most.append(len(inputs[0])))
    chunked_features(net, clips, 2)
    handle.remove()
    assert most == [2, 2, 2, 1]


def test_renew_without_a_pool_is_the_usual_start():
    one, two = (build("tiny", K, SPEC, norm="in") for _ in range(2))
    renew(one, None, generator(4))
    two.reset_parameters("default", generator(4))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
