import pytest
import torch
from torch import nn
from torch.func import functional_call

from vdc.nets import build, taps
from vdc.spec import ClipSpec


def parameters(net):
    return sum(p.numel() for p in net.parameters())


def clips(n, frames, size, dtype=torch.float32):
    return torch.randn(n, 3, frames, size, size, generator=torch.Generator().manual_seed(0), dtype=dtype)


# Counts read off the reference networks at 8x112x112; at 16x112x112 and 8x64x64 for the variant without norm.
@pytest.mark.parametrize(
    ("num_classes", "spec", "options", "count"),
    [
        (101, ClipSpec(), {}, 3_654_885),
        (51, ClipSpec(), {}, 3_648_435),
        (400, ClipSpec(), {}, 3_693_456),
        (101, ClipSpec(), {"norm": "in"}, 3_654_885),
        (50, ClipSpec(frames=16), {"norm": "none", "head": "max"}, 3_647_666),
        (400, ClipSpec(size=64), {"norm": "none", "head": "max"}, 3_692_816),
    ],
)
def test_parameters(num_classes, spec, options, count):
    assert parameters(build("minic3d", num_classes, spec, **options)) == count


@pytest.mark.parametrize(
    ("frames", "size", "maps"),
    [
        (8, 112, [(64, 8, 28, 28), (128, 4, 7, 7), (128, 2, 2, 2)]),
        (8, 56, [(64, 8, 14, 14), (128, 4, 3, 3), (128, 2, 1, 1)]),
        (16, 112, [(64, 16, 28, 28), (128, 8, 7, 7), (128, 4, 2, 2)]),
        (4, 43, [(64, 4, 11, 11), (128, 2, 3, 3), (128, 1, 1, 1)]),
    ],
)
def test_shapes(frames, size, maps):
    net = build("minic3d", 3, ClipSpec(frames=frames, size=size)).eval()
    x = clips(1, frames, size)
    with taps(net, ("conv",)) as inputs:
        assert net(x).shape == (1, 3)
    assert [tuple(t.shape[1:]) for t in inputs.values()] == [(3, frames, size, size), *maps[:2]]
    assert net.maps(x).shape[1:] == maps[2]
    assert net.features(x).shape == (1, 128)
    assert net.embed(x).shape == (1, torch.Size(maps[2]).numel())


def test_embedding_of_the_static_variant():
    sizes = [(16, 112, 2048), (8, 64, 256)]
    for frames, size, width in sizes:
        net = build("minic3d", 5, ClipSpec(frames=frames, size=size), norm="none", head="max")
        assert net.embed(clips(1, frames, size)).shape == (1, width)


def published(net):
    """The published order of layers, convolution, norm, ReLU, max-pool, around the same weights."""
    layers = []
    for conv, norm, pool in zip(net.convs, net.norms, [(1, 2, 2), 2, 2], strict=True):
        layers += [conv, norm, nn.ReLU(), nn.MaxPool3d(pool)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("norm", ["bn", "in", "none"])
def test_average_head_is_the_published_network(norm):
    net = build("minic3d", 5, ClipSpec(size=48), norm=norm).eval()
    x = clips(2, 8, 48).requires_grad_()
    logits = nn.Sequential(published(net), nn.AdaptiveAvgPool3d(1), nn.Flatten(), net.fc)(x)
    assert torch.allclose(net(x), logits, atol=1e-6)
    ours, theirs = (torch.autograd.grad(y.square().sum(), x)[0] for y in (net(x), logits))
    assert theirs.abs().max() > 0
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize(("size", "kernel"), [(112, (2, 2, 2)), (56, (2, 1, 1))])
def test_max_head_is_the_published_network(size, kernel):
    net = build("minic3d", 5, ClipSpec(frames=16, size=size), norm="none", head="max").eval()
    x = clips(1, 16, size)
    over_time = nn.Conv3d(128, 5, 1)
    over_time.weight.data.copy_(net.fc.weight[:, :, None, None, None])
    over_time.bias.data.copy_(net.fc.bias)
    pooled = nn.AvgPool3d(kernel, stride=1)(published(net)(x))
    assert pooled.shape[2:] == (3, 1, 1)
    assert torch.allclose(net(x), over_time(pooled).squeeze(-1).squeeze(-1).amax(2), atol=1e-6)


def test_dropout_only_while_training():
    net = build("minic3d", 5, ClipSpec(size=48), norm="in")
    x = clips(1, 8, 48)
    assert not torch.equal(net(x), net(x))
    assert torch.equal(net.features(x), net.features(x))
    net.eval()
    assert torch.equal(net(x), net(x))


@pytest.mark.parametrize("options", [{"norm": "in"}, {"norm": "none", "head": "max"}, {"norm": "bn"}])
def test_second_order_with_weights_passed_in(options):
    """The pixel gradient of a weight gradient's size, against a central difference along one direction."""
    torch.manual_seed(0)
    net = build("minic3d", 3, ClipSpec(frames=4, size=43), **options).double()
    net.dropout.p = 0.0
    buffers = dict(net.named_buffers())
    theta = {name: p.detach().requires_grad_() for name, p in net.named_parameters()}
    x, direction = clips(4, 4, 43, torch.float64).split(2)

    def outer(pixels):
        logits = functional_call(net, (theta, {k: b.clone() for k, b in buffers.items()}), (pixels,))
        inner = nn.functional.cross_entropy(logits, torch.tensor([0, 2]))
        gradients = torch.autograd.grad(inner, list(theta.values()), create_graph=True)
        return sum((g.square()).sum() for g in gradients)

    pixels = x.clone().requires_grad_()
    slope = (torch.autograd.grad(outer(pixels), pixels)[0] * direction).sum()
    step = 1e-8  # larger ones cross kinks of ReLU and max-pool, where the slope jumps
    rise = (outer(x + step * direction) - outer(x - step * direction)) / (2 * step)
    assert slope.abs() > 1e-8
    assert torch.allclose(slope, rise.detach(), rtol=1e-4)


@pytest.mark.parametrize("options", [{"norm": "layer"}, {"head": "mean"}, {"depth": 64}])
def test_wrong_options_are_refused(options):
    (key, value) = next(iter(options.items()))
    with pytest.raises(
        ValueError,
        match=f"{key}.*{value!r} is unknown|no option '{key}': its options are dropout, head, norm, width",
    ):
        build("minic3d", 3, ClipSpec(), **options)
