"""A step that is not finite: through the command line, for every family of methods that learns."""

import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.methods.base.test_condenser import Pull
from tests.methods.tiny import CLASSES, SPEC, K, fit, make_teacher, toy
from tests.network import register
from vdc.cli import main
from vdc.condensed.format import load
from vdc.methods import DC, DM, DSA, IDC, NCFM, FRePo, Statistics
from vdc.methods.base.nonfinite import LAST_GOOD
from vdc.methods.base.options import Network
from vdc.methods.base.shard import ShardStrategy

AT = 4


class Broken:
    """Whose loss is no number at one step, until it is mended."""

    mended = False

    def loss(self, clips, labels, context):
        terms = super().loss(clips, labels, context)  # moves averages, as a good step would
        return {
            name: value * float("nan") if self.global_step == AT and not self.mended else value
            for name, value in terms.items()
        }


class Silent:
    """Whose loss is no number though its gradient is finite."""

    def loss(self, clips, labels, context):
        terms = super().loss(clips, labels, context)
        return {**terms, "odd": torch.tensor(float("inf"))} if self.global_step == AT else terms


class BrokenPull(Broken, Pull):
    pass


class SilentPull(Silent, Pull):
    pass


class BrokenDM(Broken, DM):
    pass


class BrokenNCFM(Broken, NCFM):
    pass


class BrokenDC(Broken, DC):
    pass


class BrokenDSA(Broken, DSA):
    pass


class BrokenIDC(Broken, IDC):
    pass


class BrokenFRePo(Broken, FRePo):
    pass


class BrokenStatistics(Broken, Statistics):
    pass


NET = {"net": {"name": "tiny", "options": {"norm": "in"}}}
TWO = {**NET, "iterations": 3}  # of two blocks
SHORT = {**NET, "iterations": 6, "outer": 3}  # a network of two steps more, broken in its second life
ALL = {  # class: its broken twin, options, words of the message
    Pull: (BrokenPull, {"init": "noise"}, "BrokenPull"),
    DM: (BrokenDM, TWO | {"block": 2, "real": {"sampling": "dream", "interval": 2}}, "step 1 of classes 2-3"),
    NCFM: (BrokenNCFM, TWO | {"block": 2, "frequencies": 8}, "step 1 of classes 2-3"),
    DC: (BrokenDC, SHORT | {"inner": 2, "init": "real", "net_lr": 0.1}, "step 4 of classes 0-3"),
    DSA: (BrokenDSA, SHORT | {"inner": 1, "net_lr": 0.1}, "step 4 of classes 0-3"),
    IDC: (BrokenIDC, SHORT | {"inner": 1, "net_batch": 4}, "step 4 of classes 0-3"),
    FRePo: (BrokenFRePo, NET | {"pool_size": 2, "max_age": 3}, r"network \d of age \d"),
    Statistics: (
        BrokenStatistics,
        {"iterations": 3, "block": 2, "flatness_weight": 1.0, "reference_quirks": True},
        "step 1 of classes 2-3",
    ),
}


@pytest.fixture
def command(toy_root, tmp_path, monkeypatch):
    """`vdc fit` with a method and its options, in a folder of the test."""
    monkeypatch.chdir(tmp_path)
    teacher = make_teacher(tmp_path / "teacher")

    def run(cls, options, name, *more):
        own = {"teachers": [teacher]} if issubclass(cls, Statistics) else {}
        spec = {"frames": SPEC.frames, "size": SPEC.size, "stride": SPEC.stride}
        data = {
            "root": toy_root,
            "train_videos": 5,
            "test_videos": 1,
            "classes": CLASSES,
            "load_size": [20, 20],
        }
        held = {
            "model": {"class_path": f"{cls.__module__}.{cls.__qualname__}", "init_args": own | options},
            "data": {
                "class_path": "ToyData",
                "init_args": data | {"spec": spec, "batch_size": 4, "per_class": 2},
            },
            "trainer": {"max_steps": 6, "logger": False, "enable_progress_bar": False, "accelerator": "cpu"},
        }
        Path(f"{name}.yaml").write_text(yaml.safe_dump(held))
        main(["fit", "--config", f"{name}.yaml", *more])
        return load(f"runs/{name}/condensed").tensors

    return run


def stopped(command, capsys, cls, options, name):
    """The one line that a run ends with."""
    with pytest.raises(SystemExit) as stop:
        command(cls, options, name)
    assert stop.value.code == 2
    assert not Path(f"runs/{name}/condensed").exists()
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_run_stops_and_goes_on_from_the_state_before(command, capsys, monkeypatch, cls):
    broken, options, words = ALL[cls]
    line = stopped(command, capsys, broken, options, "broken")
    assert line.startswith(f"error: loss or gradient is not finite at step {AT} (")
    kept = Path(line.rsplit("go on with --ckpt_path ", 1)[1])
    assert kept.samefile(Path("runs/broken", LAST_GOOD))
    assert re.search(words, line), line
    saved = torch.load(kept, weights_only=True)
    assert saved["global_step"] == AT
    assert all(part.isfinite().all() for part in saved["state_dict"].values())
    monkeypatch.setattr(broken, "mended", True)
    again = command(broken, options, "again", "--ckpt_path", str(kept))
    whole = command(broken, options, "whole")
    for name, part in whole.items():
        assert torch.equal(part, again[name])


def test_a_loss_that_is_not_finite_counts_without_its_gradient(command, capsys):
    assert f"not finite at step {AT} (SilentPull)" in stopped(command, capsys, SilentPull, {}, "silent")


def test_a_network_that_diverges_between_steps_is_found(command, capsys):
    """By itself: the network's rate is absurd, so it is gone when it is looked at for the second time."""
    options = NET | {"outer": 4, "inner": 2, "iterations": 4, "net_lr": 1e30, "init": "real"}
    line = stopped(command, capsys, DC, options, "diverged")
    assert "not finite at step 1 (step 1 of classes 0-3)" in line
    state = torch.load("runs/diverged/" + LAST_GOOD, weights_only=True)["blocks"]["state"]
    assert state.keys() >= {"net.fc.weight", "net.conv1.weight"}
    assert all(part.isfinite().all() for part in state.values())  # the network as it was before


class OneSided(DM):
    """Broken where class 2 is learnt only."""

    def setup(self, stage):
        register()
        super().setup(stage)

    def loss(self, clips, labels, context):
        terms = super().loss(clips, labels, context)
        return {"means": terms["means"] * float("nan")} if self.step == 1 and self.classes[0] == 2 else terms


@pytest.mark.ddp
def test_all_processes_stop_at_the_same_step(toy_root, tmp_path):
    shard = {"devices": 2, "strategy": ShardStrategy(start_method="spawn"), "default_root_dir": str(tmp_path)}
    model = OneSided(K, SPEC, block=2, net=Network("tiny", {"norm": "in"}), iterations=3)
    with pytest.raises(Exception, match="loss or gradient is not finite at step 1"):
        fit(model, toy(toy_root, per_class=2), **shard)
    shares = [torch.load(tmp_path / name, weights_only=True) for name in (LAST_GOOD, f"rank1/{LAST_GOOD}")]
    assert [share["global_step"] for share in shares] == [1, 1]
