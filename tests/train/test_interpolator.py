"""Training an interpolator, and where it is used afterwards, on videos whose motion can be recovered."""

from dataclasses import replace

import pytest
import torch

from tests.small import CLASSES, SPEC, K, Videos, make_set
from vdc.condensed.format import load, verify
from vdc.evaluate.condensed_data import CondensedData
from vdc.evaluate.evaluate import evaluate
from vdc.evaluate.relabel import relabel
from vdc.nets.interpolator import Interpolator, interpolator_of, save_interpolator
from vdc.nets.teacher import load_teacher
from vdc.ops.pixels import to_clips
from vdc.train.interpolator import pretrain_interpolator
from vdc.train.protocol import Protocol, named
from vdc.train.recovery import Recovery, duplicated, linear

SMALL = {"keys": [1, 2], "dim": 12, "depth": 1, "heads": 2, "patch": 8}
QUICK = {"progress": False}


class Brightening(Videos):
    """Videos that get brighter at one pace, from a level of their own: two frames tell the others."""

    def __init__(self, **options):
        super().__init__(per_class=8, **options)
        level = torch.randint(20, 120, (len(self.labels), 1, 1, 1, 1, 1))
        self.frames = (level + 30 * torch.arange(4).view(1, 1, 4, 1, 1, 1)).expand_as(self.frames).byte()


def fading(**changes):
    return named("interpolator", epochs=20, lr=5e-3, warmup_epochs=0, **changes)


def test_key_frames_are_all_it_is_shown():
    clips = torch.arange(8.0).view(1, 1, 8, 1, 1)
    assert duplicated(clips, 2).flatten().tolist() == [2, 2, 2, 2, 6, 6, 6, 6]
    assert duplicated(clips, 1).flatten().tolist() == [4] * 8
    torch.testing.assert_close(linear(clips, 2), clips)
    blend = 16 + (49 - 16) / 7  # frames 0, 4 and 7 are known; position 4 * 2 / 7 among them
    torch.testing.assert_close(linear(clips.square(), 3).flatten()[[0, 4, 7]], torch.tensor([0.0, blend, 49]))


def test_it_learns_what_duplication_loses(tmp_path):
    torch.manual_seed(0)
    data = Brightening()
    info = pretrain_interpolator(data, str(tmp_path), fading(), net_options=SMALL, **QUICK)
    clips = to_clips(data.frames[:, 0])
    for keys, found in info["error"].items():
        by_hand = (duplicated(clips, int(keys)) - clips).square().mean()
        assert found["duplicate"] == pytest.approx(float(by_hand), abs=1e-5)
        assert found["interpolator"] < 0.5 * found["duplicate"]
    assert info["error"]["2"]["linear_ends"] < 1e-3  # brightness is linear
    assert "linear_ends" not in info["error"]["1"]
    spec = replace(SPEC, stored_frames=2, interpolation="parametric", interpolator=str(tmp_path))
    net = interpolator_of(spec)
    again = (net(duplicated(clips, 2)) - clips).square().mean()
    assert info["error"]["2"]["interpolator"] == pytest.approx(float(again), rel=1e-3)
    assert not list(tmp_path.rglob("*.ckpt"))
    stamp = (tmp_path / "interpolator.json").stat().st_mtime_ns
    assert pretrain_interpolator(data, str(tmp_path), fading(), net_options=SMALL, **QUICK) == info
    assert (tmp_path / "interpolator.json").stat().st_mtime_ns == stamp


def test_every_number_of_key_frames_is_drawn():
    module = Recovery(SPEC, fading(), 3, SMALL)
    assert {module.net.keys[i] for i in (0, 1)} == {1, 2}
    with pytest.raises(ValueError, match=r"protocol.standardise .* not for interpolators"):
        pretrain_interpolator(Brightening(), "nowhere", fading(standardise=True), **QUICK)


@pytest.fixture
def stretched(tmp_path):
    """A set of two frames per item, and the network that makes four of them."""
    net, rng = Interpolator(4, 16, **SMALL), torch.Generator().manual_seed(2)
    net.reset_parameters(rng)
    torch.nn.init.normal_(net.head.weight, std=0.1, generator=rng)
    save_interpolator(tmp_path / "net", net, {}, SPEC.stride)
    spec = replace(SPEC, stored_frames=2, interpolation="parametric", interpolator=str(tmp_path / "net"))
    return make_set(tmp_path / "set", spec=spec), net


def test_a_set_carries_its_interpolator_and_says_what_it_takes(stretched, tmp_path):
    folder, net = stretched
    (tmp_path / "net").rename(tmp_path / "gone")
    (tmp_path / "set").rename(tmp_path / "moved")
    held = load(tmp_path / "moved")
    assert held.spec.interpolator == str(tmp_path / "moved")
    assert held.nbytes["interpolator"] == verify(tmp_path / "moved")["bytes"]["interpolator"] == net.nbytes
    data = CondensedData(str(tmp_path / "moved"), Protocol(augment="none", labels="hard", loss="ce"))
    assert data.nbytes["interpolator"] == net.nbytes
    data.begin(0)
    rows = torch.tensor([4, 1])
    stored = to_clips(held.tensors["videos"][rows])
    torch.testing.assert_close(data.compose(rows).clips, net(stored.repeat_interleave(2, 2)))
    assert not torch.allclose(data.compose(rows).clips, stored.repeat_interleave(2, 2))
    weights = tmp_path / "moved/interpolator.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"interpolator\.safetensors has changed"):
        load(tmp_path / "moved")
    assert folder.endswith("set")


def test_teachers_label_what_students_see(stretched, teacher):
    folder, net = stretched
    relabel(folder, teacher, "soft", progress=False)
    held = load(folder)
    stored = to_clips(held.tensors["videos"])
    want = load_teacher(teacher)(net(stored.repeat_interleave(2, 2)))
    torch.testing.assert_close(held.labels.soft.float(), want, rtol=1e-2, atol=1e-2)


def test_students_train_on_it_beside_a_twin_that_has_one_too(stretched):
    folder, net = stretched

    class Short(Videos):
        spec = SPEC

        def sample(self, per_class, seed):
            return super().sample(per_class, seed)[:, :, :, [1, 3]]

    quick = Protocol(epochs=2, augment="none")
    found = evaluate(folder, Short(), ["tiny"], [0], quick, random_twin=True, **QUICK)
    assert [result["bytes"]["interpolator"] for result in found] == [net.nbytes] * 2
    assert found[0]["bytes"]["total"] == K * 2 * 2 * 16 * 16 * 3 + net.nbytes + K * 2
    assert found[0]["classes"] == CLASSES
    again = evaluate(folder, Short(), ["tiny"], [0], quick, random_twin=True, **QUICK)
    assert [result["seconds"] for result in again] == [result["seconds"] for result in found]


def test_frame_networks_are_students_under_the_published_protocol(condensed):
    data = Videos(clips=2)
    protocol = named("s2d", epochs=2, test_passes=2, checks=1)
    found = evaluate(
        condensed, data, ["cnn_gru", "cnn_lstm"], [0], protocol, net_options={"crop": 8}, **QUICK
    )
    assert [result["student"] for result in found] == ["cnn_gru", "cnn_lstm"]
    assert [result["test_videos"] for result in found] == [24, 24]  # two random clips of each of 12 videos
    assert {"test_passes": 2} in data.asked
    assert found[0]["protocol"]["standardise"]
