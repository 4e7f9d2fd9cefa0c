"""Multi-size in every method: its losses are the method's own, and freezing holds to the last bit."""

import copy
from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from tests.methods.test_mtt import Sgd, make_experts
from tests.methods.tiny import SPEC, K, Tiny, _registered, fit, make_teacher, toy, toy_root  # noqa: F401
from vdc.condensed.memory import MultiFormation, Pixels
from vdc.methods import DATM, DC, DM, IDC, MTT, NCFM, FRePo, Statistics
from vdc.methods.base.multisize import MultiSize
from vdc.nets import zoo

N = 3
TINY = {"net": "tiny", "net_options": {"norm": "in"}}


@pytest.fixture
def data(toy_root):  # noqa: F811
    return toy(toy_root, per_class=3)


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folders of experts and of two teachers."""
    folder = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.OWN, "tiny", partial(Tiny))
        make_experts(folder / "experts")
        return str(folder / "experts"), [make_teacher(folder / str(i), seed=i) for i in range(2)]


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5, momentum=0.9, weight_decay=0.1)


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.1)


METHODS = {
    "dm": (DM, {**TINY, "augment": "color_crop"}),
    "ncfm": (NCFM, {**TINY, "memory": Pixels}),
    "dc": (DC, {**TINY, "outer": 2, "inner": 1}),
    "idc": (IDC, {**TINY, "outer": 2, "inner": 1, "memory": MultiFormation, "init": "noise"}),
    "frepo": (FRePo, {**TINY, "pool": 2}),
    "edc": (Statistics, {"flatness_weight": 0.3}),
    "mtt": (MTT, {"syn_steps": 2, "max_start_epoch": 3, "batch_syn": 8}),
    "datm": (DATM, {"syn_steps": 2, "max_start_epoch": 3, "lr_labels": 1.0, "threshold": 50.0}),
}
FAST = {"mtt": {"optimizer": Sgd(200.0), "lr_step": 0.0, "batch_syn": None}}  # its gradients are small
PLAN = MultiSize(interval=4, average=1)


def make(name, judges, steps=2, wrap=lambda cls: cls, **options):
    cls, given = METHODS[name]
    given = {"ipc": N, "optimizer": sgd, "multisize": PLAN, **given, **options}
    args = (judges[0],) if name in ("mtt", "datm") else (judges[1],) if name == "edc" else ()
    if name not in ("mtt", "datm", "frepo"):
        given = {"iterations": steps, **given}
    return wrap(cls)(K, SPEC, *args, **given)


def run(name, judges, data, steps=2, wrap=lambda cls: cls, trainer=None, **options):
    model = make(name, judges, steps, wrap, **options)
    limit = {"max_steps": steps} if name in ("mtt", "datm", "frepo") else {}
    return fit(model, data, **limit, **(trainer or {}))


def held_at(size, frozen):
    """Methods in which the prefix of `size` is matched, and the first `frozen` items are not to change."""

    def wrap(cls):
        class Held(cls):
            watched = ()

            def on_train_batch_start(self, batch, batch_idx):
                self.prefixes.size = torch.tensor([size])
                self.prefixes.retired[:, frozen] = True
                self.prefixes.made = 99
                if self.prefixes.earlier is None:
                    self.prefixes.keep(self.memory)
                super().on_train_batch_start(batch, batch_idx)

            def losses(self, clips, labels, context, prefix):
                whole, part = super().losses(clips, labels, context, prefix)
                learnt = [p for p in self.memory.parameters() if p.requires_grad]
                for terms in (whole, part):
                    total = torch.stack(list(terms.values())).sum()
                    found = torch.autograd.grad(total, learnt, retain_graph=True, allow_unused=True)
                    self.watched += (dict(zip(learnt, found, strict=True)),)
                self.kept = (clips, labels, context, prefix, whole, part)
                return whole, part

        return Held

    return wrap


class Before(Callback):
    """What was learnt before every step."""

    def __init__(self):
        self.values = []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        module.memory.clamp()
        self.values.append({name: p.detach().clone() for name, p in module.memory.named_parameters()})


@pytest.mark.parametrize("optimizer", [sgd, adamw])
@pytest.mark.parametrize("name", METHODS)
def test_frozen_items_get_no_gradient_from_either_loss_and_do_not_move(name, optimizer, judges, data):
    before = Before()
    moved = sgd if name in ("mtt", "datm") else optimizer  # whose groups have a momentum
    model = run(
        name, judges, data, wrap=held_at(2, 1), optimizer=moved, trainer={"callbacks": [before]},
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
    whole, part = model.watched[0], model.watched[1]
    for p in whole:
        rows = torch.arange(len(p)) // (len(p) // (K * N)) % N
        for found in (whole[p], part[p]):
            if found is None:  # learnt labels that a term of the loss does not read
                continue
            assert (found[rows == 0] == 0).all()
            assert (found[rows == 1] != 0).any()
        assert (whole[p][rows == 2] != 0).any()
        assert part[p] is None or (part[p][rows == 2] == 0).all()


@pytest.mark.parametrize("name", METHODS)
def test_the_prefix_is_compared_as_the_method_compares_a_smaller_set(name, judges, data):
    """The two losses of a step against `loss`, called on the prefix as on a set of its own."""
    found = []

    def wrap(cls):
        class Twice(held_at(2, 1)(cls)):
            def losses(self, clips, labels, context, prefix):
                assert prefix.tolist() == self.memory.prefix(2).tolist()
                if name == "edc":  # what is drawn per item must be that of the same items
                    own = context._replace(starts=context.starts[prefix], boxes=context.boxes[prefix])
                    state, slow = copy.deepcopy(self.averages), self.slow
                    expected = [self.loss(clips, labels, context)]
                    self.averages, self.slow = copy.deepcopy(state), None if slow is None else slow[prefix]
                    self.averages.averages.clear()
                    self.averages.weights.clear()
                    expected.append(self.loss(clips[prefix], labels[prefix], own))
                    self.averages, self.slow = state, slow
                else:
                    expected = [
                        self.loss(c, y, context)
                        for c, y in ((clips, labels), (clips[prefix], labels[prefix]))
                    ]
                terms = super().losses(clips, labels, context, prefix)
                found.append((terms, expected))
                return terms

        return Twice

    run(name, judges, data, steps=1, wrap=wrap)
    (terms, expected), values = found[0], {}
    for got, wanted in zip(terms, expected, strict=True):
        assert got.keys() == wanted.keys()
        for key in got:
            torch.testing.assert_close(got[key], wanted[key], rtol=1e-4, atol=1e-6)
            values.setdefault(key, []).append(got[key].item())
    assert all(
        whole != part for key, (whole, part) in values.items() if key != "margin"
    )  # of labels as they start


@pytest.mark.parametrize(
    ("name", "measured"), [("dm", K * N), ("ncfm", K * N), ("frepo", K * N), ("edc", 2 * K * N + K * 3)]
)
def test_features_are_computed_once(name, measured, judges, data, monkeypatch):
    """Clips that go forward in two steps that match a prefix, one of which measures, beyond two that do neither.

    They are the earlier items; in EDC, whose features are those of crops, all items again, and real clips.
    """
    counts = {}
    for size in (None, 2):
        seen_clips = []
        original = Tiny.maps

        def counted(self, x, seen_clips=seen_clips, original=original):
            seen_clips.append(len(x))
            return original(self, x)

        monkeypatch.setattr(Tiny, "maps", counted)
        wrap = (lambda cls: cls) if size is None else held_at(size, 0)
        run(name, judges, data, steps=2, wrap=wrap, multisize=None if size is None else MultiSize(2, 1))
        monkeypatch.setattr(Tiny, "maps", original)
        counts[size] = seen_clips
    extra = sorted(counts[2])
    for n in counts[None]:
        extra.remove(n)
    assert sum(extra) == measured


@pytest.mark.parametrize("name", METHODS)
def test_measured_features_are_of_all_items_and_real_clips_of_each_class(name, judges, data):
    kept = []

    def wrap(cls):
        class Kept(cls):
            def embedded(self, clips, earlier, context):
                kept.append((clips, earlier, super().embedded(clips, earlier, context), self.step))
                return kept[-1][2]

        return Kept

    fast = FAST.get(name, {})
    model = run(name, judges, data, steps=6, wrap=wrap, multisize=MultiSize(interval=3, average=2), **fast)
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
