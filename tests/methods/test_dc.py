from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tests.methods.test_dm import real_clips, run, sgd
from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.memory import Pixels
from vdc.methods import DC, DSA, IDC
from vdc.methods.base.networks import load_flat_parameters
from vdc.methods.base.options import Network, RealClips
from vdc.methods.dc import LOOPS
from vdc.nets import build
from vdc.ops.augment import diff_augment
from vdc.ops.rng import generator
from vdc.ops.unroll import Layout

TINY = {"net": Network("tiny", {"norm": "in"})}


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def watched(cls, **options):
    """A condenser that keeps, of every step, items, labels, network and loss."""

    class Watched(cls):
        def loss(self, clips, labels, context):
            terms = super().loss(clips, labels, context)
            weights = Layout.of(self.net).flatten(dict(self.net.named_parameters())).detach().clone()
            self.seen.append((clips.detach().clone(), labels, weights, terms["gradients"]))
            return terms

    model = Watched(K, SPEC, **TINY | options)
    model.seen = []
    return model


def tiny(theta):
    net = build("tiny", K, SPEC, norm="in").eval()
    load_flat_parameters(net, theta)
    return net


def gradient(net, clips, label, create_graph=False):
    loss = sum(-net(clip[None]).log_softmax(1)[0, label] for clip in clips) / len(clips)
    return torch.autograd.grad(loss, [*net.parameters()], create_graph=create_graph)


def slow_distance(syn, real, least, metric):
    """DC's distance by a loop over outputs, a Conv3d weight read as (out, -1); IDC's sums."""
    total = 0.0
    for g, h in zip(syn, real, strict=True):
        if g.ndim < least:
            continue
        if metric == "mse":
            total = total + ((g - h) ** 2).sum()
        elif metric == "l1":
            total = total + (g - h).abs().sum()
        else:
            for a, b in zip(g.reshape(len(g), -1), h.reshape(len(h), -1), strict=True):
                total = total + 1 - a @ b / (a.norm() * b.norm())
    return total


def slow_loss(net, real, syn, labels, least, metric, look=lambda x, k: x):
    total = 0.0
    for k in range(K):
        wanted = [g.detach() for g in gradient(net, look(real[k], k), k)]
        total = total + slow_distance(
            gradient(net, look(syn[labels == k], k), k, True), wanted, least, metric
        )
    return total


@pytest.mark.parametrize("chunk", [1, 64])
def test_dc_is_the_slow_loop_and_its_gradient(data, chunk):
    model = watched(
        DC, ipc=2, outer=1, inner=1, init="real", iterations=1, chunk=chunk, optimizer=sgd(0.2), seed=3
    )
    fit(model, data)
    clips, labels, theta, found = model.seen[0]
    net = build("tiny", K, SPEC, norm="in").eval()
    net.reset_parameters("default", generator(3, "network", 0, 0))
    torch.testing.assert_close(Layout.of(net).flatten(dict(net.named_parameters())).detach(), theta)
    clips.requires_grad_()
    expected = slow_loss(net, real_clips(data, 3, 0), clips, labels, 2, "ours")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    (slope,) = torch.autograd.grad(expected, clips)
    assert slope.abs().max() > 1e-3
    stored = Pixels(K, 2, SPEC)
    stored.videos.data = clips.detach() - 0.2 * slope
    stored.clamp()
    off = (model.memory.state()["videos"].int() - stored.state()["videos"].int()).abs()
    assert off.max() <= 1
    assert off.float().mean() < 0.01


def test_dsa_draws_one_family_for_a_class(data):
    model = watched(DSA, iterations=1, seed=2)
    fit(model, data)
    clips, labels, theta, found = model.seen[0]

    def look(x, k):
        return diff_augment(x, generator(2, "augment", k, 0, 0), "color_crop_cutout_flip_scale_rotate", "one")

    expected = slow_loss(tiny(theta), real_clips(data, 2, 0), clips, labels, 2, "ours", look)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_dc_trains_its_network_on_the_items_between_steps_and_then_replaces_it(data):
    model = watched(
        DC, ipc=1, outer=2, inner=3, init="real", iterations=4, net_lr=0.3, net_batch=3, optimizer=sgd(0.5)
    )
    fit(model, data)
    thetas = [seen[2] for seen in model.seen]
    fresh = []
    for step in (0, 2):
        net = build("tiny", K, SPEC, norm="in")
        net.reset_parameters("default", generator(0, "network", 0, step))
        fresh.append(Layout.of(net).flatten(dict(net.named_parameters())).detach())
    assert torch.equal(thetas[0], fresh[0])
    assert torch.equal(thetas[2], fresh[1])
    net, rng = tiny(thetas[0]).train(), generator(0, "network batches", 0, 1)
    clips, labels = model.seen[1][:2]  # the items after the first update
    steps = 0
    for _ in range(3):
        for rows in torch.randperm(K, generator=rng).split(3):
            grads = torch.autograd.grad(F.cross_entropy(net(clips[rows]), labels[rows]), [*net.parameters()])
            for parameter, g in zip(net.parameters(), grads, strict=True):
                parameter.data -= 0.3 * g
            steps += 1
    assert steps == 6
    trained = Layout.of(net).flatten(dict(net.named_parameters())).detach()
    torch.testing.assert_close(trained, thetas[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (DC, {"outer": 3, "inner": 1, "init": "real", "net_lr": 0.1}),
        (IDC, {"outer": 3, "inner": 2, "net_batch": 8, "net_lr": 0.1}),
        (IDC, {"outer": 3, "inner": 1, "net_batch": 8, "block": 2, "real": RealClips("dream", interval=2)}),
    ],
)
def test_a_resumed_run_is_the_uninterrupted_one(data, tmp_path, cls, options):
    make = partial(cls, K, SPEC, optimizer=sgd(20.0), iterations=4, **TINY | options)
    whole = run(make(), data, tmp_path)
    steps = max(whole)
    assert not torch.equal(whole[steps], whole[steps - 1])
    for step in (2, steps - 2):  # while a network is in training, and just before a new one
        again = run(
            make(), toy(data.root, per_class=3), tmp_path / "again", str(tmp_path / f"step={step}.ckpt")
        )
        torch.testing.assert_close(again[steps], whole[steps], rtol=0, atol=1e-6)


@pytest.mark.parametrize("cls", [DC, IDC])
def test_a_prefix_of_the_items_is_compared_under_the_same_context(data, cls):
    found = {}

    class Twice(cls):
        def loss(self, clips, labels, context):
            rows, loss = self.memory.prefix(1), super().loss
            found["part"] = loss(clips[rows], labels[rows], context)["gradients"]
            found["soft"] = loss(clips[rows], torch.eye(K)[labels[rows]], context)["gradients"]
            found["whole"] = loss(clips, labels, context)["gradients"]
            found["slope"] = torch.autograd.grad(found["part"], clips, retain_graph=True)[0]
            return loss(clips, labels, context)

    fit(Twice(K, SPEC, ipc=2, memory=Pixels, outer=1, inner=1, init="real", iterations=1, **TINY), data)
    assert torch.equal(found["part"], found["soft"])
    assert not torch.isclose(found["part"], found["whole"])
    moved = found["slope"].flatten(1).abs().sum(1) > 0
    expected = torch.zeros(len(moved), dtype=torch.bool)
    expected[torch.arange(len(moved)).view(K, -1)[:, : len(moved) // K // 2]] = True
    assert torch.equal(moved, expected)


def test_published_loops():
    assert LOOPS[10] == (10, 50)
    model = DC(K, SPEC, ipc=10, **TINY)
    assert (model.outer, model.inner) == (10, 50)
    assert (DC(K, SPEC, ipc=1, **TINY).outer, DC(K, SPEC, ipc=5, **TINY).inner) == (1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ipc": 3}, "no published loops for --model.init_args.ipc 3"),
        ({"ipc": 10, "block": 10}, "must be one block.*40"),
        ({"outer": 0}, "model.init_args.outer must be at least 1, got 0"),
        ({"net_batch": 0}, "model.init_args.net_batch"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DC(K, SPEC, **TINY | options)
