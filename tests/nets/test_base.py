import pytest
import torch
from torch import nn

from vdc.nets import build, channels_last, in_parts
from vdc.spec import ClipSpec

SPECS = {
    "minic3d": ClipSpec(size=48),
    "i3d": ClipSpec(size=16),
    "cnn_gru": ClipSpec(size=16),
    "convnet2d": ClipSpec(frames=1, size=16),
    "mc3_18": ClipSpec(size=16),
}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("scheme", ["default", "kaiming"])
@pytest.mark.parametrize("name", SPECS)
def test_reset_replaces_everything_by_what_the_seed_says(name, scheme):
    net = build(name, 5, SPECS[name])
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(float("nan") if tensor.is_floating_point() else 9)
    net.reset_parameters(scheme, seeded())
    first = {key: value.clone() for key, value in net.state_dict().items()}
    assert all(value.isfinite().all() for value in first.values())
    assert all(value.max() == 0 for key, value in first.items() if key.endswith("num_batches_tracked"))
    net.reset_parameters(scheme, seeded(1))
    assert not all(torch.equal(value, first[key]) for key, value in net.state_dict().items())
    net.reset_parameters(scheme, seeded())
    assert all(torch.equal(value, first[key]) for key, value in net.state_dict().items())


def test_student_start_is_pytorch_s():
    net = build("minic3d", 50, ClipSpec())
    net.reset_parameters("default", seeded())
    for layer in (*net.convs, net.fc):
        bound = layer.weight[0].numel() ** -0.5
        own = type(layer)(
            *([128, 50] if isinstance(layer, nn.Linear) else [*layer.weight.shape[1::-1], (3, 7, 7)])
        )
        for ours, theirs in ((layer.weight, own.weight), (layer.bias, own.bias)):
            assert ours.abs().max() <= bound
            close = 0.25 if ours.ndim == 1 else 0.05
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=close)
            assert ours.std().item() == pytest.approx(bound / 3**0.5, rel=0.25 if ours.ndim == 1 else 0.05)


def test_recurrent_start_is_pytorch_s():
    net = build("cnn_gru", 5, ClipSpec(size=16))
    bound = 64**-0.5
    for parameter in net.rnn.parameters():
        assert 0.9 * bound < parameter.abs().max() <= bound


def test_teacher_start():
    net = build("minic3d", 50, ClipSpec())
    net.reset_parameters("kaiming", seeded())
    assert net.convs[1].weight.std().item() == pytest.approx(
        (2 / (128 * 147)) ** 0.5, rel=0.01
    )  # fan-out, not fan-in
    assert net.fc.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert all(layer.bias.abs().max() == 0 for layer in (*net.convs, net.fc))


def test_unknown_scheme():
    with pytest.raises(ValueError, match="'xavier' is unknown: choose default or kaiming"):
        build("minic3d", 5, ClipSpec()).reset_parameters("xavier", seeded())


def test_build_follows_the_global_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return build("minic3d", 5, ClipSpec()).fc.weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_channels_last_changes_layout_and_nothing_else():
    net, twin = (build("minic3d", 5, ClipSpec(size=48)) for _ in range(2))
    twin.load_state_dict(net.state_dict())
    channels_last(net)
    assert net.convs[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    x = torch.randn(2, 3, 8, 48, 48)
    assert torch.allclose(net.eval()(x), twin.eval()(x), atol=1e-5)
    net.reset_parameters("default", seeded())
    twin.reset_parameters("default", seeded())
    assert net.convs[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert torch.equal(net.convs[1].weight, twin.convs[1].weight)


def test_channels_last_leaves_instance_norm_in_bf16_alone():
    net = build("minic3d", 5, ClipSpec(size=48), norm="in")
    channels_last(net, "bf16-mixed")
    assert net.convs[1].weight.is_contiguous()
    channels_last(net, "32-true")
    assert net.convs[1].weight.is_contiguous(memory_format=torch.channels_last_3d)


def test_parts_give_what_the_whole_gives_and_are_small():
    net, sizes = build("minic3d", 5, ClipSpec(size=48)).eval(), []
    clips = torch.randn(37, 3, 8, 48, 48)

    def forward(some):
        sizes.append(len(some))
        return net(some)

    with torch.no_grad():
        torch.testing.assert_close(in_parts(forward, clips), net(clips), atol=1e-5, rtol=1e-5)
    assert sizes == [16, 16, 5]
    in_parts(forward, clips[:20])  # a graph is wanted
    assert sizes[3:] == [20]
