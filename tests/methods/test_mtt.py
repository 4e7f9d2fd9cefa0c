"""MTT and DATM against training loops written out by hand, and everything around a step."""

import math
import warnings
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from tests.methods.tiny import CLASSES, SPEC, K, fit, make_experts, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.methods import DATM, MTT, mtt
from vdc.methods.base.nonfinite import LAST_GOOD
from vdc.methods.base.options import Augmentation
from vdc.methods.expert_choice import expert_logits, mean_expert_logits
from vdc.methods.mtt import inner_batches
from vdc.nets.experts import load_experts
from vdc.ops.pixels import to_frames, valid_range
from vdc.ops.windows import take_window
from vdc.spec import ClipSpec

EPOCHS = 4
SLIDE = ClipSpec(frames=4, size=16, stride=2, stored_frames=6, window="slide")


@pytest.fixture(scope="module")
def data(toy_root):
    return toy(toy_root)


class Sgd:
    """Can be sent to another process."""

    def __init__(self, lr=1.0):
        self.lr = lr

    def __call__(self, groups):
        return torch.optim.SGD(groups, self.lr, momentum=0.5)


class Child(MTT):
    """Knows the network in a spawned process too."""

    def prepare(self):
        register()
        super().prepare()


def make(experts, cls=MTT, spec=SPEC, **options):
    given = {
        "ipc": 2,
        "syn_steps": 3,
        "max_start_epoch": 3,
        "batch_syn": 3,
        "optimizer": Sgd(),
        "step_size": 0.05,
    }
    return cls(K, spec, experts, **given | options)


def opened(module, experts, rank=0, world=1, step=0, data=None):
    """The method as it is inside a run, without one."""
    logs = {}
    module.trainer = SimpleNamespace(
        world_size=world, global_rank=rank, global_step=step, precision="32-true", datamodule=data,
        strategy=SimpleNamespace(reduce=lambda x, reduce_op: x), default_root_dir=".",
    )  # fmt: skip
    for name, value in (("global_step", step), ("global_rank", rank), ("device", torch.device("cpu"))):
        patched = type(f"{name}_{id(module)}", (type(module),), {name: property(lambda self, v=value: v)})
        module.__class__ = patched
    module.log = module.log_dict = lambda *a, **k: logs
    module.__class__.data = property(lambda self: SimpleNamespace(classes=CLASSES))
    module.prepare()
    return module


def by_hand(module, clips, labels, context):
    """The loss by a plain loop with autograd through everything."""
    net = module.experts.build().train()
    shapes = {name: p.shape for name, p in net.named_parameters()}
    theta = context.start.clone().requires_grad_()
    spec, share = module.spec, len(clips) / len(module.memory)
    batch = math.ceil((module.batch_syn or len(module.memory)) * share)
    for rows, starts, _ in inner_batches(len(clips), batch, module.syn_steps, spec, context.seed):
        seen = take_window(clips[rows], starts, spec.frames)
        parts = theta.split([s.numel() for s in shapes.values()])
        params = {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}
        target = labels[rows] if labels.ndim == 1 else labels[rows].softmax(1)
        loss = F.cross_entropy(functional_call(net, params, seen), target)
        theta = theta - module.step_size * torch.autograd.grad(loss, theta, create_graph=True)[0]
    return ((theta - context.target) ** 2).sum() / ((context.start - context.target) ** 2).sum()


def noise(module, seed=0):
    with torch.no_grad():
        module.memory.videos.normal_(generator=torch.Generator().manual_seed(seed))
        if module.memory.logits is not None:
            module.memory.logits.normal_(generator=torch.Generator().manual_seed(seed + 1))
    return module


def gradients(module, value):
    leaves = [module.memory.videos, module.step_size]
    leaves += [] if module.memory.logits is None else [module.memory.logits]
    return torch.autograd.grad(value, leaves)


def everything(module, context):
    """The loss on the whole set."""
    return module.loss(*module.memory.render(torch.arange(2 * K)), context)["trajectory"]


# -- the loss ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["exact", "full"])
@pytest.mark.parametrize(("cls", "spec"), [(MTT, SPEC), (DATM, SPEC), (DATM, SLIDE)])
def test_loss_and_gradients_are_those_of_a_plain_loop(experts, mode, cls, spec):
    module = noise(opened(make(experts, cls, spec, mode=mode, net="tiny"), experts))
    context = module.context(None)
    rows = torch.arange(len(module.memory))
    value = module.loss(*module.memory.render(rows), context)["trajectory"]
    expected = by_hand(module, *module.memory.render(rows), context)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    for found, wanted in zip(gradients(module, value), gradients(module, expected), strict=True):
        assert wanted.abs().max() > 0
        assert (found - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_tesla_is_exact_for_one_step_and_not_for_three(experts):
    for steps, same in ((1, True), (3, False)):
        found = []
        for mode in ("exact", "tesla"):
            module = noise(opened(make(experts, DATM, syn_steps=steps, mode=mode, batch_syn=None), experts))
            value = module.loss(*module.memory.render(torch.arange(2 * K)), module.context(None))[
                "trajectory"
            ]
            found.append(gradients(module, value)[0])
        assert torch.allclose(*found, rtol=1e-4, atol=1e-9) is same


def test_kept_graphs_change_nothing(experts):
    found = []
    for keep in (1, 2, 5):
        module = noise(opened(make(experts, DATM, keep=keep), experts))
        value = module.loss(*module.memory.render(torch.arange(2 * K)), module.context(None))["trajectory"]
        found.append(gradients(module, value))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            assert (a - b).abs().max() <= 1e-5 * a.abs().max()


def test_a_step_size_of_nothing_gives_exactly_one(experts):
    module = noise(opened(make(experts), experts))
    with torch.no_grad():
        module.step_size.zero_()
    value = everything(module, module.context(None))
    assert value.item() == 1.0


def test_a_prefix_of_the_set_is_compared_under_the_same_context(experts):
    module = noise(opened(make(experts, batch_syn=5), experts))
    context = module.context(None)
    rows = module.memory.prefix(1)  # four clips of eight: inner batches of 3 instead of 5
    value = module.loss(*module.memory.render(rows), context)["trajectory"]
    expected = by_hand(module, *module.memory.render(rows), context)
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    grad = gradients(module, value)[0].view(K, 2, -1).abs().sum(2)
    assert (grad[:, 0] > 0).all()
    assert (grad[:, 1] == 0).all()


def test_augmentation_is_drawn_anew_every_inner_step_and_repeated_with_the_seed(experts):
    values = {}
    for name, families in (("none", "none"), ("flip", "flip"), ("again", "flip"), ("colour", "color_crop")):
        module = noise(opened(make(experts, augment=Augmentation(families)), experts))
        values[name] = module.loss(*module.memory.render(torch.arange(2 * K)), module.context(None))[
            "trajectory"
        ]
    assert values["flip"] == values["again"]
    assert len({v.item() for v in values.values()}) == 3


def test_inner_batches_take_every_row_before_any_again():
    drawn = list(inner_batches(5, 2, 7, SLIDE, seed=3))
    assert [len(rows) for rows, _, _ in drawn] == [2, 2, 1, 2, 2, 1, 2]
    for turn in (drawn[:3], drawn[3:6]):
        assert sorted(torch.cat([rows for rows, _, _ in turn]).tolist()) == [0, 1, 2, 3, 4]
    assert len({tuple(torch.cat([r for r, _, _ in t]).tolist()) for t in (drawn[:3], drawn[3:6])}) == 2
    assert {int(s) for _, starts, _ in drawn for s in starts} == {0, 1, 2}
    assert len({int(seed) for _, _, seed in drawn}) == 7


# -- which stretch of which expert --------------------------------------------------------------------------


def test_all_experts_get_used_and_processes_take_different_ones(experts):
    seen = [[opened(make(experts), experts, rank, 2, step).turn() for rank in range(2)] for step in range(12)]
    flat = [expert for pair in seen for expert in pair]
    for i in range(0, 24, 3):
        assert sorted(flat[i : i + 3]) == [0, 1, 2]  # of three: each once before any again
    assert len({tuple(flat[i : i + 3]) for i in range(0, 24, 3)}) > 1  # in another order each time


def test_starts_lie_in_the_window_and_targets_follow(experts):
    held = load_experts(experts)
    epochs = set()
    for step in range(20):
        module = opened(
            make(experts, min_start_epoch=1, max_start_epoch=3, expert_epochs=2), experts, step=step
        )
        drawn = module.context(None)
        epochs.add(drawn.epoch)
        assert torch.equal(drawn.start, held.snapshot(drawn.expert, drawn.epoch))
        assert torch.equal(drawn.target, held.snapshot(drawn.expert, drawn.epoch + 2))
    assert epochs == {1, 2}


def test_the_window_grows_as_published(experts):
    """DATM.py: min(max_start, cur_max + int((max_start - cur_max) * it / expansion_end))."""
    module = make(experts, DATM, start_until=10, max_start_epoch=20, expansion_steps=1000)
    uppers = {}
    for step in (0, 99, 100, 550, 1000, 5000):
        module.__class__ = type("at", (DATM,), {"global_step": property(lambda self, s=step: s)})
        uppers[step] = module.window()
    assert uppers == {0: (0, 10), 99: (0, 10), 100: (0, 11), 550: (0, 15), 1000: (0, 20), 5000: (0, 20)}


# -- runs ----------------------------------------------------------------------------------------------------


def run(experts, data, tmp_path, cls=DATM, steps=3, ckpt_path=None, save=False, **options):
    module = make(experts, cls, seed=3, out=str(tmp_path / "set"), **options)
    fit(module, data, ckpt_path, max_steps=steps, enable_checkpointing=save, default_root_dir=str(tmp_path))
    return module


def test_a_run_learns_pixels_labels_and_step_and_writes_them(experts, data, tmp_path):
    module = run(experts, data, tmp_path, lr_step=1e-2, threshold=100.0)
    stored = load(tmp_path / "set")
    assert stored.manifest["learnt"] == {"step_size": pytest.approx(module.step_size.item(), abs=1e-7)}
    assert module.step_size.item() != pytest.approx(0.05)
    assert torch.equal(stored.labels.soft, module.memory.logits.detach().half())
    begun = run(experts, data, tmp_path / "0", steps=3, threshold=0.0)  # every step is poor
    assert not torch.equal(begun.memory.videos, module.memory.videos)
    assert not torch.equal(begun.memory.logits, module.memory.logits)
    held = load_experts(experts)
    found = expert_logits(held, begun.memory.videos.detach(), SPEC, torch.device("cpu"))
    assert torch.allclose(begun.memory.logits, mean_expert_logits(found, begun.memory.labels), atol=1e-5)
    assert begun.step_size.item() == pytest.approx(0.05)


def test_a_run_whose_steps_all_change_nothing_ends_with_what_to_do(experts, data, tmp_path, monkeypatch):
    monkeypatch.setattr(mtt, "HOPELESS", 4)
    run(experts, data, tmp_path / "3", steps=3, threshold=0.0)

    class Often(DATM):
        def training_step(self, batch, batch_idx):
            self.threshold = 100.0 if self.global_step % 4 == 3 else 0.0
            return super().training_step(batch, batch_idx)

    run(experts, data, tmp_path / "often", Often, steps=9)
    with pytest.raises(
        ValueError,
        match=r"last 4 steps, up to 3, changed nothing.*threshold 0\.0 .*lower .*step_size \(0\.05\)",
    ):
        run(experts, data, tmp_path / "4", steps=5, threshold=0.0)
    assert not (tmp_path / "4" / "set").exists()


def test_students_of_mtt_that_only_move_away_are_reported_once(experts, data, tmp_path, monkeypatch):
    monkeypatch.setattr(mtt, "HOPELESS", 3)
    away = {"cls": MTT, "step_size": 50.0, "lr_step": 0.0}
    with pytest.warns(
        UserWarning, match=r"losses of the last 3 steps, up to 2, were above 1 .*step_size \(50\)"
    ) as found:
        run(experts, data, tmp_path / "away", steps=5, **away)
    assert sum("losses of the last" in str(w.message) for w in found) == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the losses of the last")
        run(experts, data, tmp_path / "few", steps=2, **away)


def test_a_poor_step_moves_nothing_not_even_by_momentum(experts, data, tmp_path):
    """One good step, then poor ones: as the good step left it."""
    one = run(experts, data, tmp_path / "1", steps=1, threshold=100.0)

    class Then(DATM):
        def training_step(self, batch, batch_idx):
            self.threshold = 100.0 if self.global_step == 0 else 0.0
            return super().training_step(batch, batch_idx)

    three = run(experts, data, tmp_path / "3", Then, steps=3)
    assert torch.equal(one.memory.videos, three.memory.videos)
    assert torch.equal(one.memory.logits, three.memory.logits)


@pytest.mark.parametrize("cls", [MTT, DATM])
def test_a_resumed_run_ends_as_a_whole_one(experts, data, tmp_path, cls):
    options = {"threshold": 100.0} if cls is DATM else {}  # poor steps would move nothing
    whole = run(experts, data, tmp_path / "whole", cls, steps=4, **options)
    keep = ModelCheckpoint(tmp_path, "two", every_n_train_steps=2, save_top_k=-1)
    module = make(experts, cls, seed=3, **options)
    fit(
        module, data, max_steps=2, enable_checkpointing=True, callbacks=[keep], default_root_dir=str(tmp_path)
    )
    again = run(
        experts, data, tmp_path / "again", cls, steps=4, ckpt_path=str(tmp_path / "two.ckpt"), **options
    )
    assert torch.equal(whole.memory.videos, again.memory.videos)
    assert torch.equal(whole.step_size, again.step_size)
    assert not torch.equal(module.memory.videos, again.memory.videos)


def test_the_step_size_stays_positive(experts, data, tmp_path):
    class Downhill(MTT):
        def loss(self, clips, labels, context):
            return {"trajectory": 100 * self.step_size}

    module = run(experts, data, tmp_path, Downhill, lr_step=1.0)
    assert module.step_size.item() == pytest.approx(1e-3)
    assert load(tmp_path / "set").manifest["learnt"] == {"step_size": 0.001}


def test_three_groups_have_their_own_rates(experts):
    module = make(experts, DATM, lr_step=1e-5, lr_labels=5.0, optimizer=Sgd(100.0))
    optimizer = module.configure_optimizers()
    rates = [(g["lr"], g["momentum"], [p.shape for p in g["params"]]) for g in optimizer.param_groups]
    assert rates == [
        (100.0, 0.5, [module.memory.videos.shape]),
        (1e-5, 0.5, [torch.Size([])]),
        (5.0, 0.9, [module.memory.logits.shape]),
    ]
    fixed = make(experts, DATM, lr_step=0, lr_labels=0)
    assert len(fixed.configure_optimizers().param_groups) == 1
    assert fixed.memory.logits is None


def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(experts, data, tmp_path):
    class Broken(DATM):
        broken = True

        def loss(self, clips, labels, context):
            terms = super().loss(clips, labels, context)
            bad = self.broken and self.global_step == 2
            return {"trajectory": terms["trajectory"] * float("nan")} if bad else terms

    two = run(experts, data, tmp_path / "two", steps=2, threshold=100.0)
    with pytest.raises(
        ValueError, match=r"not finite at step 2 \(expert \d from epoch \d\).*last_good.ckpt"
    ) as caught:
        run(experts, data, tmp_path, Broken, steps=4, threshold=100.0)
    assert str(tmp_path / LAST_GOOD) in str(caught.value)
    kept = torch.load(tmp_path / LAST_GOOD, weights_only=True)
    assert torch.equal(kept["state_dict"]["memory.logits"], two.memory.logits)
    assert not (tmp_path / "set").exists()
    Broken.broken = False
    whole = run(experts, data, tmp_path / "whole", steps=4, threshold=100.0)
    again = run(experts, data, tmp_path, steps=4, ckpt_path=str(tmp_path / LAST_GOOD), threshold=100.0)
    assert torch.equal(whole.memory.videos, again.memory.videos)


@pytest.mark.ddp
def test_two_processes_average_over_two_experts(experts, data, tmp_path):
    """One SGD step: the stored pixels moved by the mean of the gradients that each would have had."""
    before = run(experts, data, tmp_path / "before", MTT, steps=1, optimizer=Sgd(0.0), lr_step=0)
    grads = []
    for rank in range(2):
        module = opened(make(experts, seed=3, lr_step=0), experts, rank, 2)
        with torch.no_grad():
            module.memory.videos.copy_(before.memory.videos)
        value = everything(module, module.context(None))
        grads.append(torch.autograd.grad(value, module.memory.videos)[0])
    assert not torch.allclose(*grads)
    rate = 0.5 / torch.stack(grads).mean(0).abs().max().item()
    expected = before.memory.videos - rate * torch.stack(grads).mean(0)
    after = make(experts, Child, seed=3, lr_step=0, out=str(tmp_path / "after"), optimizer=Sgd(rate))
    data.trainer = None  # of an earlier run, which cannot be sent to another process
    fit(after, data, max_steps=1, strategy="ddp_spawn", devices=2, default_root_dir=str(tmp_path))
    low, high = valid_range(torch.device("cpu"))
    stored = load(tmp_path / "after").tensors["videos"].int()
    wanted = to_frames(expected.clamp(low, high)).int()
    assert (stored - wanted).abs().max() <= 1
    assert (stored - to_frames(before.memory.videos.detach()).int()).abs().max() > 5


# -- refusals ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_syn": 9}, "batch_syn 9 is larger than the set of 8 clips"),
        ({"syn_steps": 0}, "syn_steps must be at least 1"),
        ({"keep": 0}, "keep must be at least 1, got 0"),
        ({"min_start_epoch": 3, "max_start_epoch": 3}, "min_start_epoch 3 must be in"),
        ({"step_size": 0.0}, "step_size 0.0 must be at least 0.001"),
        ({"cls": DATM, "start_until": 4}, "start_until 4 must be above min_start_epoch 0, and at most max"),
    ],
)
def test_wrong_arguments_are_refused(experts, options, match):
    with pytest.raises(ValueError, match=match):
        make(experts, **options)


def test_wrong_experts_are_refused(experts, tmp_path):
    with pytest.raises(ValueError, match="trained for 4 epochs, 5 are needed"):
        opened(make(experts, max_start_epoch=4, expert_epochs=2), experts)
    with pytest.raises(ValueError, match="net 'tiny', not 'minic3d'"):
        opened(make(experts, net="minic3d"), experts)
    with pytest.raises(ValueError, match="4 frames of 16 px, the data has 6 of 16 px"):
        opened(make(experts, spec=ClipSpec(frames=6, size=16)), experts)
    other = make_experts(tmp_path, 1, classes=["a", "b", "c"])
    with pytest.raises(ValueError, match="know 3 classes, the data has 4"):
        opened(make(other), other)
    with pytest.raises(FileNotFoundError, match="no experts in nowhere"):
        opened(make("nowhere"), experts)


def test_the_student_is_no_part_of_what_is_learnt(experts, data, tmp_path):
    module = run(experts, data, tmp_path, MTT, steps=1)
    assert {name for name, _ in module.named_parameters()} == {"memory.videos", "step_size"}
    assert not [m for m in module.modules() if isinstance(m, nn.Conv3d)]
