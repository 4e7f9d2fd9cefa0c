import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.video import mc3_18

from vdc.nets import build, names
from vdc.spec import ClipSpec

SMALL = ClipSpec(frames=8, size=48)


def test_names():
    assert names()[:4] == ["minic3d", "i3d", "r2plus1d", "slowonly"]
    assert {"cnn_mean", "cnn_gru", "cnn_lstm", "r3d_18", "s3d", "swin3d_t"} <= set(names())


@pytest.mark.parametrize(
    ("wrong", "right"), [("minic3", "minic3d"), ("r2plus1d18", "r2plus1d_18"), ("I3D", "i3d")]
)
def test_wrong_name_names_the_nearest(wrong, right):
    with pytest.raises(ValueError, match=f"net '{wrong}' is unknown: did you mean .*{right}"):
        build(wrong, 3, ClipSpec())


def test_wrong_option_and_class_count():
    with pytest.raises(ValueError, match="net i3d has no option 'norm': it has none"):
        build("i3d", 3, ClipSpec(), norm="in")
    with pytest.raises(ValueError, match="net cnn_gru has no option 'head'"):  # the name says it
        build("cnn_gru", 3, ClipSpec(), head="lstm")
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build("minic3d", 0, ClipSpec())


@pytest.mark.parametrize("options", [{"width": "x"}, {"width": [1]}, {"norm": []}, {"dropout": {}}])
def test_options_of_another_kind_are_named(options):
    with pytest.raises(ValueError, match=r"^net minic3d cannot be built with \{'(width|norm|dropout)': .*: "):
        build("minic3d", 3, ClipSpec(), **options)


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("minic3d", ClipSpec(frames=8, size=42), "minic3d needs spec.size at least 43, not 42: "),
        ("minic3d", ClipSpec(frames=3, size=112), "minic3d needs spec.frames at least 4, not 3: "),
        (
            "minic3d",
            ClipSpec(frames=2, size=8),
            "spec.frames at least 4, not 2 and spec.size at least 43, not 8: ",
        ),
        ("mvit_v2_s", SMALL, "position tables for 16 frames of 224 px only, got 8 frames of 48 px"),
    ],
)
def test_clips_a_net_cannot_take(name, spec, reason):
    with pytest.raises(ValueError, match=reason):
        build(name, 3, spec)


def test_least_clip_is_taken_and_the_next_smaller_is_not():
    net = build("minic3d", 3, ClipSpec(frames=4, size=43)).eval()
    assert net(torch.randn(1, 3, 4, 43, 43)).shape == (1, 3)
    for frames, size in ((4, 42), (3, 43)):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            net(torch.randn(1, 3, frames, size, size))


def test_torchvision_network_is_torchvision_s():
    net = build("mc3_18", 7, SMALL).eval()
    twin = mc3_18(num_classes=7).eval()
    twin.load_state_dict(net.net.state_dict())
    x = torch.randn(2, 3, 8, 48, 48)
    with torch.no_grad():
        assert torch.equal(net(x), twin(x))
        maps = twin.layer4(twin.layer3(twin.layer2(twin.layer1(twin.stem(x)))))
        twin.fc = nn.Identity()
        assert torch.allclose(net.features(x), twin(x), atol=1e-6)
        assert torch.equal(net.embed(x), maps.flatten(1))
    assert not net.net.avgpool._forward_pre_hooks


def test_torchvision_start():
    net = build("mc3_18", 7, SMALL)
    net.reset_parameters("kaiming", torch.Generator().manual_seed(3))
    before = torch.get_rng_state()
    net.reset_parameters("default", torch.Generator().manual_seed(3))
    assert torch.equal(torch.get_rng_state(), before)
    assert net.net.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)  # torchvision's rule


@pytest.mark.slow
@pytest.mark.parametrize("name", names()[names().index("mc3_18") :])
def test_every_torchvision_network(name):
    spec = ClipSpec(frames=16, size=224) if name[:4] in ("mvit", "s3d") else SMALL
    net = build(name, 5, spec).eval()
    twin = get_model(name, weights=None, num_classes=5).eval()
    twin.load_state_dict(net.net.state_dict())
    x = torch.randn(1, 3, spec.frames, spec.size, spec.size)
    with torch.no_grad():
        assert torch.allclose(net(x), twin(x), atol=1e-5)
        maps = net.maps(x)
    assert maps.ndim == (2 if name.startswith("mvit") else 5)
    assert net.pool(maps).shape == (1, maps.shape[1])


@pytest.mark.slow
def test_s3d_needs_long_large_clips():
    with pytest.raises(
        ValueError, match=r"s3d needs spec\.frames at least 13, not 8 and spec\.size at least 209, not 48"
    ):
        build("s3d", 5, SMALL)
