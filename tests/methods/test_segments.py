"""Segmented matching (N_syn, N_real, K, I) against loops over pairs of segments."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.methods.test_dc import gradient, slow_distance
from tests.methods.test_dm import sgd
from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.memory import Pixels
from vdc.data.sampler import PerClass
from vdc.methods import DC, DM, IDC, MTT, NCFM
from vdc.methods.base.networks import load_flat_parameters
from vdc.methods.base.options import Augmentation, Network, RealClips
from vdc.nets import build
from vdc.nets.interpolator import Interpolator, save_interpolator
from vdc.ops.augment import diff_augment
from vdc.ops.match import ncf_distance
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import Layout
from vdc.ops.windows import interpolate
from vdc.spec import ClipSpec

TWO = replace(SPEC, stored_frames=2, interpolation="duplicate")
TINY = {"net": Network("tiny", {"norm": "in"}), "iterations": 1, "init": "real", "memory": Pixels}


def watched(cls, root, spec, **options):
    """What one step of a condenser compared: (data, context, items, network, loss, change of the items)."""

    class Watched(cls):
        def loss(self, clips, labels, context):
            terms = super().loss(clips, labels, context)
            theta = Layout.of(self.net).flatten(dict(self.net.named_parameters())).detach().clone()
            self.seen = context, clips.detach().clone(), theta, sum(terms.values()).detach()
            return terms

    data = toy(root, spec, per_class=3)
    model = fit(Watched(K, spec, **TINY | options), data)
    net = build("tiny", K, SPEC, norm="in").eval()
    context, clips, theta, found = model.seen
    load_flat_parameters(net, theta)
    return data, context, clips, net, found


def real_of(data, frames):
    """Real clips of the first step of seed 0, with so many frames, (K, 3, C, T, H, W)."""
    keys = list(PerClass(data.labels, 3, range(K), derive(0, "real", 0), steps=1))
    raws = data.by_key(keys, 0, stored=True, frames=frames)
    clips = torch.cat([data.to_batch(raw).clips for raw in raws])
    return clips.view(K, 3, *clips.shape[1:])


CELLS = [  # spec of the items, N_real, K, whether both sides are stretched first
    (SPEC, None, 2, True),
    (SPEC, None, 4, True),
    (SPEC, 2, 2, False),
    (TWO, None, 2, True),
    (TWO, None, 2, False),
    (TWO, 4, 2, True),
    (TWO, 4, 2, False),
    (TWO, 4, 1, False),
    (replace(TWO, stored_frames=1), 4, 1, False),
    (replace(TWO, interpolation="linear_ends"), 4, 2, True),
]


def sides(data, clips, spec, frames, stretch):
    """Both sides as they are compared; the synthetic ones still need no gradient."""
    real = real_of(data, frames or spec.stored)
    if not stretch:
        return real, clips
    real = interpolate(real.flatten(0, 1), 4, spec.interpolation).view(K, 3, 3, 4, 16, 16)
    return real, interpolate(clips, 4, spec.interpolation)


@pytest.mark.parametrize(("spec", "frames", "segments", "stretch"), CELLS)
def test_dm_adds_the_distances_of_pairs(toy_root, spec, frames, segments, stretch):
    options = {"real": RealClips(frames=frames, segments=segments, stretch=stretch), "chunk": 5}
    data, _, clips, net, found = watched(DM, toy_root, spec, features="pooled", **options)
    real, syn = sides(data, clips, spec, frames, stretch)
    want = 0.0
    for k in range(K):
        for s in range(segments):
            mine = net.features(syn[k, None].chunk(segments, 2)[s])[0]
            theirs = sum(net.features(clip[None].chunk(segments, 2)[s])[0] for clip in real[k]) / 3
            want = want + ((mine - theirs) ** 2).sum()
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)
    assert found > 1e-5


@pytest.mark.parametrize(("spec", "frames", "segments", "stretch"), [CELLS[i] for i in (0, 6)])
def test_dc_adds_the_distances_of_pairs(toy_root, spec, frames, segments, stretch):
    options = {"real": RealClips(frames=frames, segments=segments, stretch=stretch), "chunk": 2}
    torch.manual_seed(0)
    data, _, clips, net, found = watched(DC, toy_root, spec, outer=1, inner=1, optimizer=sgd(0.2), **options)
    clips.requires_grad_()
    real, syn = sides(data, clips, spec, frames, stretch)
    want = 0.0
    for k in range(K):
        for s in range(segments):
            mine = gradient(net, syn[k, None].chunk(segments, 2)[s], k, create_graph=True)
            theirs = [g.detach() for g in gradient(net, [c.chunk(segments, 1)[s] for c in real[k]], k)]
            want = want + slow_distance(mine, theirs, 2, "ours")
    torch.testing.assert_close(found, want.detach(), rtol=1e-4, atol=1e-5)
    (slope,) = torch.autograd.grad(want, clips)
    stored = Pixels(K, 1, spec)
    stored.videos.data = clips.detach() - 0.2 * slope
    stored.clamp()
    data = toy(toy_root, spec, per_class=3)
    model = fit(DC(K, spec, outer=1, inner=1, optimizer=sgd(0.2), **TINY | options), data)
    off = (model.memory.state()["videos"].int() - stored.state()["videos"].int()).abs()
    assert off.max() <= 1
    assert slope.abs().max() > 1e-3


def test_ncfm_adds_the_laws_of_pairs(toy_root):
    options = {"real": RealClips(segments=2), "augment": Augmentation(), "frequencies": 16}
    data, context, clips, net, found = watched(NCFM, toy_root, SPEC, **options)
    real, own = real_of(data, None).flatten(0, 1), torch.arange(K)
    assert context.frequencies.shape == (16, net.embed(clips[:, :, :2]).shape[1])
    want = 0.0
    for s in range(2):
        halves = (x.chunk(2, 2)[s] for x in (real, clips))
        theirs, mine = (F.normalize(net.embed(x), dim=1) for x in halves)
        labels = own.repeat_interleave(3)
        want = want + 300 * ncf_distance(theirs, labels, mine, own, K, context.frequencies)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


def test_one_augmentation_covers_all_segments(toy_root):
    options = {
        "real": RealClips(segments=2),
        "augment": Augmentation("color_crop", "all"),
        "features": "pooled",
    }
    data, _, clips, net, found = watched(DM, toy_root, SPEC, **options)
    want = 0.0
    for k, theirs in enumerate(real_of(data, None)):
        look = [diff_augment(x, generator(0, "augment", 0, 0), "color_crop", "all") for x in (theirs, clips)]
        for s in range(2):
            means = net.features(look[0].chunk(2, 2)[s]).mean(0), net.features(look[1].chunk(2, 2)[s])[k]
            want = want + (means[0] - means[1]).square().sum()
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)


def test_idc_trains_its_network_on_as_many_real_frames(toy_root, monkeypatch):
    lengths = []

    class Spied(IDC):
        def net_losses(self):
            train = self.net.forward
            monkeypatch.setattr(self.net, "forward", lambda x: (lengths.append(x.shape[2]), train(x))[1])
            yield from super().net_losses()

    options = TINY | {"iterations": 2, "inner": 1, "net_batch": 4, "augment": Augmentation(), "cutmix": 0.0}
    data = toy(toy_root, TWO, per_class=3)
    fit(Spied(K, TWO, real=RealClips(frames=4, segments=2, stretch=False), **options), data)
    assert lengths[0] == 4
    assert set(lengths[1:]) == {1, 2}  # segments of items and of real clips


@pytest.fixture
def parametric(tmp_path):
    """A spec of two frames that a network with random weights makes four of."""
    net, rng = Interpolator(4, 16, [2], dim=8, depth=1, heads=2, patch=8), torch.Generator().manual_seed(2)
    net.reset_parameters(rng)
    torch.nn.init.normal_(net.head.weight, std=0.1, generator=rng)
    save_interpolator(tmp_path / "net", net, {}, SPEC.stride)
    return replace(TWO, interpolation="parametric", interpolator=str(tmp_path / "net")), net


def test_items_are_learnt_through_the_interpolator(toy_root, parametric):
    spec, refine = parametric
    options = {"real": RealClips(frames=4, segments=2), "features": "pooled"}
    data, _, clips, net, found = watched(DM, toy_root, spec, **options)
    syn, real = refine(clips.repeat_interleave(2, 2)), real_of(data, 4)
    want = 0.0
    for k in range(K):
        for s in range(2):
            halves = [x.chunk(2, 2)[s] for x in (syn[k, None], real[k])]
            want = want + (net.features(halves[0])[0] - net.features(halves[1]).mean(0)).square().sum()
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-6)
    model = fit(DC(K, spec, outer=1, inner=1, **TINY), data)  # gradients of gradients
    assert not any(name.startswith("interpolator") for name in dict(model.named_parameters()))


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (SPEC, {"segments": 3}, "segments 3 does not divide the 4 frames seen"),
        (TWO, {"segments": 4}, "segments 4 does not divide the 2 frames kept"),
        (TWO, {"segments": 2, "frames": 3}, "segments 2 does not divide the 3 frames kept"),
        (TWO, {"segments": 2, "frames": 3, "stretch": False}, "does not divide the 3 frames seen"),
        (SPEC, {"segments": 0}, "segments must be at least 1"),
        (SPEC, {"frames": 2}, "real.frames 2: set data.spec.interpolation"),
        (TWO, {"frames": 4, "stretch": False}, "last maps of 2 and of 4 frames differ in size"),
        (TWO, {"frames": 5}, "real.frames 5 must be in 1..4"),
        (
            replace(TWO, interpolation="linear_ends"),
            {"frames": 1},
            "linear_ends needs at least 2 frames",
        ),
        (ClipSpec(4, 16, 2, 8, "slide"), {"frames": 4}, "data.spec.window none .it is slide"),
    ],
)
def test_impossible_quadruples_are_refused(spec, options, words):
    with pytest.raises(ValueError, match=words):
        DM(K, spec, **TINY, real=RealClips(**options))


def test_one_frame_and_end_aligned_blending_are_refused():
    with pytest.raises(ValueError, match="linear_ends needs at least 2 frames: use duplicate"):
        ClipSpec(4, 16, 2, stored_frames=1, interpolation="linear_ends")


def test_a_network_that_takes_no_such_pieces_is_said(toy_root):
    spec = ClipSpec(frames=4, size=44, stride=2)
    model = DM(K, spec, real=RealClips(segments=2), iterations=1, net=Network("minic3d", {"norm": "in"}))
    with pytest.raises(
        ValueError, match=r"segments 2.* clips of 2 frames are compared: net minic3d needs spec.frames"
    ):
        fit(model, toy(toy_root, spec, per_class=3))


def test_methods_on_whole_trajectories_have_no_segments():
    with pytest.raises(TypeError, match="real"):
        MTT(K, SPEC, experts="nowhere", real=RealClips(segments=2))


@pytest.mark.parametrize("stretch", [True, False])
def test_frame_networks_take_segments_of_any_length(toy_root, stretch):
    options = TINY | {"net": Network("cnn_gru", {"crop": 12}), "features": "pooled"}
    options["real"] = RealClips(frames=4, segments=2, stretch=stretch)
    model = DM(K, TWO, optimizer=sgd(1.0), **options)
    start = toy(toy_root, TWO, per_class=1)
    before = start.sample(1, 0)
    after = fit(model, start).memory.render(torch.arange(K))[0]
    change = (after - before.squeeze(1)).abs()
    assert change[..., 2:14, 2:14].max() > 0.02  # more than rounding to a grey level
    assert change[..., :2, :].max() < 0.01
