"""Every method on a CUDA device: the first losses of a CPU run, in fp32, bf16 and from a checkpoint."""

from functools import partial

import pytest
import torch
from lightning.pytorch import Callback

from tests.methods.tiny import SPEC, K, fit, make_experts, make_teacher, toy
from vdc.condensed.memory import MultiFormation, Pixels, StaticDynamic
from vdc.methods import (
    CDA,
    DATM,
    DC,
    DM,
    DREAM,
    DSA,
    EDC,
    GVBSM,
    IDC,
    MTT,
    NCFM,
    RDED,
    FRePo,
    Herding,
    KCenter,
    Random,
    SRe2L,
)
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.options import Network
from vdc.methods.base.prefixes import MultiSize

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
NET = {"net": Network("tiny", {"norm": "in"}), "iterations": 3, "init": "real"}
STRETCH = {"syn_steps": 3, "max_start_epoch": 2, "step_size": 0.05}
LEARNT = {
    "DM": (DM, NET),
    "NCFM": (NCFM, NET | {"memory": Pixels, "frequencies": 16}),
    "packed NCFM": (NCFM, NET | {"memory": MultiFormation, "frequencies": 16, "ipc": 1}),
    "DC": (DC, NET | {"outer": 1, "inner": 1}),
    "DSA": (DSA, NET | {"outer": 1, "inner": 1}),
    "IDC": (IDC, NET | {"outer": 2, "inner": 1, "memory": Pixels}),
    "DREAM": (DREAM, NET | {"outer": 2, "inner": 1, "memory": Pixels}),
    "SRe2L": (SRe2L, {"teachers": 1, "iterations": 3}),
    "GVBSM": (GVBSM, {"teachers": 1, "iterations": 3}),
    "EDC": (EDC, {"teachers": 1, "iterations": 3, "flatness_weight": 0.1}),
    "CDA": (CDA, {"teachers": 1, "iterations": 3}),
    "MTT": (MTT, STRETCH),
    "DATM": (DATM, STRETCH | {"threshold": 9.0}),
    "FRePo": (FRePo, {"net": Network("tiny", {"norm": "in"}), "pool_size": 2}),
    "static-dynamic DM": (DM, NET | {"memory": partial(StaticDynamic, budget=0)}),
}
CHOSEN = {"Random": Random, "Herding": Herding, "KCenter": KCenter, "RDED": RDED}


class Losses(Callback):
    """The loss of every step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.seen.append(float(outputs["loss"]))


@pytest.fixture(autouse=True)
def _exact():
    """No TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield
    torch.set_float32_matmul_precision(before)


def run(name, folder, root, accelerator, extra=(), **trainer):
    cls, options = LEARNT[name]
    options = dict(options)
    if "teachers" in options:
        options["teachers"] = [make_teacher(folder / "teacher")]
    if issubclass(cls, MTT):
        (folder / "experts").mkdir(exist_ok=True)
        options["experts"] = make_experts(folder / "experts")
    losses = Losses()
    model = cls(K, SPEC, **{"ipc": 2} | options)
    steps = {} if hasattr(model, "iterations") else {"max_steps": 3}
    fit(model, toy(root), accelerator=accelerator, callbacks=[losses, *extra], **steps | trainer)
    return model, losses.seen


@pytest.mark.parametrize("name", LEARNT)
def test_losses_are_those_of_the_cpu(name, tmp_path, toy_root):
    _, expected = run(name, tmp_path, toy_root, "cpu")
    model, found = run(name, tmp_path, toy_root, "gpu")
    assert len(found) == 3
    assert found[0] == pytest.approx(expected[0], rel=2e-3, abs=1e-5)
    assert all(torch.isfinite(part.float()).all() for part in model.memory.state().values())


@pytest.mark.parametrize("name", LEARNT)
def test_bf16_learns_finite_items_near_those_of_fp32(name, tmp_path, toy_root):
    _, expected = run(name, tmp_path, toy_root, "gpu")
    _, found = run(name, tmp_path, toy_root, "gpu", precision="bf16-mixed")
    assert found[0] == pytest.approx(expected[0], rel=0.15, abs=1e-2)


@pytest.mark.parametrize("name", ["DM", "NCFM", "DC", "EDC", "MTT", "FRePo"])
def test_multi_size(name, tmp_path, toy_root):
    _, found = run(name, tmp_path, toy_root, "gpu", [MatchPrefixes(MultiSize(interval=2, average=1))])
    assert all(map(torch.isfinite, map(torch.tensor, found)))


@pytest.mark.parametrize("name", CHOSEN)
def test_selection_is_that_of_the_cpu(name, tmp_path, toy_root):
    options = {} if name == "Random" else {"teacher": make_teacher(tmp_path / "teacher")}
    options |= {"mipc": 4} if name == "RDED" else {}
    sets = [
        fit(
            CHOSEN[name](K, SPEC, ipc=2, **options), toy(toy_root), accelerator=kind, max_epochs=1
        ).memory.state()
        for kind in ("cpu", "gpu")
    ]
    assert torch.equal(sets[0]["videos"], sets[1]["videos"])
