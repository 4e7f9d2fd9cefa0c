"""Every method on a Coded memory: what is stored is bytes of real or learnt clips, however the run went."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.codes import make_code
from tests.methods.tiny import CLASSES, SPEC, K, fit, make_teacher, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.condensed.memory import Coded
from vdc.methods import DATM, DC, DM, IDC, MTT, NCFM, RDED, FRePo, Herding, KCenter, Random
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.options import Network
from vdc.methods.base.prefixes import MultiSize
from vdc.methods.base.shard import ShardStrategy

NET = {"net": Network("tiny", {"norm": "in"})}


@pytest.fixture(scope="module")
def code(toy_root, tmp_path_factory):
    data = toy(toy_root)
    clips = torch.stack([data.candidate(row, 0) for row in range(len(data.labels))])
    return make_code(tmp_path_factory.mktemp("code"), SPEC, clips)


@pytest.fixture
def teacher(tmp_path):
    return make_teacher(tmp_path / "teacher")


def sgd(lr, momentum=0.0):
    return partial(torch.optim.SGD, lr=lr, momentum=momentum)


def coded(code, **options):
    return partial(Coded, code=code, **{"clip_bytes": 40, "clips_per_item": 2} | options)


@pytest.mark.parametrize("method", [Random, Herding, KCenter, RDED])
def test_chosen_clips_are_stored_coded(toy_root, code, teacher, tmp_path, method):
    data = toy(toy_root)
    taught = {} if method is Random else {"teacher": teacher}
    run = {"max_epochs": 1}
    plain = fit(method(K, SPEC, ipc=4, seed=3, out=str(tmp_path / "raw"), **taught), data, **run)
    memory = coded(code)
    fit(method(K, SPEC, ipc=2, seed=3, memory=memory, out=str(tmp_path / "coded"), **taught), data, **run)
    held = load(tmp_path / "coded")
    expected = Coded(K, 2, SPEC, code, 40, 2)
    chosen = plain.memory.videos.detach().view(K, 4, *plain.memory.videos.shape[1:])
    expected.initialise(chosen)
    assert torch.equal(
        held.tensors["codes"], expected.state()["codes"]
    )  # the same clips, twice as many an item
    assert held.nbytes["clips"] == K * 2 * 2 * 40
    assert held.prefix(1).nbytes["clips"] == K * 2 * 40


def make(method, code, experts, **options):
    memory = coded(code)
    given = {"ipc": 2, "memory": memory, "seed": 2, "optimizer": sgd(0.5, 0.5)} | options
    if method in (MTT, DATM):
        return method(K, SPEC, experts, syn_steps=2, max_start_epoch=2, **given)
    if method is FRePo:
        return FRePo(K, SPEC, pool_size=2, **given, **NET)
    inner = {DC: {"outer": 1, "inner": 1}, IDC: {"outer": 2, "inner": 1, "net_batch": 4}}.get(method, {})
    return method(K, SPEC, **{"iterations": 4, "init": "real"} | given, **inner, **NET)


EVERY = [DM, NCFM, DC, IDC, MTT, DATM, FRePo]


@pytest.mark.parametrize("method", EVERY)
def test_methods_learn_codes_and_go_on_where_they_were_left(toy_root, code, experts, tmp_path, method):
    data = toy(toy_root, per_class=3)
    steps = {"max_steps": 4} if method in (MTT, DATM, FRePo) else {}
    keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=2, save_top_k=-1)
    model = make(method, code, experts, out=str(tmp_path / "set"))
    fit(model, data, callbacks=[keep], enable_checkpointing=True, **steps)
    held = load(tmp_path / "set")
    assert held.tensors["codes"].shape == (K * 2, 2, 40)
    start = Coded(K, 2, SPEC, code, 40, 2)
    start.initialise(data.sample(4, 2))
    moved = (held.tensors["codes"] != start.state()["codes"]).flatten(1).any(1)
    if method not in (MTT, DATM):  # whose start is chosen by the experts
        assert moved.all()
    again = make(method, code, experts, out=str(tmp_path / "again"))
    fit(again, data, ckpt_path=str(tmp_path / "step=2.ckpt"), **steps)
    assert torch.equal(load(tmp_path / "again").tensors["codes"], held.tensors["codes"])
    rows = torch.arange(K * 4)
    assert torch.equal(model.memory.render(rows)[0], held.memory().render(rows)[0])


@pytest.mark.parametrize("method", [DM, NCFM])
def test_blocks_share_the_code_and_a_prefix_is_matched(toy_root, code, experts, tmp_path, method):
    data = toy(toy_root, per_class=3)
    model = make(method, code, experts, block=4, out=str(tmp_path / "set"))
    fit(model, data, callbacks=[MatchPrefixes(MultiSize(2, 1))])
    held = load(tmp_path / "set")
    shared = sorted(name for name in held.tensors if name.startswith("shared."))
    assert shared == ["shared.code.mask", "shared.code.mean", "shared.code.octaves"]
    first = held.prefix(1)
    alone = first.memory()
    whole = held.memory()
    assert torch.equal(alone.render(torch.arange(2 * K))[0], whole.render(whole.prefix(1))[0])


def test_labels_are_learnt_per_coded_clip(toy_root, code, tmp_path):
    out = str(tmp_path / "set")
    fit(make(FRePo, code, "", lr_labels=0.01, out=out), toy(toy_root), max_steps=2)
    held = load(out)
    assert held.labels.soft.shape == (K * 2 * 2, K)
    assert held.nbytes["labels"] == K * 4 * (1 + 2 * K)


def test_a_run_starts_from_a_coded_set(toy_root, code, tmp_path):
    data = toy(toy_root)
    folder = str(tmp_path / "start")
    memory = coded(code)
    fit(Random(K, SPEC, ipc=2, memory=memory, out=folder), data, max_epochs=1)
    model = make(DM, code, "", init=folder, optimizer=sgd(0.0), out=str(tmp_path / "same"))
    fit(model, data)
    codes = [load(place).tensors["codes"] for place in (folder, tmp_path / "same")]
    assert (
        codes[0] != codes[1]
    ).float().mean() < 0.02  # what decodes to less than black is black, and coded as such


class ThereDM(DM):
    def setup(self, stage):
        register()
        super().setup(stage)


@pytest.mark.ddp
def test_two_processes_store_what_one_stores(toy_root, code, tmp_path):
    classes, found = CLASSES[:3], {}
    for name in ("one", "two"):
        memory = coded(code)
        given = {"ipc": 2, "block": 4, "iterations": 3, "seed": 3, "memory": memory, "optimizer": sgd(0.5)}
        model = ThereDM(3, SPEC, out=str(tmp_path / name), **given, **NET)
        shard = {"devices": 2, "strategy": ShardStrategy(start_method="spawn")} if name == "two" else {}
        fit(model, toy(toy_root, classes=classes, per_class=3), **shard)
        found[name] = load(tmp_path / name).tensors
    assert found["one"].keys() == found["two"].keys()
    apart = (found["one"]["codes"] != found["two"]["codes"]).float().mean()
    assert apart < 0.01  # sums in another order may end on the other side of a level
