"""Matching in two processes, each with blocks of classes of its own, against one process."""

from functools import partial

import pytest
import torch

from tests.methods.tiny import CLASSES, SPEC, fit, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.methods import DC, DM
from vdc.methods.base.options import Augmentation, Network, RealClips
from vdc.methods.base.shard import ShardStrategy

NET = {"net": Network("tiny", {"norm": "in"})}
PLANS = {
    DM: {"augment": Augmentation("color_crop"), "real": RealClips("dream", interval=2)},
    DC: {"outer": 1, "inner": 1, "init": "real"},
}


class There:
    """Knows the network in a process of its own."""

    def setup(self, stage):
        register()
        super().setup(stage)


class ThereDM(There, DM):
    pass


class ThereDC(There, DC):
    pass


@pytest.mark.ddp
@pytest.mark.parametrize(("cls", "there"), [(DM, ThereDM), (DC, ThereDC)])
def test_two_processes_give_what_one_gives(toy_root, tmp_path, cls, there):
    """Three blocks: process 0 learns two of them, process 1 one, and waits."""
    classes = CLASSES[:3]
    sgd = partial(torch.optim.SGD, lr=20.0, momentum=0.5)
    found = {}
    for name in ("one", "two", "start"):
        plan = PLANS[cls] | {"ipc": 2, "block": 2, "iterations": 1 if name == "start" else 3, "seed": 3}
        rate = partial(torch.optim.SGD, lr=0.0) if name == "start" else sgd
        model = there(3, SPEC, optimizer=rate, out=str(tmp_path / name), **NET | plan)
        shard = {"devices": 2, "strategy": ShardStrategy(start_method="spawn")} if name == "two" else {}
        fit(model, toy(toy_root, classes=classes, per_class=3), **shard)
        found[name] = load(tmp_path / name).tensors["videos"].int()
    apart = (found["one"] - found["two"]).abs()
    assert apart.max() <= 1  # a rounding to the next grey level
    assert (apart > 0).float().mean() < 1e-3
    moved = (found["one"] - found["start"]).abs().flatten(1).amax(1)
    assert (moved > 3).all()  # every item was learnt
