from functools import partial

import pytest
import torch
import torch.nn.functional as F

from tests.methods.test_dm import real_clips, run, sgd
from tests.methods.tiny import SPEC, K, _registered, fit, toy, toy_root  # noqa: F401
from vdc.condensed.memory import MultiFormation, Pixels
from vdc.data.sampler import Shuffled
from vdc.methods import DC, DSA, IDC
from vdc.methods.base.networks import endless, load_flat_parameters, mean_gradient
from vdc.methods.base.options import Augmentation, Network, RealClips
from vdc.methods.dc import LOOPS
from vdc.nets import build
from vdc.ops.augment import diff_augment
from vdc.ops.match import gradient_distance
from vdc.ops.mix import cutmix
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import Layout

TINY = {"net": Network("tiny", {"norm": "in"})}


@pytest.fixture
def data(toy_root):  # noqa: F811
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


def test_dsa_draws_one_family_for_a_class(data):
    model = watched(DSA, iterations=1, seed=2)
    fit(model, data)
    clips, labels, theta, found = model.seen[0]

    def look(x, k):
        return diff_augment(x, generator(2, "augment", k, 0, 0), "color_crop_cutout_flip_scale_rotate", "one")

    expected = slow_loss(tiny(theta), real_clips(data, 2, 0), clips, labels, 2, "ours", look)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_distance_is_zero_for_equal_gradients_and_blind_to_row_scale_and_biases():
    rng = torch.Generator().manual_seed(0)
    g = {"conv": torch.randn(4, 3, 2, 2, 2, generator=rng), "fc": torch.randn(5, 6, generator=rng)}
    g["bias"] = torch.randn(5, generator=rng)
    assert gradient_distance(g, g).abs() < 1e-5
    scaled = {
        name: t * torch.rand(len(t), generator=rng).add(0.1).view(-1, *[1] * (t.ndim - 1))
        for name, t in g.items()
    }
    assert gradient_distance(g, scaled).abs() < 1e-5
    other = {name: torch.randn(t.shape, generator=rng) for name, t in g.items()}
    assert gradient_distance(g, other) > 1
    torch.testing.assert_close(
        gradient_distance(g, other), gradient_distance(g, {**other, "bias": g["bias"]})
    )
    flat = [{**d, "conv": d["conv"].reshape(4, -1)} for d in (g, other)]
    torch.testing.assert_close(gradient_distance(g, other), gradient_distance(*flat))
    last_axis = 1 - F.cosine_similarity(
        g["conv"], other["conv"], dim=-1
    )  # what the references do to a Conv3d
    assert not torch.isclose(gradient_distance({"c": g["conv"]}, {"c": other["conv"]}), last_axis.sum())
    hand = gradient_distance(
        {"c": torch.full((1, 1, 1, 1, 1), 3.0)}, {"c": torch.full((1, 1, 1, 1, 1), 1.0)}, "l1"
    )
    assert hand == 2


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
