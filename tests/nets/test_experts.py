"""Snapshots on disk: what was written is what is read, two rows at a time, and wrong folders are refused."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from vdc.nets import build
from vdc.nets.experts import (
    Recorder,
    describe,
    flat_parameters,
    info_file,
    load_experts,
    snapshot_bytes,
    weights_file,
)
from vdc.spec import ClipSpec
from vdc.system.files import sha256, write_json

SPEC = ClipSpec(frames=4, size=43, stride=1)
CLASSES = ["a", "b", "c"]
EPOCHS = 3


def network(seed=0, **options):
    net = build("minic3d", 3, SPEC, **options)
    net.reset_parameters("default", torch.Generator().manual_seed(seed))
    return net


def train_a_little(net):
    """In place, as optimisers do."""
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.01)
        for b in net.buffers():
            b.add_(1)


def record(folder, number=0, net=None, precision="fp32", epochs=EPOCHS):
    net = net or network(number, norm="in")
    recorder = Recorder(folder / f"{number}.partial", net, epochs, precision)
    states = []
    for epoch in range(epochs + 1):
        states.append(torch.cat([p.detach().clone().flatten() for p in net.parameters()]))
        recorder.write(epoch, net)
        train_a_little(net)
    write_json(folder / "experts.json", describe(net, CLASSES, epochs, precision, {"seed": 0}))
    recorder.finish(folder, number, {"number": number, "test": {"top1": 50.0}})
    return states


def test_every_epoch_is_read_back_and_none_follows_the_live_weights(tmp_path):
    states = record(tmp_path)
    experts = load_experts(tmp_path, CLASSES, SPEC, "minic3d", EPOCHS)
    for epoch, state in enumerate(states):
        assert torch.equal(experts.snapshot(0, epoch), state)
    assert not torch.equal(experts.snapshot(0, 1), experts.snapshot(0, 2))


def test_half_precision_halves_the_file_and_rounds(tmp_path):
    (tmp_path / "half").mkdir(), (tmp_path / "full").mkdir()
    states = record(tmp_path / "half", precision="fp16")
    record(tmp_path / "full")
    found = load_experts(tmp_path / "half").snapshot(0, 2)
    assert found.dtype == torch.float32
    assert torch.equal(found, states[2].half().float())
    sizes = [os.path.getsize(weights_file(tmp_path / name, 0)) for name in ("half", "full")]
    dim = len(states[0])
    assert [s // ((EPOCHS + 1) * dim) for s in sizes] == [2, 4]
    assert snapshot_bytes(network(norm="in"), "fp16") == 2 * dim


def test_the_file_is_what_the_safetensors_library_reads(tmp_path):
    states = record(tmp_path, net=network(norm="bn"))
    whole = load_file(weights_file(tmp_path, 0))
    assert torch.equal(whole["theta"], torch.stack(states))
    with safe_open(weights_file(tmp_path, 0), "pt") as file:
        layout = json.loads(file.metadata()["layout"])
    assert list(layout.items()) == [(n, list(p.shape)) for n, p in network(norm="bn").named_parameters()]


def bytes_read():
    with open("/proc/self/io") as file:
        return int(file.read().split("rchar: ")[1].split()[0])


def test_a_snapshot_is_mapped_and_the_file_not_read_through(tmp_path):
    net = nn.Linear(1000, 1000)  # 64 MB in 16 snapshots
    net.name, net.options, net.num_classes, net.spec = "minic3d", {}, 3, SPEC
    record(tmp_path, net=net, epochs=15)
    before = bytes_read()
    with safe_open(weights_file(tmp_path, 0), "pt") as file:
        row = file.get_slice("theta")[7]
    assert row.shape == (1001000,)
    assert bytes_read() - before < 10e6


def test_a_trained_network_has_its_last_weights_and_statistics(tmp_path):
    net = network(norm="bn")
    record(tmp_path, net=net)  # advances once more after the last snapshot
    loaded = load_experts(tmp_path).trained(0)
    assert not loaded.training
    assert torch.allclose(flat_parameters(loaded) + 0.01, flat_parameters(net), atol=1e-6)
    for mine, theirs in zip(loaded.buffers(), net.buffers(), strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.equal(mine + 1, theirs)


def test_recording_goes_on_in_the_same_file_and_starts_anew_in_another(tmp_path):
    net = network(norm="in")
    Recorder(tmp_path / "x", net, EPOCHS, "fp32").write(1, net)
    kept = (tmp_path / "x").read_bytes()
    Recorder(tmp_path / "x", net, EPOCHS, "fp32")
    assert (tmp_path / "x").read_bytes() == kept
    Recorder(tmp_path / "x", net, EPOCHS, "fp16")
    assert (tmp_path / "x").read_bytes() != kept


def test_what_is_not_finite_is_not_stored(tmp_path):
    net = network(norm="in")
    recorder = Recorder(tmp_path / "x", net, 1, "fp16")
    with torch.no_grad():
        net.fc.weight[0, 0] = 1e5  # beyond half precision
    with pytest.raises(ValueError, match="after epoch 1 are not finite in fp16"):
        recorder.write(1, net)


def test_the_info_holds_hash_and_bytes(tmp_path):
    record(tmp_path, 3)
    info = json.loads(info_file(tmp_path, 3).read_text())
    assert info["sha256"] == sha256(weights_file(tmp_path, 3))
    assert info["bytes"] == os.path.getsize(weights_file(tmp_path, 3))
    assert info["test"] == {"top1": 50.0}
    assert load_experts(tmp_path).numbers == [3]


def refused(path, match, error=ValueError, **options):
    with pytest.raises(error, match=match):
        load_experts(path, **options)


def test_wrong_folders_are_refused(tmp_path):
    refused(tmp_path, "vdc pretrain --experts", FileNotFoundError)
    record(tmp_path)
    refused(tmp_path, "net 'minic3d', not 'i3d'", net="i3d")
    refused(tmp_path, "know 3 classes, the data has 2", classes=["a", "b"])
    refused(tmp_path, "class 1 is 'b' there, 'x' in", classes=["a", "x", "c"])
    refused(tmp_path, "4 frames of 43 px, the data has 8 of 48", spec=ClipSpec(frames=8, size=48))
    refused(tmp_path, "trained for 3 epochs, 4 are needed", epochs=4)
    with pytest.raises(ValueError, match="snapshot 4 asked of experts of 3"):
        load_experts(tmp_path).snapshot(0, 4)


def test_unfinished_and_damaged_experts(tmp_path):
    record(tmp_path, 0)
    record(tmp_path, 1)
    info_file(tmp_path, 1).unlink()  # killed before it was finished
    assert load_experts(tmp_path).numbers == [0]
    file = weights_file(tmp_path, 0)
    file.write_bytes(file.read_bytes()[:-100])
    refused(tmp_path, "expert_0000.safetensors is missing or damaged")
    info_file(tmp_path, 0).unlink()
    refused(tmp_path, "no finished expert", FileNotFoundError)


def test_a_file_of_another_network_is_refused(tmp_path):
    record(tmp_path, 0)
    common = (tmp_path / "experts.json").read_text()
    record(tmp_path, 1, network(norm="none"))
    (tmp_path / "experts.json").write_text(common)
    refused(tmp_path, "expert_0001.safetensors holds another network")
