"""Experts end to end on a tiny network: snapshots, kills, devices that do not talk, costs, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.killing import CPU, Killed, killing
from tests.small import CLASSES, SPEC, K, Videos
from vdc.nets import build
from vdc.nets.experts import info_file, load_experts, weights_file
from vdc.system.files import sha256
from vdc.train import experts as experting
from vdc.train.experts import clip_bytes, cost, pretrain_experts
from vdc.train.protocol import Protocol

SHORT = Protocol(name="expert", optimizer="sgd", lr=0.05, epochs=4, schedule="constant", labels="hard")


def run(folder, **options):
    given = {"experts": 2, "protocol": SHORT, "trainer": CPU, "progress": False, "checkpoint_every": 0}
    return pretrain_experts("tiny", options.pop("data", None) or Videos(), str(folder), **given | options)


def hashes(folder):
    return [sha256(path) for path in sorted(folder.glob("*.safetensors"))]


def test_experts_have_a_snapshot_per_epoch_and_are_all_different(tmp_path):
    infos = run(tmp_path)
    experts = load_experts(tmp_path, CLASSES, SPEC, "tiny", SHORT.epochs)
    rows = [experts.snapshot(i, e) for i in range(2) for e in range(SHORT.epochs + 1)]
    for i, row in enumerate(rows):
        assert not any(
            torch.equal(row, other) for other in rows[:i]
        )  # live weights, stored by reference, would
    assert [info["sha256"] for info in infos] == hashes(tmp_path)
    assert not list(tmp_path.rglob("*.ckpt"))
    assert not list(tmp_path.rglob("*.partial"))


def test_snapshots_are_those_of_a_hand_made_training(tmp_path):
    """No dropout, one epoch: the difference of the first two snapshots is that of plain gradient steps."""
    data = Videos()
    run(
        tmp_path,
        data=data,
        experts=1,
        net_options={"dropout": 0.0},
        protocol=replace(SHORT, epochs=1, momentum=0),
    )
    experts = load_experts(tmp_path)
    net = experts.build().train()
    names = [name for name, _ in net.named_parameters()]
    with torch.no_grad():
        torch.nn.utils.vector_to_parameters(experts.snapshot(0, 0), net.parameters())
    optimizer = torch.optim.SGD(net.parameters(), SHORT.lr)
    for group in optimizer.param_groups:
        group["weight_decay"] = 0.0
    for raw in data.train_dataloader():
        batch = data.on_after_batch_transfer(raw, 0)
        loss = torch.nn.functional.cross_entropy(net(batch.clips), batch.labels)
        loss = loss + 0.5 * SHORT.weight_decay * sum(
            p.square().sum() for p in net.parameters() if p.ndim > 1
        )  # L2, on matrices only
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    found = torch.nn.utils.parameters_to_vector(net.parameters())
    assert names[0] == "conv1.weight"
    assert torch.allclose(experts.snapshot(0, 1), found, atol=1e-6)
    assert not torch.allclose(experts.snapshot(0, 0), found, atol=1e-4)


def test_the_trained_network_scores_what_was_reported(tmp_path):
    infos = run(tmp_path)
    data, experts = Videos(), load_experts(tmp_path)
    for i, info in enumerate(infos):
        net, right = experts.trained(i), 0
        for raw in data.test_dataloader():
            batch = data.on_after_batch_transfer(raw, 0)
            right += int((net(batch.clips).argmax(1) == batch.labels).sum())
        assert info["test"]["top1"] == pytest.approx(100 * right / len(data.labels), abs=0.01)


@pytest.mark.parametrize("epoch", [0, 2])
def test_a_killed_expert_goes_on_to_the_very_same_snapshots(tmp_path, epoch):
    run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", trainer=killing(epoch))
    assert not info_file(tmp_path / "killed", 0).exists()
    run(tmp_path / "killed")
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "killed")


def test_finished_experts_are_not_trained_again(tmp_path, monkeypatch):
    run(tmp_path, experts=1)
    before = weights_file(tmp_path, 0).stat().st_mtime_ns
    trained = []
    monkeypatch.setattr(experting, "_train", lambda m, d, folder, number, *_: trained.append(number))
    with pytest.raises(FileNotFoundError):  # nobody trains the second one here
        run(tmp_path, experts=2)
    assert trained == [1]
    assert weights_file(tmp_path, 0).stat().st_mtime_ns == before


def test_a_kill_between_info_and_checkpoint_leaves_nothing(tmp_path):
    run(tmp_path, experts=1)
    left = tmp_path / "run-0000" / "last.ckpt"
    left.touch()
    run(tmp_path, experts=1)
    assert not left.exists()


def test_a_kill_between_file_and_info(tmp_path):
    (info,) = run(tmp_path, experts=1)
    info_file(tmp_path, 0).unlink()
    (again,) = run(tmp_path, experts=1)
    assert again["sha256"] == info["sha256"]


def test_a_checkpoint_whose_snapshots_are_lost_starts_anew(tmp_path):
    run(tmp_path / "whole", experts=1)
    with pytest.raises(Killed):
        run(tmp_path / "lost", experts=1, trainer=killing(2))
    (tmp_path / "lost" / "run-0000" / "snapshots.partial").unlink()
    run(tmp_path / "lost", experts=1)
    assert hashes(tmp_path / "whole") == hashes(tmp_path / "lost")


def test_devices_share_the_work_by_number(tmp_path):
    run(tmp_path / "one", experts=2)
    run(tmp_path / "two", experts=1, first=1)
    run(tmp_path / "two", experts=1)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert load_experts(tmp_path / "two").numbers == [0, 1]


def test_another_training_is_not_mixed_in(tmp_path):
    run(tmp_path, experts=1)
    with pytest.raises(ValueError, match=r"another training \(recipe\): choose another --out"):
        run(tmp_path, experts=2, protocol=replace(SHORT, lr=0.1))
    with pytest.raises(ValueError, match="precision"):
        run(tmp_path, experts=2, snapshots="fp16")


def test_a_full_disk_and_silly_counts_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="--experts must be at least 1"):
        run(tmp_path, experts=0)
    monkeypatch.setattr(experting, "free_bytes", lambda folder: 10)
    with pytest.raises(OSError, match="set --snapshots fp16 or fewer"):
        run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_the_bytes_and_does_nothing(tmp_path, capsys):
    assert run(tmp_path / "new", dry_run=True, experts=3) == []
    assert not (tmp_path / "new").exists()
    said = capsys.readouterr().out
    dim = sum(p.numel() for p in build("tiny", K, SPEC).parameters())
    assert f"{dim:,} (tiny, 3 classes)" in said
    assert "3 experts to train" in said


def test_costs_are_the_bytes_on_disk(tmp_path):
    run(tmp_path, experts=1)
    size = os.path.getsize(weights_file(tmp_path, 0))
    net = load_experts(tmp_path).build()
    dim = sum(p.numel() for p in net.parameters())
    assert 0 < size - 4 * dim * (SHORT.epochs + 1) < 2000  # a header
    big = build("minic3d", 101, replace(SPEC, frames=8, size=112), norm="in")
    lines = dict(line.split("  ", 1) for line in cost(big, 50, 30, "fp32", 16))
    dim = sum(p.numel() for p in big.parameters())
    assert f"{51 * 4 * dim * 30 / 1e6:,.0f} MB" in lines["30 experts on disk"]


def test_the_bytes_of_a_clip_are_what_a_layer_keeps():
    net = build("tiny", K, SPEC)
    pixels = 3 * 4 * 16 * 16 * 4  # (channels, T, H, W) float32
    maps = 4 * 4 * 8 * 8 * 4 + 6 * 4 * 4 * 4 * 4  # after each of the strided convolutions
    found = clip_bytes(net)
    assert pixels + 2 * maps <= found <= pixels + 3 * maps + 200  # input, norms' inputs, ReLUs' outputs


SCRIPT = """
import sys
from functools import partial
from pathlib import Path
from lightning.pytorch import Trainer
from tests.network import Dropping, register
from tests.small import Videos
from tests.train.test_experts import run
register(Dropping)
run(sys.argv[1], experts=6)
"""


def test_kill_dash_nine(tmp_path):
    """A real SIGKILL after the first expert; the same call then finishes, and nothing is half-written."""
    child = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not info_file(tmp_path, 0).exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = load_experts(tmp_path).numbers
    assert 0 < len(done) < 6
    kept = {n: json.loads(info_file(tmp_path, n).read_text())["sha256"] for n in done}
    infos = run(tmp_path, experts=max(done) + 2)
    assert [info["sha256"] for info in infos][: len(done)] == list(kept.values())
    assert [info["sha256"] for info in infos] == hashes(tmp_path)
