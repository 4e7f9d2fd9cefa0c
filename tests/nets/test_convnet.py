import pytest
import torch
from torch import nn
from torch.func import functional_call

from vdc.nets import build
from vdc.nets.convnet import FrameNet
from vdc.spec import ClipSpec


# Counts of yuz1wan/video_distillation@5871dc5 with 50 classes.
@pytest.mark.parametrize(
    ("name", "spec", "count"),
    [
        ("cnn_mean", ClipSpec(size=64), 709_170),
        ("cnn_gru", ClipSpec(size=64), 28_668_466),
        ("convnet2d", ClipSpec(frames=1, size=112), 761_010),
        ("convnet2d", ClipSpec(frames=1, size=64), 549_810),
    ],
)
def test_parameters(name, spec, count):
    assert sum(p.numel() for p in build(name, 50, spec).parameters()) == count


def test_still_features():
    net = build("convnet2d", 50, ClipSpec(frames=1)).eval()
    x = torch.randn(2, 3, 1, 112, 112)
    assert net.embed(x).shape == net.features(x).shape == (2, 6272)
    assert torch.allclose(net(x), net.fc(net.blocks(x[:, :, 0]).flatten(1)))
    with pytest.raises(ValueError, match=r"convnet2d sees stills: spec\.frames must be 1, got 8"):
        build("convnet2d", 50, ClipSpec())


def frame_by_frame(net, x):
    """(N, T, F): every frame alone through convolution, norm of each channel, ReLU, averaging."""
    frames = []
    for t in range(x.shape[2]):
        y = x[:, :, t]
        for i in range(0, 12, 4):
            y = net.blocks[i](y)
            scale, shift = net.blocks[i + 1].weight, net.blocks[i + 1].bias
            y = (y - y.mean((2, 3), keepdim=True)) / (y.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
            y = (y * scale[:, None, None] + shift[:, None, None]).clamp(min=0)
            y = y.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
        frames.append(y.flatten(1))
    return torch.stack(frames, 1)


def test_mean_of_frames():
    net = build("cnn_mean", 5, ClipSpec(frames=3, size=16)).eval()
    x = torch.randn(2, 3, 3, 16, 16)
    frames = frame_by_frame(net, x)
    assert torch.allclose(net.embed(x), frames.flatten(1), atol=1e-5)
    assert torch.allclose(net(x), net.fc(frames.mean(1)), atol=1e-5)


@pytest.mark.parametrize(("name", "hidden"), [("cnn_gru", 64), ("cnn_lstm", 512)])
def test_mean_of_recurrent_outputs(name, hidden):
    net = build(name, 5, ClipSpec(frames=3, size=16)).eval()
    x = torch.randn(2, 3, 3, 16, 16)
    cell = (nn.GRUCell if name == "cnn_gru" else nn.LSTMCell)(512, hidden)
    cell.load_state_dict({key.removesuffix("_l0"): value for key, value in net.rnn.state_dict().items()})
    state, outputs = None, []
    for frame in frame_by_frame(net, x).unbind(1):
        state = cell(frame, state)
        outputs.append(state if name == "cnn_gru" else state[0])
    mean = torch.stack(outputs).mean(0)
    assert torch.allclose(net.features(x), mean, atol=1e-5)
    assert torch.allclose(net(x), net.fc(mean), atol=1e-5)
    assert net(torch.randn(1, 3, 7, 16, 16)).shape == (1, 5)  # any length


@pytest.mark.parametrize("name", ["cnn_gru", "cnn_lstm"])
def test_second_order_with_weights_passed_in(name):
    """The pixel gradient of a weight gradient's size, against a central difference along one direction."""
    torch.manual_seed(0)
    net = build(name, 3, ClipSpec(frames=2, size=8)).double()
    theta = {k: p.detach().mul(1.5).requires_grad_() for k, p in net.named_parameters()}
    x, direction = torch.randn(2, 2, 3, 2, 8, 8, dtype=torch.float64).unbind()

    def outer(pixels):
        loss = functional_call(net, theta, (pixels,)).square().sum()
        return sum(
            g.square().sum() for g in torch.autograd.grad(loss, list(theta.values()), create_graph=True)
        )

    pixels = x.clone().requires_grad_()
    slope = (torch.autograd.grad(outer(pixels), pixels)[0] * direction).sum()
    step = 1e-8  # larger ones cross kinks of ReLU, where the slope jumps
    rise = (outer(x + step * direction) - outer(x - step * direction)) / (2 * step)
    assert slope.abs() > 1e-8
    assert torch.allclose(slope, rise.detach(), rtol=1e-4)
    assert not torch.allclose(net(x), functional_call(net, theta, (x,)))


@pytest.mark.parametrize(
    ("name", "frames", "least"), [("cnn_mean", 8, 8), ("cnn_gru", 8, 8), ("convnet2d", 1, 16)]
)
def test_too_small(name, frames, least):
    assert build(name, 3, ClipSpec(frames=frames, size=least))(
        torch.randn(2, 3, frames, least, least)
    ).shape == (2, 3)
    with pytest.raises(ValueError, match=f"{name} needs spec.size at least {least}, not {least - 1}"):
        build(name, 3, ClipSpec(frames=frames, size=least - 1))


def test_a_centre_crop_inside_the_network():
    net = build("cnn_gru", 50, ClipSpec(frames=16, size=112), crop=64)
    assert sum(p.numel() for p in net.parameters()) == 28_668_466  # as published: 24 px cut from every side
    small = build("cnn_gru", 5, ClipSpec(frames=2, size=20), crop=12).eval()
    plain = build("cnn_gru", 5, ClipSpec(frames=2, size=12)).eval()
    plain.load_state_dict(small.state_dict())
    x = torch.randn(2, 3, 2, 20, 20)
    assert torch.equal(small(x), plain(x[..., 4:16, 4:16]))
    assert torch.equal(small.embed(x), plain.embed(x[..., 4:16, 4:16]))
    assert build("cnn_gru", 5, small.spec, **small.options).crop == 12
    with pytest.raises(ValueError, match=r"crop 24 must be in 1\.\.20, the spec\.size"):
        build("cnn_gru", 5, ClipSpec(frames=2, size=20), crop=24)


def test_lstm_parameters():
    with torch.device("meta"):
        count = sum(p.numel() for p in FrameNet(50, ClipSpec(size=64), "lstm").parameters())
    convolutions = 3 * 9 * 128 + 128 + 2 * (128 * 9 * 128 + 128) + 3 * 2 * 128
    assert count == convolutions + 4 * 8192 * (2 * 8192 + 2) + 8192 * 50 + 50 == 537_645_618


@pytest.mark.parametrize(("name", "frames", "rows"), [("cnn_gru", 4, 64 * 4), ("convnet2d", 1, 64)])
def test_width_scales_the_channels(name, frames, rows):
    net = build(name, 5, ClipSpec(frames=frames, size=16), width=0.5)
    assert [layer.out_channels for layer in net.blocks[::4]] == [64] * (len(net.blocks) // 4)
    if name == "cnn_gru":
        assert (net.rnn.input_size, net.rnn.hidden_size) == (rows, rows // 8)
    assert net(torch.zeros(2, 3, frames, 16, 16)).shape == (2, 5)
    assert build(name, 5, net.spec, **net.options).options["width"] == 0.5


@pytest.mark.parametrize("width", [0, -1, 5])
def test_a_width_that_is_none_is_refused(width):
    with pytest.raises(ValueError, match=r"width must be in \(0, 4\]"):
        build("cnn_gru", 5, ClipSpec(size=16), width=width)
