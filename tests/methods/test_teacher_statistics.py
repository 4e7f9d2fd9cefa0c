import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tests.methods.tiny import CLASSES, SPEC, K, make_teacher, toy
from vdc.methods import teacher_statistics
from vdc.methods.teacher_statistics import Watch, measure, observe
from vdc.nets import build, load_teacher
from vdc.ops.stats import patch_moments

BOTH = Watch()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(toy_root):
    return toy(toy_root)


@pytest.fixture
def teacher(tmp_path):
    return load_teacher(make_teacher(tmp_path / "teacher"))


def inputs_of(teacher, clips):
    """Inputs of every convolution and norm, by hand."""
    net, x = teacher.net, clips
    first = net.conv1(x)
    second = torch.relu(net.norm1(first))
    third = net.conv2(second)
    return {"conv1": x, "norm1": first, "conv2": second, "norm2": third}


def all_clips(data):
    keys = [(row, 0) for row in range(len(data.labels))]
    return torch.cat([data.to_batch(raw).clips for raw in data.by_key(keys, seed=0)])


def test_observe_measures_each_clip_apart(teacher):
    clips = torch.randn(3, 3, 4, 16, 16)
    logits, stats = observe(teacher, clips, Watch(patch=True))
    torch.testing.assert_close(logits, teacher(clips))
    assert list(stats) == ["conv1", "conv1 patch", "norm1", "conv2", "conv2 patch", "norm2"]
    for name, x in inputs_of(teacher, clips).items():
        for n in range(3):
            for channel in range(x.shape[1]):
                one = x[n, channel]
                assert abs(stats[name].mean[n, channel] - one.mean()) < 1e-5
                assert abs(stats[name].var[n, channel] - ((one - one.mean()) ** 2).mean()) < 1e-5
    torch.testing.assert_close(stats["conv1 patch"], patch_moments(clips))


def test_pass_is_the_direct_two_pass_computation(teacher, data):
    (found,) = measure([teacher], data, BOTH, class_wise=True)
    assert found.sizes == {"conv1": 3, "norm1": 4, "conv2": 4, "norm2": 6}
    names = list(found.sizes)
    with torch.no_grad():
        seen = inputs_of(teacher, all_clips(data))
    for variance in ("within", "pooled"):
        mean, var = found.classes(variance)
        assert mean.shape == (K, 17)
        for k in range(K):
            rows = data.labels == k
            for i, name in enumerate(names):
                part = slice(sum(list(found.sizes.values())[:i]), sum(list(found.sizes.values())[: i + 1]))
                x = seen[name][rows].double()  # (n, C, T, H, W)
                pixels = x.transpose(0, 1).flatten(1)
                within = torch.stack([x[n].flatten(1).var(1, correction=0) for n in range(len(x))]).mean(0)
                expected = within if variance == "within" else pixels.var(1, correction=0)
                torch.testing.assert_close(mean[k, part], pixels.mean(1), atol=1e-6, rtol=1e-5)
                torch.testing.assert_close(var[k, part], expected, atol=1e-6, rtol=1e-5)
    # of the whole set: norms have their running statistics, convolutions what the pass saw
    whole = seen["conv2"].transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(found.dataset.mean[7:11], whole.mean(1).float(), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        found.dataset.var[7:11], whole.var(1, correction=0).float(), atol=1e-6, rtol=1e-5
    )
    assert found.dataset.mean[3:7].equal(teacher.net.norm1.running_mean)
    assert found.dataset.var[11:].equal(teacher.net.norm2.running_var)


def test_grid_cells_of_the_pass(teacher, data):
    (found,) = measure([teacher], data, Watch(("conv",), patch=True), class_wise=True)
    assert found.sizes == {"conv1": 3, "conv1 patch": 1, "conv2": 4, "conv2 patch": 1}
    with torch.no_grad():
        x = inputs_of(teacher, all_clips(data))["conv1"][data.labels == 2]  # one 16 px cell: all of a frame
    mean, var = found.classes("within")
    assert abs(mean[2, 3] - x.mean()) < 1e-5  # mean where mean belongs, variance where variance does
    assert abs(var[2, 3] - x.flatten(1).var(1, correction=0).mean()) < 1e-5


def test_instance_norms_have_no_running_statistics(tmp_path, data):
    teacher = load_teacher(make_teacher(tmp_path / "in", norm="in"))
    (found,) = measure([teacher], data, Watch(("norm",)), class_wise=False)
    with torch.no_grad():
        x = inputs_of(teacher, all_clips(data))["norm1"].transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.dataset.mean[:4], x.mean(1), atol=1e-6, rtol=1e-5)


def test_running_statistics_need_no_pass(teacher, data, monkeypatch):
    monkeypatch.setattr(data, "by_key", None)
    (found,) = measure([teacher], data, Watch(("norm",)), class_wise=False)
    assert found.dataset.mean.equal(
        torch.cat([teacher.net.norm1.running_mean, teacher.net.norm2.running_mean])
    )
    assert found.moments is None
    with pytest.raises(ValueError, match="not measured"):
        found.classes("within")


def test_cache_serves_only_what_is_the_same(teacher, data, toy_root, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(teacher_statistics, "rank_zero_info", said.append)
    (first,) = measure([teacher], data, BOTH, True)
    (path,) = (teacher.path / "statistics").glob("tiny-*.safetensors")
    again = toy(toy_root)
    again.seed = 3  # a run of another seed shares the pass
    monkeypatch.setattr(again, "by_key", None)
    (second,) = measure([teacher], again, BOTH, True)
    assert second.moments.sums.equal(first.moments.sums)
    assert not said

    measure([teacher], toy(toy_root, augment=False), BOTH, True)
    assert said.pop() == f"statistics in {path} do not serve (other augmentation): measuring anew"
    measure([teacher], toy(toy_root, load_size=(18, 18)), BOTH, True)
    assert "(other pixels)" in said[0] + said[1]
    assert len(list(path.parent.iterdir())) == 3
    said.clear()

    other = toy(tmp_path / "others", train_videos=3)
    measure([teacher], other, BOTH, True, cache=str(tmp_path / "elsewhere"))
    assert not said  # nothing there to explain
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1
    measure([teacher], other, BOTH, True)
    assert any("other training videos)" in line for line in said)

    path.write_bytes(path.read_bytes()[:200])
    said.clear()
    (third,) = measure([teacher], data, BOTH, True)
    assert any(f"{path} do not serve (it is damaged)" in line for line in said)
    assert third.moments.sums.equal(first.moments.sums)


def test_another_teacher_is_measured_anew(teacher, data, tmp_path):
    both = [teacher, load_teacher(make_teacher(tmp_path / "second", seed=6))]
    folder = str(tmp_path / "cache")
    (alone,) = measure(both[:1], data, BOTH, True, folder)
    pair = measure(both, data, BOTH, True, folder)
    assert pair[0].moments.sums.equal(alone.moments.sums)
    assert not pair[1].moments.sums.equal(alone.moments.sums)
    assert len(list(Path(folder).iterdir())) == 2


def test_a_teacher_without_3d_layers_is_refused(data, tmp_path):
    from vdc.nets import save_teacher

    spec = SPEC
    net = build("cnn_mean", K, spec)
    save_teacher(tmp_path / "flat", net, {"classes": CLASSES})
    with pytest.raises(ValueError, match="cnn_mean has no 3-D norm or conv layer"):
        measure([load_teacher(tmp_path / "flat")], data, BOTH, True)
    assert not any(isinstance(layer, nn.Conv3d) for layer in net.modules())


CHILD = """
import os, signal, sys
from tests.network import register
from tests.methods.tiny import toy
from vdc.methods import teacher_statistics
from vdc.nets import load_teacher
register()
teacher_statistics.SAVE_EVERY = 2
data, batches = toy(sys.argv[1]), 0
to_batch = data.to_batch
def counted(raw):
    global batches
    batches += 1
    if batches == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return to_batch(raw)
data.to_batch = counted
teacher_statistics.measure([load_teacher(sys.argv[2])], data, teacher_statistics.Watch(), True, sys.argv[3])
"""


def test_a_killed_pass_goes_on_and_ends_the_same(teacher, data, toy_root, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", CHILD, toy_root, str(teacher.path), str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    (partial,) = folder.iterdir()
    assert partial.name.startswith(".partial-")

    asked = []
    by_key = data.by_key
    monkeypatch.setattr(data, "by_key", lambda keys, seed: asked.append(keys) or by_key(keys, seed))
    (resumed,) = measure([teacher], data, BOTH, True, str(folder))
    assert [key[0] for key in asked[0]] == list(range(8, 20))  # two batches of four videos were kept
    (whole,) = measure([teacher], data, BOTH, True, str(tmp_path / "anew"))
    assert resumed.moments.sums.equal(whole.moments.sums)
    (path,) = folder.iterdir()  # nothing is left of the partial one
    assert load_file(path)["sums"].equal(whole.moments.sums)


def test_a_pass_under_way_with_other_batches_is_not_taken_up(teacher, toy_root, tmp_path, monkeypatch):
    monkeypatch.setattr(teacher_statistics, "SAVE_EVERY", 1)

    def stopped(every, data):
        calls = []
        to_batch = data.to_batch
        data.to_batch = lambda raw: (calls.append(1), to_batch(raw))[1] if len(calls) < every else 1 / 0
        return data

    folder = str(tmp_path / "cache")
    with pytest.raises(ZeroDivisionError):
        measure([teacher], stopped(2, toy(toy_root)), BOTH, True, folder)
    asked = []
    other = toy(toy_root, batch_size=5)
    by_key = other.by_key
    monkeypatch.setattr(other, "by_key", lambda keys, seed: asked.append(keys) or by_key(keys, seed))
    measure([teacher], other, BOTH, True, folder)
    assert len(asked[0]) == 20
