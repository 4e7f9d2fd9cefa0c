"""Static-DC: gradient matching on single frames."""

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.methods.test_dm import real_clips
from tests.methods.tiny import K, fit, toy
from vdc.condensed.format import load
from vdc.data.sampler import PerClass
from vdc.methods import StaticDC
from vdc.methods.static_dc import stalled
from vdc.nets import build
from vdc.ops.match import gradient_distance
from vdc.ops.pixels import to_frames
from vdc.ops.rng import derive, generator
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

STILL = ClipSpec(frames=4, size=16, stride=2, stored_frames=1, interpolation="duplicate")


def sgd(lr):
    return lambda p: torch.optim.SGD(p, lr=lr, momentum=0.5)


@pytest.fixture
def data(toy_root):
    return toy(toy_root, STILL, per_class=3)


def make(**options):
    return StaticDC(K, STILL, **{"iterations": 2, "seed": 3, "optimizer": sgd(0.1)} | options)


def test_steps_are_gradient_matching_of_single_frames_written_out(data):
    model = fit(make(ipc=2), data)
    stills = data.sample(2, 3).flatten(0, 1)  # (2 K, 3, 1, 16, 16)
    momentum = torch.zeros_like(stills)
    for step in range(2):
        net = build("convnet2d", K, ClipSpec(frames=1, size=16)).eval()
        net.reset_parameters("default", generator(3, "network", 0, step))
        weights = {n: p for n, p in net.named_parameters() if p.ndim > 1}

        def pull(clips, label, graph=False, net=net, weights=weights):
            loss = torch.nn.functional.cross_entropy(net(clips), torch.full((len(clips),), label))
            found = torch.autograd.grad(loss, [*weights.values()], create_graph=graph)
            return dict(zip(weights, found, strict=True))

        leaf = stills.clone().requires_grad_()
        total = 0
        for label, real in enumerate(real_clips(data, 3, step)):
            assert real.shape == (3, 3, 1, 16, 16)
            mine = pull(leaf[2 * label : 2 * label + 2], label, graph=True)
            total = total + gradient_distance(mine, pull(real, label), "ours", False)
        momentum = 0.5 * momentum + torch.autograd.grad(total, leaf)[0]
        stills = (stills - 0.1 * momentum).clamp(model.memory.low, model.memory.high)
    assert (model.memory.state()["videos"].int() - to_frames(stills).int()).abs().max() <= 1


def test_frames_of_a_video_are_drawn_anew_over_its_whole_length(data):
    keys = [(row, draw) for row, draw in PerClass(data.labels, 3, [0], derive(3, "real", 0), steps=40)]
    assert len(set(keys)) == len(keys) == 120
    first = sorted({row for row, _ in keys})[0]
    draws = [(row, draw) for row, draw in keys if row == first]
    seen = torch.cat([raw.frames.flatten(0, 1) for raw in data.by_key(draws, 3, 4, stored=True)])
    every = data._clips("train", frames=1, clips=32, starts="spread", boxes="centre")
    whole = every.read([first], [range(32)])[0]
    found = {int(i) for frame in seen for i in (whole[0, :, 0] == frame[0]).flatten(1).all(1).nonzero()}
    assert len(draws) == 24
    assert len(found) > 12  # of 32
    assert min(found) < 4 or max(found) > 29  # where no clip of 4 frames has its middle


def test_the_set_teaches_as_still_videos(data, tmp_path):
    out = str(tmp_path / "set")
    fit(make(ipc=2, out=out), data)
    kept = load(out)
    memory = kept.memory()
    assert kept.nbytes["clips"] == 2 * K * 16 * 16 * 3
    assert kept.manifest["method"] == "StaticDC"
    shown = apply_view(memory.render(torch.arange(len(memory)))[0], kept.spec)
    assert shown.shape == (2 * K, 3, 4, 16, 16)
    assert (shown == shown[:, :, :1]).all()
    assert shown[:, :, 0].std() > 0.1


@pytest.mark.parametrize(("ipc", "loops"), [(1, (1, 1)), (2, (1, 1)), (5, (1, 1)), (10, (10, 50))])
def test_loops_are_those_published(ipc, loops):
    model = make(ipc=ipc)
    assert (model.outer, model.inner) == loops
    given = make(ipc=ipc, outer=3, inner=4)
    assert (given.outer, given.inner) == (3, 4)


def test_the_network_trains_on_the_stills_between_steps(data):
    model = fit(make(ipc=1, outer=2, inner=2, net_lr=0.5), data)
    fresh = build("convnet2d", K, ClipSpec(frames=1, size=16))
    fresh.reset_parameters("default", generator(3, "network", 0, 0))
    assert all(not torch.equal(p, q) for p, q in zip(model.net.parameters(), fresh.parameters(), strict=True))


@pytest.mark.parametrize(
    ("losses", "patience", "over"),
    [
        ([3, 2, 2, 1], 2, False),
        ([1, 1, 1, 1], 2, True),
        ([9, 1, 1, 1, 2], 2, True),
        ([9, 2, 2, 1, 1], 2, False),
        ([1, 2, 3], 2, False),  # too few to tell
        ([1, 1], 1, True),
    ],
)
def test_when_the_loss_has_stopped_falling(losses, patience, over):
    assert stalled(torch.tensor(losses).float(), patience) == over


def test_a_run_ends_early_and_resumes_with_what_it_saw(data, tmp_path):
    options = {"ipc": 1, "optimizer": sgd(0.0), "iterations": 12, "patience": 3}
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    whole = fit(make(**options), data, callbacks=[keep], enable_checkpointing=True)
    ended = whole.trainer.global_step
    assert 6 <= ended < 12
    resumed = fit(make(**options), data, ckpt_path=str(tmp_path / "step=4.ckpt"))
    assert resumed.trainer.global_step == ended
    assert fit(make(**options | {"patience": None, "iterations": 7}), data).trainer.global_step == 7


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (ClipSpec(frames=4, size=16), {}, "stored_frames 1"),
        (STILL, {"patience": 0}, "patience 0"),
        (STILL, {"patience": 5, "block": 1}, "one block"),
        (STILL, {"ipc": 3}, "no published loops"),
    ],
)
def test_what_cannot_be_is_refused(spec, options, words):
    with pytest.raises(ValueError, match=words):
        StaticDC(K, spec, **options)
