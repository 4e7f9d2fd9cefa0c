import json

import pytest
import torch
from torch import nn

from vdc.nets import Teacher, build, channels_last, load_teacher, save_teacher, taps
from vdc.spec import ClipSpec
from vdc.system.files import sha256

SPEC = ClipSpec(frames=8, size=48, stride=2)
CLASSES = ["jump", "run", "walk"]


@pytest.fixture
def net():
    torch.manual_seed(0)
    return build("minic3d", 3, SPEC, norm="bn")


@pytest.fixture
def folder(net, tmp_path):
    save_teacher(tmp_path / "teacher", net, {"classes": CLASSES, "test": {"top1": 61.5}})
    return tmp_path / "teacher"


def clips(n=2):
    return torch.randn(n, 3, 8, 48, 48, generator=torch.Generator().manual_seed(1))


def edit(folder, **changes):
    path = folder / "teacher.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_what_is_saved_is_what_is_loaded(net, folder):
    teacher = load_teacher(folder, CLASSES, SPEC)
    net.eval()
    channels_last(net)
    assert torch.equal(teacher(clips()), net(clips()))
    assert torch.equal(teacher.features(clips()), net.features(clips()))
    assert torch.equal(teacher.embed(clips()), net.embed(clips()))
    assert (teacher.name, teacher.num_classes, teacher.classes, teacher.spec) == ("minic3d", 3, CLASSES, SPEC)
    assert teacher.info["options"] == {"norm": "bn", "head": "avg", "dropout": 0.5, "width": 1.0}
    assert teacher.info["test"] == {"top1": 61.5}
    assert teacher.path == folder
    assert teacher.digest == sha256(folder / "weights.safetensors")
    # 3,642,243 weights, 640 running statistics, float32; 3 int64 counters
    assert teacher.nbytes == 4 * (sum(p.numel() for p in net.parameters()) + 640) + 3 * 8
    assert sorted(path.name for path in folder.iterdir()) == ["teacher.json", "weights.safetensors"]


def test_options_and_layout_survive(tmp_path):
    net = build("minic3d", 3, SPEC, norm="none", head="max").eval()
    channels_last(net)
    save_teacher(tmp_path, net, {"classes": CLASSES})
    assert torch.allclose(load_teacher(tmp_path)(clips()), net(clips()), atol=1e-6)


def test_stays_in_eval_without_weight_gradients(folder):
    teacher = load_teacher(folder)
    outer = nn.ModuleDict({"teacher": teacher}).train()
    assert outer.training
    for thaw in (teacher.train, teacher.requires_grad_, outer.train, lambda: teacher.to(torch.float32)):
        thaw()
        assert not any(module.training for module in teacher.modules())
        assert not any(p.requires_grad for p in teacher.parameters())
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    x = clips().requires_grad_()
    teacher(x).sum().backward()
    assert x.grad.abs().max() > 0
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())


@pytest.mark.parametrize("lost", ["teacher.json", "weights.safetensors"])
def test_missing_names_the_command(folder, lost):
    (folder / lost).unlink()
    with pytest.raises(
        FileNotFoundError, match=rf"no teacher in {folder}: {lost} is missing.*`vdc pretrain --net"
    ):
        load_teacher(folder)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["jump", "run"], "knows 3 classes, the data has 2"),
        (["jump", "walk", "run"], "class 1 is 'run' there, 'walk' in the data"),
    ],
)
def test_other_classes(folder, classes, message):
    with pytest.raises(ValueError, match=message):
        load_teacher(folder, classes)


@pytest.mark.parametrize("spec", [ClipSpec(frames=16, size=48), ClipSpec(frames=8, size=56)])
def test_other_clips(folder, spec):
    with pytest.raises(ValueError, match=rf"8 frames of 48 px, the data has {spec.frames} of {spec.size} px"):
        load_teacher(folder, CLASSES, spec)


def test_other_stride_or_window_is_no_error(folder):
    load_teacher(folder, CLASSES, ClipSpec(frames=8, size=48, stride=8, stored_frames=16, window="slide"))


def test_changed_weights_are_caught(folder):
    path = folder / "weights.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"weights.safetensors changed since it was written: sha256"):
        load_teacher(folder)


def test_damaged_json(folder):
    edit(folder, format=99)
    with pytest.raises(ValueError, match="of format 99, this version reads 1"):
        load_teacher(folder)
    edit(folder, format=1, spec={"frames": 4, "size": 44, "fps": 3})
    with pytest.raises(ValueError, match=r"teacher.json: spec.fps: extra inputs"):
        load_teacher(folder)
    (folder / "teacher.json").write_text("{}")
    with pytest.raises(ValueError, match=r"teacher.json: format: field required"):
        load_teacher(folder)


def test_saving_needs_the_classes_and_keeps_other_files(net, folder):
    (folder / "log.txt").write_text("kept")
    with pytest.raises(ValueError, match="3 classes needs as many names"):
        save_teacher(folder, net, {"classes": ["one"]})
    with pytest.raises(ValueError, match="3 classes needs as many names"):
        save_teacher(folder, net, {})
    before = load_teacher(folder).digest
    with pytest.raises(TypeError):
        save_teacher(folder, build("minic3d", 3, SPEC), {"classes": CLASSES, "bad": object()})
    assert load_teacher(folder).digest == before  # a failed save leaves the old one whole
    save_teacher(folder, build("minic3d", 3, SPEC), {"classes": CLASSES})
    assert load_teacher(folder).digest != before
    assert sorted(p.name for p in folder.iterdir()) == ["log.txt", "teacher.json", "weights.safetensors"]


# -- taps ----------------------------------------------------------------------------------------------------


def test_taps_see_the_inputs_in_forward_order(net):
    net.eval()
    with taps(net) as inputs:
        net(clips())
    assert list(inputs) == ["convs.0", "norms.0", "convs.1", "norms.1", "convs.2", "norms.2"]
    x = clips()
    for i, pool in enumerate([(1, 2, 2), 2, 2]):
        assert torch.allclose(inputs[f"convs.{i}"], x, atol=1e-5)
        x = net.convs[i](x)
        assert torch.allclose(inputs[f"norms.{i}"], x, atol=1e-5)
        x = nn.functional.max_pool3d(net.norms[i](x).relu(), pool)


def test_taps_do_not_copy_and_carry_gradients(net):
    x = clips().requires_grad_()
    with taps(net, ("conv",)) as inputs:
        net(x)
    assert inputs["convs.0"] is x
    (gradient,) = torch.autograd.grad(inputs["convs.2"].square().sum(), x)
    assert gradient.abs().max() > 0


def test_taps_nest_repeat_and_go(net):
    x, y = clips(2), clips(1)
    with taps(net, ("norm",)) as outer:
        net(x)
        with taps(net) as inner:
            net.eval()(y)
        assert len(inner) == 6
        assert list(outer) == ["norms.0", "norms.1", "norms.2"]
        assert [len(t) for t in outer.values()] == [1, 1, 1]  # the latest pass
    net.train()(x)
    assert [len(t) for t in outer.values()] == [1, 1, 1]
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_taps_go_when_the_network_fails(net):
    with pytest.raises(RuntimeError), taps(net):
        net(torch.randn(1, 3, 8, 8, 8))
    assert not any(module._forward_pre_hooks for module in net.modules())


def test_taps_see_instance_norm_of_clips_only():
    for name, spec, options, norms in (
        ("minic3d", SPEC, {"norm": "in"}, 3),
        ("minic3d", SPEC, {"norm": "none"}, 0),
        ("cnn_mean", ClipSpec(frames=2, size=16), {}, 0),  # its norms see frames
    ):
        net = build(name, 3, spec, **options)
        with taps(net, ("norm",)) as inputs:
            net(torch.randn(1, 3, spec.frames, spec.size, spec.size))
        assert len(inputs) == norms


def test_taps_name_layers_alike_in_a_teacher(folder):
    teacher = load_teacher(folder)
    assert isinstance(teacher, Teacher)
    with taps(teacher) as inputs:
        teacher(clips())
    with taps(teacher.net) as same:
        teacher(clips())
    assert list(inputs) == list(same) != []
