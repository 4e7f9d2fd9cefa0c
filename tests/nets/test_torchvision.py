"""torchvision's networks at our sizes; the plain ones of torchvision are the oracle."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model
from torchvision.models.video import mc3_18, mvit_v1_b, mvit_v2_s, s3d
from torchvision.models.video.mvit import PositionalEncoding

from vdc.nets import build, names
from vdc.nets.torchvision import PoolUpTo, TorchvisionNet
from vdc.nets.weights import Weights, find_weights, start_from
from vdc.spec import ClipSpec

SMALL = ClipSpec(frames=8, size=48)


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
    spec = ClipSpec(frames=16, size=224) if name[:3] in ("mvi", "s3d") else SMALL
    net = build(name, 5, spec).eval()
    twin = get_model(name, weights=None, num_classes=5).eval()
    twin.load_state_dict(net.net.state_dict())
    x = torch.randn(1, 3, spec.frames, spec.size, spec.size)
    with torch.no_grad():
        assert torch.allclose(net(x), twin(x), atol=1e-5)
        maps = net.maps(x)
    assert maps.ndim == (2 if name.startswith("mvit") else 5)
    assert net.pool(maps).shape == (1, maps.shape[1])


@pytest.mark.parametrize("name", ["mvit_v2_s", "swin3d_t", "s3d"])
def test_small_clips_are_taken(name):
    net = build(name, 3, SMALL).eval()
    with torch.no_grad():
        x = torch.randn(2, 3, 8, 48, 48)
        logits, maps = net(x), net.maps(x)
    assert logits.shape == (2, 3)
    assert logits.isfinite().all()
    assert net.pool(maps).shape == (2, {"mvit_v2_s": 768, "swin3d_t": 768, "s3d": 1024}[name])


def test_s3d_pools_what_there_is():
    twin = s3d(num_classes=3).eval()
    x = torch.randn(1, 3, 8, 48, 48)
    net = TorchvisionNet(3, SMALL, "s3d").eval()
    net.net.load_state_dict(twin.state_dict())
    with torch.no_grad():
        maps = twin.features(x)
        assert torch.allclose(
            net(x), twin.classifier(maps.mean((2, 3, 4), keepdim=True)).flatten(1), atol=1e-5
        )
    maps = torch.randn(1, 2, 3, 8, 9)
    assert torch.equal(PoolUpTo((2, 7, 7))(maps), nn.AvgPool3d((2, 7, 7), 1)(maps))


def test_mvit_v2_interpolates_as_torchvision_does(tmp_path):
    torch.manual_seed(0)
    published = mvit_v2_s(num_classes=3).state_dict()
    twin = mvit_v2_s(num_classes=3).eval()
    twin.load_state_dict(published)
    twin.pos_encoding.temporal_size, twin.pos_encoding.spatial_size = 4, (24, 24)
    save_file(published, tmp_path / "w.safetensors")
    net = build("mvit_v2_s", 3, ClipSpec(frames=8, size=96)).eval()
    start_from(net, find_weights(Weights(str(tmp_path / "w.safetensors")), ["mvit_v2_s"]))
    x = torch.randn(1, 3, 8, 96, 96)
    with torch.no_grad():
        assert torch.allclose(net(x), twin(x), atol=1e-5)


@pytest.mark.slow
def test_mvit_v1_takes_weights_of_other_clips(tmp_path):
    published = mvit_v1_b(num_classes=3).state_dict()
    spatial = torch.linspace(0, 1, 56).view(56, 1, 1) + torch.linspace(2, 4, 56).view(1, 56, 1)  # a plane
    published["pos_encoding.spatial_pos"] = spatial.expand(-1, -1, 96).reshape(56 * 56, 96).contiguous()
    published["pos_encoding.temporal_pos"] = torch.linspace(5, 6, 8).view(8, 1).expand(-1, 96).contiguous()
    save_file(published, tmp_path / "w.safetensors")
    net = build("mvit_v1_b", 3, ClipSpec(frames=7, size=30)).eval()
    start_from(net, find_weights(Weights(str(tmp_path / "w.safetensors")), ["mvit_v1_b"]))
    own = net.net.pos_encoding
    plane = torch.linspace(0, 1, 8).view(8, 1) + torch.linspace(2, 4, 8)
    assert torch.allclose(
        own.spatial_pos[:, 5].view(8, 8), plane, atol=5e-3
    )  # PyTorch's cubic keeps planes nearly
    assert torch.allclose(own.temporal_pos[:, 0], torch.linspace(5, 6, 4), atol=1e-5)
    twin = mvit_v1_b(num_classes=3).eval()
    twin.pos_encoding = PositionalEncoding(96, (8, 8), 4, rel_pos_embed=False)
    twin.load_state_dict(net.net.state_dict())
    x = torch.randn(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert torch.allclose(net(x), twin(x), atol=1e-5)
        assert net(x[:, :, :7, :30, :30]).isfinite().all()
    published["pos_encoding.spatial_pos"] = torch.zeros(7, 96)  # no square
    save_file(published, tmp_path / "w.safetensors")
    found = find_weights(Weights(str(tmp_path / "w.safetensors")), ["mvit_v1_b"])
    with pytest.raises(
        ValueError, match=r"pos_encoding.spatial_pos is of shape \(7, 96\), net mvit_v1_b has \(64, 96\)"
    ):
        start_from(net, found)
