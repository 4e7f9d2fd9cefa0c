"""DM, MTT, DATM and FRePo on a StaticDynamic memory: the steps written out, one clip and one pair at a time."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional as F

from tests.methods.test_dm import real_clips, slow_dm
from tests.methods.test_mtt import opened
from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels, StaticDynamic
from vdc.methods import DATM, DM, MTT, FRePo
from vdc.methods.base.options import Network
from vdc.methods.mtt import TrajectorySegment, inner_batches
from vdc.nets import build
from vdc.ops.rng import derive, generator
from vdc.ops.unroll import step_loss, trajectory_loss
from vdc.spec import ClipSpec

NET = {"net": Network("tiny", {"norm": "in"})}


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def stored(**options):
    return partial(StaticDynamic, **{"budget": 0, "precision": "float32"} | options)


def sgd(lr, momentum=0.0):
    return partial(torch.optim.SGD, lr=lr, momentum=momentum)


def one(memory, row, pair):
    """A row rendered as one of its pairs."""
    still, motion = memory.stills[row, pair // memory.dynamics], memory.motions[row, pair % memory.dynamics]
    return memory.integrator(still[None], motion[None])[0]


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        torch.testing.assert_close(
            found[name], tensor, rtol=1e-3, atol=1e-5 * float(tensor.abs().max()) + 1e-9
        )


# -- steps ---------------------------------------------------------------------------------------------------


def test_dm_steps_are_those_written_out(data):
    memory = stored(lr_integrator=0.003, lr_static=0.02)
    model = fit(DM(K, SPEC, ipc=2, iterations=2, seed=3, memory=memory, optimizer=sgd(0.1), **NET), data)
    made = memory(K, 2, SPEC)
    made.redraw(derive(3, "memory"))
    made.initialise(data.sample(4, 3))
    for step in range(2):
        net = build("tiny", K, SPEC, norm="in").eval()
        net.reset_parameters("default", generator(3, "network", 0, step))
        made.redraw(derive(3, "memory", 0, step))
        clips = torch.stack([one(made, row, int(pair)) for row, pair in enumerate(made.pairs[:, 0])])
        made.zero_grad()
        slow_dm(net, real_clips(data, 3, step), clips, made.labels).backward()
        rates = {made.motions: 0.1, made.stills: 0.02} | dict.fromkeys(made.integrator.parameters(), 0.003)
        with torch.no_grad():
            for part, rate in rates.items():
                assert part.grad.abs().sum() > 0
                part -= rate * part.grad
        made.clamp()
    same(model.memory.state(), made.state())


def mtt(experts, data, cls=MTT, **options):
    """The method inside a run, its memory filled, and a stretch to match."""
    given = {"syn_steps": 3, "max_start_epoch": 3, "ipc": 2, "step_size": 0.05, "init": "real"}
    model = opened(cls(K, SPEC, experts, **given | options), experts)
    model.memory.redraw(1)
    model.memory.initialise(data.sample(model.memory.init_clips_per_class, 0))
    if model.memory.logits is not None:
        model.memory.logits.data.normal_(generator=torch.Generator().manual_seed(1))
    model.memory.redraw(2)
    ends = (model.experts.snapshot(0, epoch) for epoch in (0, 1))
    return model, TrajectorySegment(*ends, 0, 0, 9)


def gradients(model, value):
    learnt = {name: p for name, p in model.memory.named_parameters() if p.requires_grad}
    return dict(zip(learnt, torch.autograd.grad(value, [*learnt.values()]), strict=True))


@pytest.mark.parametrize(("statics", "dynamics"), [(2, 2), (1, 2), (1, 1)])
def test_mtt_draws_a_pair_for_every_clip_of_every_inner_step(data, experts, statics, dynamics):
    memory = stored(statics=statics, dynamics=dynamics, lr_static=0.1)
    model, context = mtt(experts, data, memory=memory, batch_syn=5)
    found = model.loss(*model.render(model.memory, context), context)["trajectory"]
    made, shown = model.memory, min(statics * dynamics, 3)  # of the pairs, in 3 inner steps
    inner = step_loss(model.experts.build().train(), F.cross_entropy)
    theta, pairs = context.start.clone().requires_grad_(), []
    for rows, _, seed in inner_batches(8, 5, 3, SPEC, context.seed):
        turns = torch.randint(shown, rows.shape, generator=generator(int(seed), "variants"))
        pairs.append({row: int(made.pairs[row, t]) for row, t in zip(rows.tolist(), turns, strict=True)})
        clips = torch.stack([one(made, row, pair) for row, pair in pairs[-1].items()])
        loss = inner(theta, clips, made.labels[rows])
        theta = theta - 0.05 * torch.autograd.grad(loss, theta, create_graph=True)[0]
    slow = trajectory_loss(theta, context.start, context.target)
    assert found.item() == pytest.approx(slow.item(), rel=1e-4)
    same(gradients(model, found), gradients(model, slow))
    again = [
        (first[row], last[row]) for first in pairs for last in pairs for row in first.keys() & last.keys()
    ]
    assert any(a != b for a, b in again) == (shown > 1)


@pytest.mark.parametrize("cls", [MTT, DATM])
def test_the_exact_walk_gives_the_gradient_of_the_full_unroll(data, experts, cls):
    found = {}
    for mode in ("exact", "full"):
        model, context = mtt(experts, data, cls, memory=stored(lr_static=0.1), mode=mode)
        clips, labels = model.render(model.memory, context)
        assert clips.shape == (2 * K, 3, 3, 4, 16, 16)
        found[mode] = gradients(model, model.loss(clips, labels, context)["trajectory"])
    assert ("logits" in found["full"]) == (cls is DATM)
    assert all(slow.abs().max() > 0 for slow in found["full"].values())
    same(found["exact"], found["full"])


@pytest.mark.parametrize("labels", [0.0, 0.01])
def test_frepo_learns_motion_and_labels(data, labels):
    model = FRePo(
        K, SPEC, ipc=2, pool_size=2, max_age=4, seed=1, lr_labels=labels, memory=stored(statics=1, dynamics=1),
        optimizer=partial(torch.optim.Adam, lr=0.05), **NET,
    )  # fmt: skip
    before = []
    model.on_train_start = lambda: before.append(
        {n: p.detach().clone() for n, p in model.memory.named_parameters()}
    )
    fit(model, data, max_steps=2)
    moved = {name for name, p in model.memory.named_parameters() if not torch.equal(p, before[0][name])}
    assert moved == {"motions", "integrator.conv.weight", "integrator.conv.bias"} | (
        {"logits"} if labels else set()
    )


# -- around a step -------------------------------------------------------------------------------------------


def make(method, experts, **options):
    if method == "mtt":
        return MTT(K, SPEC, experts, ipc=2, syn_steps=2, max_start_epoch=2, memory=stored(), **options)
    if method == "frepo":
        return FRePo(K, SPEC, ipc=2, pool_size=2, memory=stored(), **NET, **options)
    return DM(K, SPEC, ipc=2, iterations=4, memory=stored(), **NET, **options)


@pytest.mark.parametrize("method", ["dm", "mtt", "frepo"])
def test_a_resumed_run_ends_where_a_whole_one_does(data, experts, tmp_path, method):
    steps = {"max_steps": 4} if method != "dm" else {}
    given = {"optimizer": sgd(0.05, 0.5), "seed": 2}
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    whole = fit(make(method, experts, **given), data, callbacks=[keep], enable_checkpointing=True, **steps)
    resumed = fit(make(method, experts, **given), data, ckpt_path=str(tmp_path / "step=2.ckpt"), **steps)
    for name, tensor in whole.memory.state().items():
        assert torch.equal(resumed.memory.state()[name], tensor), name
    if method != "dm":  # which ends with what it stored
        assert resumed.memory.curves() == whole.memory.curves()
        assert whole.memory.curves()["motion_drift"] > 0


def test_drift_is_logged_and_frozen_noise_has_none(data, tmp_path):
    for rate, moves in ((None, True), (0.0, False)):
        memory = stored(lr_dynamic=rate)
        model = DM(K, SPEC, ipc=1, iterations=3, seed=1, memory=memory, optimizer=sgd(0.5), **NET)
        fit(model, data, logger=CSVLogger(tmp_path, name=str(moves)), log_every_n_steps=1)
        lines = (tmp_path / str(moves) / "version_0/metrics.csv").read_text().splitlines()
        column = lines[0].split(",").index("motion_drift")
        drifts = [float(line.split(",")[column]) for line in lines[1:]]
        assert len(drifts) == 3
        assert drifts[0] == 0
        assert (drifts[2] > drifts[1] > 0) == moves
        assert any(drifts) == moves


def stills_set(path, per_class, spec=None, classes=("down", "grow", "spin", "up")):
    spec = spec or ClipSpec(frames=4, size=16, stride=2, stored_frames=1, interpolation="duplicate")
    memory = Pixels(K, per_class, spec)
    memory.videos.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    return save(
        path,
        memory,
        Labels(memory.labels),
        classes=list(classes),
        source={},
        method="StaticDC",
        config={},
        seed=0,
    )


@pytest.mark.parametrize("method", ["dm", "mtt", "frepo"])
def test_stills_start_as_those_of_a_condensed_set(data, experts, tmp_path, method):
    folder = stills_set(tmp_path / "stills", 4)
    steps = {} if method == "dm" else {"max_steps": 1}
    model = fit(make(method, experts, init=str(folder), optimizer=sgd(0.05)), data, **steps)
    stills = load(folder).memory().render(torch.arange(16))[0][:, :, 0].view(K * 2, 2, 3, 16, 16)
    torch.testing.assert_close(model.memory.state()["stills"], stills)


def test_too_few_or_other_stills_are_refused(data, tmp_path):
    few, small = tmp_path / "few", tmp_path / "small"
    stills_set(few, 3)
    stills_set(small, 4, ClipSpec(frames=4, size=12, stride=2, stored_frames=1, interpolation="duplicate"))
    for folder, words in ((few, "4 of 1 frames, 16 px"), (small, "1 frames, 12 px")):
        with pytest.raises(ValueError, match=words):
            fit(make("dm", "", init=str(folder)), data)


def test_blocks_of_classes_are_refused_before_anything_is_learnt():
    with pytest.raises(ValueError, match=r"share a part of memory StaticDynamic.*block to at least 8"):
        DM(K, SPEC, ipc=2, block=4, memory=stored(), **NET)


@pytest.mark.parametrize("precision", ["float32", "float16", "uint8"])
def test_what_a_run_stores_is_what_it_learnt(data, tmp_path, precision):
    near = {"float32": 1e-6, "float16": 0.01, "uint8": 0.05}[precision]
    out, memory = str(tmp_path / "set"), stored(precision=precision, statics=1, dynamics=3)
    model = FRePo(K, SPEC, ipc=2, pool_size=2, memory=memory, out=out, optimizer=sgd(0.05), **NET)
    model.config = {}
    fit(model, data, max_steps=1)
    kept = load(out)
    again = kept.memory()
    model.memory.redraw(3)
    again.redraw(3)
    rows = torch.arange(2 * K)
    torch.testing.assert_close(again.clips(rows), model.memory.clips(rows), rtol=near, atol=near)
    assert sum(kept.nbytes[part] for part in ("clips", "decoder")) == model.memory.nbytes
    assert kept.nbytes["decoder"] == 327 * (2 if precision == "float16" else 4)
