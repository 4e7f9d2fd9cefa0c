import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from vdc.nets import build, taps
from vdc.nets.resnet3d import Block, mid_width
from vdc.spec import ClipSpec

NAMES = ("i3d", "r2plus1d", "slowonly")


@pytest.fixture(scope="module")
def nets():
    return {name: build(name, 101, ClipSpec()).eval() for name in NAMES}


# Counts, shapes and widths read off mmaction2's networks at 8x112x112 with 101 classes.
@pytest.mark.parametrize(
    ("name", "count"), [("i3d", 20_850_597), ("r2plus1d", 33_279_558), ("slowonly", 31_872_165)]
)
def test_parameters(nets, name, count):
    assert sum(p.numel() for p in nets[name].parameters()) == count


@pytest.mark.parametrize(
    ("name", "stem", "stages"),
    [
        ("i3d", (64, 4, 56, 56), [(64, 2, 28, 28), (128, 1, 14, 14), (256, 1, 7, 7), (512, 1, 4, 4)]),
        ("r2plus1d", (64, 8, 56, 56), [(64, 8, 28, 28), (128, 4, 14, 14), (256, 2, 7, 7), (512, 1, 4, 4)]),
        ("slowonly", (64, 8, 56, 56), [(64, 8, 28, 28), (128, 8, 14, 14), (256, 8, 7, 7), (512, 8, 4, 4)]),
    ],
)
def test_shapes(nets, name, stem, stages):
    net, seen = nets[name], []
    hooks = [
        module.register_forward_hook(lambda _, inputs, output: seen.append(tuple(output.shape[1:])))
        for module in (net.stem, *net.stages)
    ]
    with torch.no_grad():
        maps = net.maps(torch.randn(1, 3, 8, 112, 112))
    for hook in hooks:
        hook.remove()
    assert seen == [stem, *stages]
    assert maps.shape[1:] == stages[-1]
    assert net.pool(maps).shape == (1, 512)


@pytest.mark.parametrize(("name", "layers"), [("i3d", 20), ("r2plus1d", 40), ("slowonly", 20)])
def test_layers(nets, name, layers):
    for kind in ("conv", "norm"):
        with torch.no_grad(), taps(nets[name], (kind,)) as inputs:
            nets[name](torch.randn(1, 3, 8, 16, 16))
        assert len(inputs) == layers


def test_mid_widths(nets):
    mids = [conv.spatial.out_channels for conv in nets["r2plus1d"].modules() if hasattr(conv, "spatial")]
    assert mids == [
        83,
        *[144] * 4,
        *[230, 288, 54, 288, 288],
        *[460, 576, 109, 576, 576],
        *[921, 1152, 219, 1152, 1152],
    ]
    assert mid_width(64, 128, (1, 1, 1)) == 54


def test_epsilons(nets):
    assert {m.eps for m in nets["i3d"].modules() if isinstance(m, nn.BatchNorm3d)} == {1e-5}
    inner = [m.norm.eps for m in nets["r2plus1d"].modules() if hasattr(m, "spatial")]
    outer = [m.norm.eps for m in nets["r2plus1d"].modules() if hasattr(m, "conv")]
    assert (set(inner), len(inner)) == ({1e-5}, 20)
    assert (set(outer), len(outer)) == ({1e-3}, 20)


def test_of_one_frame_is_the_image_network():
    """Zero padding in time leaves kernels' middle slice: of a still, SlowOnly is torchvision's ResNet-18."""
    torch.manual_seed(0)
    net, image = build("slowonly", 7, ClipSpec(frames=1, size=40)).eval(), resnet18(num_classes=7).eval()
    state = {}
    for key, value in net.state_dict().items():
        stage, _, rest = key.removeprefix("stages.").partition(".")
        if key.startswith("stages"):
            block, branch, layer, tail = rest.split(".")
            if branch == "shortcut":
                name = f"downsample.{int(layer == 'norm')}.{tail}"
            else:
                name = f"{'bn' if layer == 'norm' else 'conv'}{branch[-1]}.{tail}"
            key = f"layer{int(stage) + 1}.{block}.{name}"
        key = key.replace("stem.conv", "conv1").replace("stem.norm", "bn1")
        state[key] = value[:, :, value.shape[2] // 2] if value.ndim == 5 else value
    image.load_state_dict(state)
    still = torch.randn(2, 3, 40, 40)
    assert torch.allclose(net(still[:, :, None]), image(still), atol=1e-5)


def test_inflated_blocks(nets):
    spans = {
        name: [block.conv2.conv.kernel_size[0] for block in nets[name].modules() if isinstance(block, Block)]
        for name in ("i3d", "slowonly")
    }
    assert spans == {"i3d": [3, 3, 3, 1, 3, 1, 3, 1], "slowonly": [1, 1, 1, 1, 3, 3, 3, 3]}


def test_other_lengths_and_too_short_ones(nets):
    with torch.no_grad():
        assert nets["i3d"](torch.randn(1, 3, 5, 16, 16)).shape == (1, 101)
        assert nets["r2plus1d"](torch.randn(1, 3, 3, 16, 16)).shape == (1, 101)
    with pytest.raises(ValueError, match=r"i3d needs spec\.frames at least 5, not 4: "):
        build("i3d", 3, ClipSpec(frames=4, size=32))


def test_starts_as_mmcv_builds_it(nets):
    net = nets["slowonly"]
    conv = net.stages[3][1].conv2.conv.weight
    assert conv.std().item() == pytest.approx((2 / (512 * 27)) ** 0.5, rel=0.01)
    assert net.fc.weight.abs().max().item() == pytest.approx(512**-0.5, rel=0.01)  # PyTorch's rule
    assert net.fc.bias.abs().max() > 0
    assert torch.equal(net.stages[3][1].conv2.norm.weight, torch.ones(512))


def test_teacher_start_silences_the_residual_branches():
    net = build("i3d", 7, ClipSpec(frames=5, size=16)).eval()
    net.reset_parameters("kaiming", torch.Generator().manual_seed(0))
    block = net.stages[0][1]
    x = torch.randn(1, 64, 2, 4, 4)
    assert torch.equal(block(x), x.relu())
    assert net.fc.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert net.fc.bias.abs().max() == 0
