import pytest
import torch
from torch.nn import functional as F

from vdc.condensed.memory.integrator import ConvIntegrator, EncoderDecoder, build, paired, reset


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def weights(net):
    return sum(p.numel() for p in net.parameters())


def test_the_released_integrator_has_327_weights_and_keeps_the_shape():
    net = build("conv", 4)
    assert weights(net) == 327
    assert net(draw(1, 3, 112, 112), draw(1, 16, 112, 112)).shape == (1, 3, 16, 112, 112)


def test_the_released_integrator_is_its_convolution_written_out():
    net, still, motion = build("conv", 4), draw(2, 3, 4, 5), draw(2, 3, 4, 5, seed=1)
    out = net(still, motion)
    (weight, bias), padded = net.conv.parameters(), F.pad(motion, (1, 1) * 3)
    framed = F.pad(still, (1, 1, 1, 1))
    for n, c, t, y, x in [(0, 0, 0, 0, 0), (1, 2, 1, 2, 3), (0, 1, 2, 3, 4)]:
        value = bias[c]
        for dt in range(3):
            if 0 <= t + dt - 1 < 3:  # beyond the first and last frame the still is 0 too
                value = value + (weight[c, :3, dt] * framed[n, :, y : y + 3, x : x + 3]).sum()
            value = value + (weight[c, 3, dt] * padded[n, t + dt, y : y + 3, x : x + 3]).sum()
        torch.testing.assert_close(out[n, c, t, y, x], value)


def test_a_pair_is_the_still_at_all_times_then_the_motion():
    pair = paired(draw(2, 3, 4, 4), draw(2, 5, 4, 4, seed=1))
    assert pair.shape == (2, 4, 5, 4, 4)
    for t in range(5):
        assert torch.equal(pair[:, :3, t], draw(2, 3, 4, 4))
    assert torch.equal(pair[:, 3], draw(2, 5, 4, 4, seed=1))


@pytest.mark.parametrize("shape", [(8, 48), (3, 13), (1, 1)])
def test_the_encoder_decoder_keeps_any_shape(shape):
    frames, side = shape
    net = build("encoder_decoder", 2)
    assert net(draw(2, 3, side, side), draw(2, frames, side, side)).shape == (2, 3, frames, side, side)


def test_the_encoder_decoder_has_the_weights_of_its_layers():
    down1, down2, up = 4 * 5 * 147 + 5, 5 * 10 * 147 + 10, 10 * 5 * 27 + 5
    assert weights(build("encoder_decoder", 5)) == down1 + down2 + up + (4 + 5) * 3 * 27 + 3


def test_the_encoder_decoder_holds_the_released_integrator():
    deep, plain = EncoderDecoder(3), ConvIntegrator()
    with torch.no_grad():
        deep.last.weight.zero_()
        deep.last.weight[:, :4] = plain.conv.weight
        deep.last.bias.copy_(plain.conv.bias)
    still, motion = draw(2, 3, 9, 9), draw(2, 4, 9, 9)
    torch.testing.assert_close(deep(still, motion), plain(still, motion))


def test_the_encoder_sees_far_and_every_weight_counts():
    net, still = build("encoder_decoder", 4), draw(1, 3, 24, 24)
    reset(net, torch.Generator().manual_seed(1))
    motion = draw(1, 4, 24, 24).requires_grad_()
    net(still, motion)[0, :, 2, 12, 12].sum().backward()
    reach = motion.grad[0].abs().sum(0).nonzero()
    assert (reach.amax(0) - reach.amin(0) + 1 > 7).all()  # one convolution reaches 3 px
    assert all(bool((p.grad != 0).any()) for p in net.parameters())


def test_weights_start_as_those_of_a_convolution_do():
    net, again = build("encoder_decoder", 16), build("encoder_decoder", 16)
    for one in (net, again):
        reset(one, torch.Generator().manual_seed(3))
    for layer, fresh in zip(net.children(), EncoderDecoder(16).children(), strict=True):
        bound = layer.weight[0].numel() ** -0.5
        assert 0.9 * bound < layer.weight.abs().max() < bound
        torch.testing.assert_close(layer.weight.std(), fresh.weight.std(), rtol=0.05, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(("args", "words"), [(("unet", 4), "unet"), (("encoder_decoder", 0), "width")])
def test_what_is_no_integrator_is_refused(args, words):
    with pytest.raises(ValueError, match=words):
        build(*args)
