"""Multi-size in every method: its losses are the method's own, and freezing holds to the last bit."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.methods.test_mtt import Sgd
from tests.methods.tiny import SPEC, K, fit, toy
from tests.network import Tiny
from vdc.condensed.memory import MultiFormation, Pixels
from vdc.methods import DATM, DC, DM, EDC, IDC, MTT, NCFM, FRePo
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.options import Augmentation, Network
from vdc.methods.base.prefixes import MultiSize

N = 3
TINY = {"net": Network("tiny", {"norm": "in"})}


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)


METHODS = {
    "dm": (DM, {**TINY, "augment": Augmentation("color_crop")}),
    "ncfm": (NCFM, {**TINY, "memory": Pixels}),
    "dc": (DC, {**TINY, "outer": 2, "inner": 1}),
    "idc": (IDC, {**TINY, "outer": 2, "inner": 1, "memory": MultiFormation, "init": "noise"}),
    "frepo": (FRePo, {**TINY, "pool_size": 2}),
    "edc": (EDC, {"flatness_weight": 0.3}),
    "mtt": (MTT, {"syn_steps": 2, "max_start_epoch": 3, "batch_syn": 8}),
    "datm": (DATM, {"syn_steps": 2, "max_start_epoch": 3, "lr_labels": 1.0, "threshold": 50.0}),
}
FAST = {"mtt": {"optimizer": Sgd(200.0), "lr_step": 0.0, "batch_syn": None}}  # its gradients are small
PLAN = MultiSize(interval=4, average=1)


def make(name, judges, steps=2, wrap=lambda cls: cls, **options):
    cls, given = METHODS[name]
    given = {"ipc": N, "optimizer": sgd, **given, **options}
    args = (judges[0],) if name in ("mtt", "datm") else (judges[1],) if name == "edc" else ()
    if name not in ("mtt", "datm", "frepo"):
        given = {"iterations": steps, **given}
    return wrap(cls)(K, SPEC, *args, **given)


def run(name, judges, data, steps=2, wrap=lambda cls: cls, sizes=None, trainer=None, **options):
    """A run of a method, with `sizes`, a plan or the callback itself."""
    model = make(name, judges, steps, wrap, **options)
    model.sizes = MatchPrefixes(sizes) if isinstance(sizes, MultiSize) else sizes
    limit = {"max_steps": steps} if name in ("mtt", "datm", "frepo") else {}
    trainer = dict(trainer or {})
    trainer["callbacks"] = [*([model.sizes] if sizes else []), *trainer.get("callbacks", [])]
    return fit(model, data, **limit, **trainer)


class Before(Callback):
    """What was learnt before every step."""

    def __init__(self):
        self.values = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        module.memory.clamp()
        self.values.append({name: p.detach().clone() for name, p in module.memory.named_parameters()})


class Watched(MatchPrefixes):
    """Keeps what the optimiser is given in every step, and the gradient of the prefix's terms alone."""

    def __init__(self, plan):
        super().__init__(plan)
        self.given, self.of_prefix = [], []

    def terms(self, clips, labels, context):
        terms = super().terms(clips, labels, context)
        learnt = [p for p in self.learner.memory.parameters() if p.requires_grad]
        part = torch.stack([value for name, value in terms.items() if name.startswith("prefix_")]).sum()
        found = torch.autograd.grad(part, learnt, retain_graph=True, allow_unused=True)
        self.of_prefix.append(dict(zip(learnt, found, strict=True)))
        return terms

    def on_before_optimizer_step(self, trainer, module, optimizer):
        super().on_before_optimizer_step(trainer, module, optimizer)
        self.given.append({p: p.grad.clone() for p in self.of_prefix[-1] if p.grad is not None})


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", METHODS)
def test_frozen_items_get_no_gradient_and_do_not_move(name, optimizer, judges, data, held_at):
    held_at(2, 1)
    before, watched = Before(), Watched(PLAN)
    moved = sgd if name in ("mtt", "datm") else optimizer  # whose groups have a momentum
    model = run(
        name, judges, data, sizes=watched, optimizer=moved, trainer={"callbacks": [before]}
    )  # fmt: skip
    memory = model.memory
    if isinstance(model, FRePo | MTT):
        for key, p in memory.named_parameters():
            frozen = torch.arange(len(p)) // (len(p) // (K * N)) % N == 0
            assert p[frozen].equal(before.values[0][key][frozen])
            assert not p[~frozen].equal(before.values[0][key][~frozen])
            moments = [m for m in model.optimizers(False).state[p].values() if torch.is_tensor(m) and m.ndim]
            assert moments
            assert all((m[frozen] == 0).all() and (m[~frozen] != 0).any() for m in moments)
    else:  # blocks end as frames: the last step's start is what is left of the items
        first, last = (values["videos"].view(K, N, -1) for values in before.values)
        assert last[:, 0].equal(first[:, 0])
        assert not last[:, 1].equal(first[:, 1])
    for p, gradient in watched.given[0].items():
        part = watched.of_prefix[0][p]
        rows = torch.arange(len(p)) // (len(p) // (K * N)) % N
        assert (gradient[rows == 0] == 0).all()
        assert all((gradient[rows == item] != 0).any() for item in (1, 2))
        if part is not None:  # learnt labels that a term of the loss does not read
            assert all((part[rows == item] != 0).any() for item in (0, 1))
            assert (part[rows == 2] == 0).all()


def test_what_is_frozen_does_not_count_where_gradients_are_clipped(judges, data, held_at):
    """Clipped to a norm, what may move moves as far as if the frozen items were not there."""
    held_at(2, 1)
    watched = Watched(PLAN)
    seen = []
    run("frepo", judges, data, sizes=watched, lr_labels=0.0, optimizer=Spy(seen), steps=1,
        trainer={"gradient_clip_val": 0.01})  # fmt: skip
    (gradient,) = seen
    assert gradient.norm() == pytest.approx(0.01, rel=1e-4)
    assert (gradient.view(K, N, -1)[:, 0] == 0).all()


class Spy:
    """Makes SGD that keeps the gradient it steps by."""

    def __init__(self, seen):
        self.seen = seen

    def __call__(self, groups):
        made = torch.optim.SGD(groups, lr=0.1)

        def keep(optimizer, *_):
            self.seen.append(optimizer.param_groups[0]["params"][0].grad.clone())

        made.register_step_post_hook(keep)
        return made


@pytest.mark.parametrize("name", METHODS)
def test_the_prefix_is_compared_as_the_method_compares_a_smaller_set(name, judges, data, held_at):
    """The terms of a step against `loss`, called on the prefix as on a set of its own."""
    held_at(2, 1)
    found = []

    class Twice(MatchPrefixes):
        def terms(self, clips, labels, context):
            learner, rows = self.learner, self.learner.memory.prefix(2)
            own = context
            if name == "edc":  # what is drawn per item must be that of the same items
                own = context._replace(starts=context.starts[rows], boxes=context.boxes[rows])
            expected = []
            for c, y, drawn in ((clips, labels, context), (clips[rows], labels[rows], own)):
                expected.append(learner.loss(c, y, drawn))
                if name == "edc":  # as before the step
                    learner.begin_block()
            found.append((super().terms(clips, labels, context), expected))
            return found[-1][0]

    run(name, judges, data, steps=1, sizes=Twice(PLAN))
    (terms, (whole, part)) = found[0]
    assert terms.keys() == whole.keys() | {f"prefix_{key}" for key in part}
    for key in whole:
        for got, wanted in ((terms[key], whole[key]), (terms[f"prefix_{key}"], part[key])):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)
        if key != "margin":  # of labels as they start
            assert terms[key] != terms[f"prefix_{key}"]


@pytest.mark.parametrize(
    ("name", "measured"), [("dm", K * N), ("ncfm", K * N), ("frepo", K * N), ("edc", 2 * K * N + K * 3)]
)
def test_features_are_computed_once(name, measured, judges, data, monkeypatch, held_at):
    """Clips that go forward in two steps that match a prefix, one of which measures, beyond two that do neither.

    They are the earlier items; in EDC, whose features are those of crops, all items again, and real clips.
    """
    held_at(2, 0)
    counts = {}
    for sizes in (None, MultiSize(2, 1)):
        seen_clips = []
        original = Tiny.maps

        def counted(self, x, seen_clips=seen_clips, original=original):
            seen_clips.append(len(x))
            return original(self, x)

        monkeypatch.setattr(Tiny, "maps", counted)
        run(name, judges, data, steps=2, sizes=sizes)
        monkeypatch.setattr(Tiny, "maps", original)
        counts[sizes] = seen_clips
    extra = sorted(counts[MultiSize(2, 1)])
    for n in counts[None]:
        extra.remove(n)
    assert sum(extra) == measured


@pytest.mark.parametrize("name", METHODS)
def test_measured_features_are_of_all_items_and_real_clips_of_each_class(name, judges, data):
    kept = []

    class Kept(MatchPrefixes):
        def _measure(self, earlier, clips, given, context):
            found = super()._measure(earlier, clips, given, context)
            kept.append((clips, self.learner.render(earlier, context)[0], found, self.learner.step))
            return found

    fast = FAST.get(name, {})
    model = run(name, judges, data, steps=6, sizes=Kept(MultiSize(interval=3, average=2)), **fast)
    assert [step for *_, step in kept] == [2, 4, 5]
    for clips, earlier, found, _ in kept:
        assert earlier.shape == clips.shape
        assert len(found.items) == len(found.earlier) == len(clips) == K * N * model.memory.per_item
        assert found.real.shape == (K, found.items.shape[1])
        assert len(found.counts) == K
        assert not found.items.requires_grad
        assert not found.earlier.requires_grad
        if name != "frepo":
            assert (found.counts > 0).all()
    if name != "frepo":  # of whose batch of four some classes are missing
        reals = [found.real for _, _, found, _ in kept]
        assert not torch.equal(reals[0], reals[1])
    (same, old, at_choice, _), *_, (clips, earlier, found, _) = kept
    assert old.equal(same)  # chosen before that very step
    torch.testing.assert_close(at_choice.earlier, at_choice.items, rtol=1e-4, atol=1e-5)
    assert not earlier.allclose(clips, atol=1e-3)
    assert not found.earlier.allclose(found.items, atol=1e-4)
