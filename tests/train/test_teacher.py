"""Teachers: the epoch that validates best, after a kill, at the epochs that are looked at."""

import pytest
import torch
from safetensors.torch import load_file

from tests.killing import CPU, Killed, killing
from tests.small import CLASSES, SPEC, Videos
from vdc.nets import load_teacher
from vdc.nets.weights import Weights
from vdc.train.protocol import Protocol
from vdc.train.run import Running
from vdc.train.teacher import look_epochs, pretrain


def test_pretrain_keeps_the_epoch_that_validates_best(tmp_path):
    out = tmp_path / "teacher"
    protocol = Protocol(epochs=8, lr=0.05, labels="hard")
    info = pretrain(
        "tiny", Videos(val=True), str(out), protocol, trainer=CPU, progress=False, checkpoint_every=0
    )
    net = load_teacher(out, CLASSES, SPEC)
    assert info["validation"]["top1"] == info["test"]["top1"]  # one split serves as both here
    videos = Videos()
    batch = videos.on_after_batch_transfer(videos.raw(list(range(12))), 0)
    right = (net(batch.clips).argmax(1) == batch.labels).float().mean()
    assert info["test"]["top1"] == pytest.approx(100 * float(right), abs=1e-2)
    assert not list(out.rglob("*.ckpt"))
    assert (
        pretrain("tiny", Videos(val=True), str(out), protocol, trainer=killing(0)) == info
    )  # nothing is trained


def test_a_teacher_of_two_processes_is_another(tmp_path, monkeypatch):
    protocol = Protocol(epochs=1, labels="hard")
    pretrain("tiny", Videos(), str(tmp_path), protocol, trainer=CPU, progress=False)
    monkeypatch.setattr(Running, "processes", 2)
    with pytest.raises(Killed):  # it is trained
        pretrain("tiny", Videos(), str(tmp_path), protocol, trainer=killing(0), progress=False)
    assert (tmp_path / "before-1/teacher.json").is_file()


def test_a_killed_pretraining_goes_on(tmp_path):
    protocol = Protocol(epochs=6, lr=0.05, labels="hard", ema=0.5)
    teachers = []
    for name in ("whole", "killed"):
        options = {"progress": False, "checkpoint_every": 0}
        if name == "killed":
            with pytest.raises(Killed):
                pretrain(
                    "tiny", Videos(val=True), str(tmp_path / name), protocol, trainer=killing(3), **options
                )
        pretrain("tiny", Videos(val=True), str(tmp_path / name), protocol, trainer=CPU, **options)
        teachers.append(load_teacher(tmp_path / name))
    assert teachers[0].digest == teachers[1].digest
    assert teachers[0].info["validation"] == teachers[1].info["validation"]


def test_looks_are_spread_and_end_with_the_last_epoch():
    assert look_epochs(150) == list(range(4, 150, 5))
    assert look_epochs(3) == [0, 1, 2]
    assert all(look_epochs(n)[-1] == n - 1 for n in range(1, 70))


@pytest.mark.parametrize("frozen", [False, True])
def test_pretraining_from_weights(tmp_path, frozen):
    protocol = Protocol(epochs=2, lr=0.05, labels="hard", ema=0.5)
    options = {"trainer": CPU, "progress": False, "checkpoint_every": 0}
    pretrain("tiny", Videos(), str(tmp_path / "first"), protocol, **options)
    colours = ((0.4, 0.4, 0.4), (0.2, 0.2, 0.2))
    weights = Weights(str(tmp_path / "first"), frozen, colours)
    again = str(tmp_path / "again")
    with pytest.raises(Killed):
        pretrain("tiny", Videos(), again, protocol, weights=weights, **options | {"trainer": killing(1)})
    info = pretrain("tiny", Videos(), again, protocol, weights=weights, **options)
    assert info["weights"] == {
        "name": "first/weights.safetensors",
        "sha256": load_teacher(tmp_path / "first").digest,
        "licence": "not stated by the file",
        "frozen": frozen,
        "mean": [0.4] * 3,
        "std": [0.2] * 3,
        "last_layer": "kept",
    }
    assert load_teacher(again).net.colours == colours
    before, after = (load_file(tmp_path / name / "weights.safetensors") for name in ("first", "again"))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == ({name for name in before if not name.startswith("fc.")} if frozen else set())
    with pytest.raises(Killed):  # other weights make another teacher
        pretrain("tiny", Videos(), again, protocol, **options | {"trainer": killing(0)})
