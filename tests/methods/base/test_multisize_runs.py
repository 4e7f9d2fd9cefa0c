"""Multi-size runs as a whole: against the base method, in two processes, after a kill, and what is refused."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.methods.base.test_multisize import FAST, Before, K, N, run
from tests.methods.base.test_prefixes import seen
from tests.methods.test_mtt import Sgd
from tests.methods.tiny import SPEC, fit, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.condensed.memory import MultiFormation
from vdc.condensed.memory.static_dynamic import StaticDynamic
from vdc.methods import DM, Learner, Random, ShardStrategy
from vdc.methods.base.multisize import MatchPrefixes, frozen_parts
from vdc.methods.base.options import Network
from vdc.methods.base.prefixes import MultiSize


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def pixels(model):
    """What is stored of a run, exactly where it is still learnt."""
    return model.memory.videos if model.memory.frames is None else model.memory.frames.float()


@pytest.mark.parametrize("name", ["dm", "idc", "frepo", "edc", "mtt"])
def test_one_item_per_class_is_the_base_method(name, judges, data):
    with_it, without = (
        run(name, judges, data, ipc=1, sizes=m, init="noise", **FAST.get(name, {}))
        for m in (MultiSize(3, 1), None)
    )
    assert pixels(with_it).equal(pixels(without))
    assert with_it.sizes.prefixes is None


@pytest.mark.parametrize("name", ["dm", "dc", "frepo", "mtt"])
def test_an_interval_longer_than_the_run_adds_the_loss_of_one_item_for_good(name, judges, data):
    """The oracle writes it out: base for `average` steps, then base + the first item of every class."""

    def oracle(cls):
        class Both(cls):
            def loss(self, clips, labels, context):
                terms = super().loss(clips, labels, context)
                if self.step < 2:
                    return terms
                rows = [row for row in range(len(clips)) if row % N == 0]
                part = super().loss(clips[rows], labels[rows], context)
                return terms | {f"first_{key}": value for key, value in part.items()}

        return Both

    fast = FAST.get(name, {})
    found = run(name, judges, data, steps=5, sizes=MultiSize(99, 2), **fast)
    expected = run(name, judges, data, steps=5, wrap=oracle, **fast)
    base = run(name, judges, data, steps=5, **fast)
    close = partial(torch.testing.assert_close, rtol=1e-4, atol=1e-4 if name in ("frepo", "mtt") else 1.01)
    close(pixels(found), pixels(expected))
    assert not pixels(found).allclose(pixels(base), atol=1e-3)
    assert found.sizes.prefixes.frozen.sum() == 0


@pytest.mark.parametrize(
    ("name", "classwise"), [("dm", True), ("edc", False), ("frepo", True), ("mtt", False)]
)
def test_a_resumed_run_goes_on_with_the_same_prefixes(name, classwise, judges, data, tmp_path):
    plan, steps, fast = MultiSize(interval=3, average=2, classwise=classwise), 8, FAST.get(name, {})
    kept = {}

    class Told(MatchPrefixes):
        def terms(self, *args):
            terms = super().terms(*args)
            kept.setdefault(self.learner.step, []).append(str(self.prefixes.state()))
            return terms

    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    saving = {"enable_checkpointing": True, "callbacks": [save], "default_root_dir": str(tmp_path)}
    whole = run(name, judges, data, steps, sizes=Told(plan), trainer=saving, **fast)
    for step in (1, 5):  # within the first measurement, and within a later one
        again = run(
            name, judges, data, steps, sizes=Told(plan), **fast,
            trainer={"ckpt_path": str(tmp_path / f"step={step}.ckpt")},
        )  # fmt: skip
        assert pixels(again).allclose(pixels(whole), atol=1e-6)
    assert [len(kept[step]) for step in range(steps)] == [1, 2, 2, 2, 2, 3, 3, 3]
    assert all(len(set(told)) == 1 for told in kept.values())
    assert len({told[0] for told in kept.values()}) > 4
    held = torch.load(tmp_path / "step=5.ckpt", weights_only=True)["multisize"]
    assert held["made"] == 2
    assert not [value for value in held.values() if isinstance(value, torch.Tensor)]


def test_every_block_chooses_for_itself(judges, data):
    told = []

    class Told(MatchPrefixes):
        def terms(self, *args):
            terms = super().terms(*args)
            one, chosen = self.learner, self.prefixes
            told.append((one.block, one.step, chosen.made, len(chosen.matched)))
            return terms

    run("dm", judges, data, steps=4, sizes=Told(MultiSize(3, 1)), block=2 * N)
    assert told == [(b, s, [0, 1, 1, 2][s], 2) for b in range(2) for s in range(4)]


@pytest.mark.parametrize(("threshold", "moves"), [(1.0, True), (0.5, False)])
def test_datm_judges_a_step_by_the_mean_of_both_losses(threshold, moves, judges, data):
    def wrap(cls):
        class Flat(cls):
            def loss(self, clips, labels, context):
                self.start = self.memory.videos.detach().clone()
                return {"trajectory": 0.6 + 100 * (clips.mean() - clips.mean().detach())}

        return Flat

    model = run("datm", judges, data, wrap=wrap, sizes=MultiSize(9, 1), threshold=threshold, lr_labels=0.0)
    assert model.memory.videos.equal(model.start) is not moves


# -- two processes -------------------------------------------------------------------------------------------


class ChildDM(DM):
    """Knows the network in a spawned process too."""

    def setup(self, stage):
        register()
        super().setup(stage)


@pytest.mark.ddp
def test_class_blocks_in_two_processes_are_those_of_one(judges, data, tmp_path):
    sets = {}
    for world in (1, 2):
        given = {"net": Network("tiny", {"norm": "in"}), "ipc": N, "block": 2 * N, "iterations": 6}
        model = ChildDM(K, SPEC, **given, optimizer=Sgd(5.0), out=str(tmp_path / str(world)))
        shard = {"devices": 2, "strategy": ShardStrategy(start_method="spawn")} if world == 2 else {}
        sizes = [MatchPrefixes(MultiSize(2, 1))]
        fit(model, toy(data.root, per_class=3), **shard, callbacks=sizes, default_root_dir=str(tmp_path))
        sets[world] = load(tmp_path / str(world))
    assert sets[1].tensors["videos"].equal(sets[2].tensors["videos"])
    assert sets[2].manifest["learnt"]["multisize"] == {
        "interval": 2, "average": 1, "classwise": False, "freeze": "permanent"
    }  # fmt: skip


class Pull(Learner):
    """Pulls what is not frozen to grey."""

    batches = "none"

    def loss(self, clips, labels, context):
        return {"pull": clips.square().mean()}


class Sees(MatchPrefixes):
    """Sees what a table says, another one in every process."""

    then, now = [9.0, 9.0], torch.tensor([[9.0, 5.0], [4.0, 9.5]])  # distances by size; now: in each process

    def _measure(self, earlier, clips, given, context):
        trainer, classes = self.learner.trainer, self.learner.num_classes
        rank = trainer.global_rank if trainer.world_size == 2 else slice(None)
        now = self.now[rank].view(-1, 2).mean(0).tolist()
        return seen([self.then] * classes, [now] * classes)


@pytest.mark.ddp
def test_processes_with_the_same_items_choose_by_what_all_of_them_saw(data, tmp_path):
    """Alone, one process would choose 2 and the other 1: the means fell by 2.5 and by 1.75, so it is 1."""
    outs = {}
    for world in (1, 2):
        model = Pull(2, SPEC, ipc=3, init="noise", optimizer=Sgd(1.0), out=str(tmp_path / f"{world}"))
        two = {"devices": 2, "strategy": "ddp_spawn"} if world == 2 else {}
        source = toy(data.root, classes=["down", "grow"])
        keep = ModelCheckpoint(tmp_path / f"kept{world}", save_last=True, save_top_k=0, every_n_train_steps=1)
        given = {
            "enable_checkpointing": True,
            "callbacks": [Sees(MultiSize(2, 1)), keep],
            "default_root_dir": str(tmp_path),
        }
        fit(model, source, max_steps=4, **given, **two)
        state = torch.load(tmp_path / f"kept{world}/last.ckpt", weights_only=True)
        outs[world] = (state["multisize"]["size"], state["multisize"]["sums"], state["state_dict"])
    assert outs[1][0] == outs[2][0] == [1]
    for sums, *_ in (outs[1][1], outs[2][1]):  # measured after the choice, for two classes
        assert sums == pytest.approx([5.0, 3.5], abs=1e-5)
    for name, value in outs[1][2].items():
        torch.testing.assert_close(value, outs[2][2][name])


# -- memories ------------------------------------------------------------------------------------------------


def test_what_items_share_is_kept_while_any_item_is_frozen():
    memory = StaticDynamic(2, 3, SPEC, statics=1, dynamics=1, lr_static=0.1)
    memory.learn_labels(torch.zeros(6, 2))
    parts = {id(p): rows for p, rows in frozen_parts(memory, torch.tensor([0, 2]))}
    for p in (memory.stills, memory.motions, memory.logits):
        assert parts[id(p)].tolist() == [3, 4]
    assert all(parts[id(p)] is ... for p in memory.integrator.parameters())
    assert len(parts) == len(list(memory.parameters()))


@pytest.mark.parametrize("name", ["dm", "mtt"])
def test_a_frozen_item_of_stills_and_motions_renders_the_same(name, judges, data, held_at):
    held_at(2, 1)
    before = Before()
    memory = partial(StaticDynamic, statics=1, dynamics=2, lr_static=0.5, budget=0)
    run(
        name, judges, data, sizes=MultiSize(4, 1), memory=memory, trainer={"callbacks": [before]},
        **FAST.get(name, {}),
    )  # fmt: skip
    first, last = before.values
    for key in first:
        own = first[key].view(K, N, -1) if "." not in key else first[key]
        now = last[key].view(own.shape)
        assert now.equal(own) if "." in key else now[:, 0].equal(own[:, 0])
        assert "." in key or not now[:, 1].equal(own[:, 1])


def test_packed_items_are_frozen_whole():
    memory = MultiFormation(2, 2, SPEC, factor=2)
    memory.learn_labels(torch.zeros(len(memory), 2))
    (_, items), (_, rows) = frozen_parts(memory, torch.tensor([1, 1]))
    assert items.tolist() == [0, 2]
    assert rows.tolist() == [0, 1, 2, 3, 8, 9, 10, 11]


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (
            {"interval": 5, "average": 5},
            r"multisize.average 5 must be at least 1, and less than multisize.interval 5",
        ),
        ({"average": 0}, "multisize.average 0"),
        ({"freeze": "never"}, "multisize.freeze must be permanent or predecessor, got 'never'"),
    ],
)
def test_impossible_plans_are_refused(plan, message):
    with pytest.raises(ValueError, match=message):
        MultiSize(**plan)


def test_rows_in_another_order_than_a_set_is_cut_in_are_refused(judges, data):
    with pytest.raises(ValueError, match=r"multisize needs memory\.order image"):
        run("idc", judges, data, sizes=MultiSize(4, 1), memory=partial(MultiFormation, order="crop"))


@pytest.mark.parametrize("now", [None, MultiSize(9, 2)])
def test_a_checkpoint_of_another_plan_is_refused(now, judges, data, tmp_path):
    save = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    saving = {"enable_checkpointing": True, "callbacks": [save], "default_root_dir": str(tmp_path)}
    run("frepo", judges, data, sizes=MultiSize(9, 1), trainer=saving)
    with pytest.raises(ValueError, match=r"ckpt_path was written by a run of {'multisize': {'interval': 9"):
        run("frepo", judges, data, sizes=now, trainer={"ckpt_path": str(tmp_path / "step=1.ckpt")})


def test_methods_that_learn_nothing_have_no_sizes(data):
    with pytest.raises(ValueError, match="Random learns nothing that has sizes: leave multisize out"):
        fit(Random(K, SPEC, ipc=2), data, max_epochs=1, callbacks=[MatchPrefixes(MultiSize(2, 1))])


def test_a_method_without_networks_is_measured_by_pixels(data):
    kept = []

    class Kept(MatchPrefixes):
        def _measure(self, earlier, clips, given, context):
            kept.append((clips.detach().clone(), super()._measure(earlier, clips, given, context)))
            return kept[-1][1]

    model = Pull(K, SPEC, ipc=2, init="noise", optimizer=Sgd(50.0))
    fit(model, data, max_steps=4, callbacks=[Kept(MultiSize(2, 1))])
    assert len(kept) == 2
    for clips, found in kept:
        assert found.items.equal(clips.flatten(1))
        assert found.real.shape == (K, clips[0].numel())
        assert found.real.abs().max() < 3  # the means of three clips in normal range
    assert kept[0][1].earlier.equal(kept[0][1].items)  # chosen in that very step
    assert not kept[1][1].earlier.equal(kept[1][1].items)
