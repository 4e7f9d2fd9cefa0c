import json
import math
from dataclasses import replace

import pytest
import torch

from tests.codes import make_code, smooth
from vdc.condensed.code import Cosines, Decoder, Law, band_of, load_code, save_code
from vdc.ops.coding import LIMITS
from vdc.ops.pixels import to_frames, valid_range
from vdc.spec import MEAN, STD, ClipSpec

SPEC = ClipSpec(frames=4, size=8)
SHAPE = (4, 8, 8)


@pytest.fixture(scope="module")
def law():
    return Law.of(smooth(60, SPEC).split(7), SHAPE)


def wave(n, k, at):
    return math.sqrt(1 if k == 0 else 2) * math.cos(math.pi * k * (2 * at + 1) / (2 * n))


def coefficient(clip, c, a, b, d):
    """One cosine coefficient of a normalised clip in grey levels, by its sum."""
    weights = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))[c]
    total = 0.0
    for t in range(4):
        for y in range(8):
            for x in range(8):
                grey = sum(
                    w * 255 * (float(clip[i, t, y, x]) * STD[i] + MEAN[i]) for i, w in enumerate(weights)
                )
                total += grey * wave(4, a, t) * wave(8, b, y) * wave(8, d, x)
    return total / 256


def places(decoder):
    """Colour and frequencies of every coefficient that has bits."""
    t, h, w = decoder.box
    return [(i // (t * h * w), i // (h * w) % t, i // w % h, i % w) for i in decoder.index.tolist()]


@pytest.mark.parametrize("bands", [0, 4])
def test_clips_are_coded_as_a_loop_over_coefficients_codes_them(law, bands):
    decoder, clips = Decoder.of(law, 24, bands, 4), smooth(2, SPEC, 5)
    found, codes = decoder.encode(clips), decoder.pack(decoder.encode(clips))
    assert codes.shape == (2, 24)
    mean, stored = decoder.stored["mean"].float(), []
    for i, place in enumerate(places(decoder)):
        c, a, b, d = place
        centre = float(mean[c, b, d]) if a == 0 and b < 4 and d < 4 else 0.0
        number = (coefficient(clips[1], *place) - centre) / float(decoder.deviation[i])
        assert float(found[1, i]) == pytest.approx(number, abs=1e-3)
        bits = int(decoder.bits[i])
        step = 2 * LIMITS[bits] / 2**bits
        level = min(max(math.floor((float(found[1, i]) + LIMITS[bits]) / step), 0), 2**bits - 1)
        stored.append((level, bits, (level + 0.5) * step - LIMITS[bits]))
    stream = [level >> place & 1 for level, bits, _ in stored for place in range(bits)]
    assert len(stream) == 8 * 24
    assert codes[1].tolist() == [sum(stream[i + j] << j for j in range(8)) for i in range(0, len(stream), 8)]
    torch.testing.assert_close(decoder.unpack(codes)[1], torch.tensor([number for *_, number in stored]))
    torch.testing.assert_close(decoder.decode(found)[1], by_hand(decoder, found[1], mean), atol=1e-4, rtol=0)


def by_hand(decoder, numbers, mean):
    """A clip as the sum of its waves, coefficient by coefficient."""
    size = torch.zeros(3, *SHAPE)
    size[:, 0, :4, :4] = mean
    for number, deviation, place in zip(numbers, decoder.deviation, places(decoder), strict=True):
        size[place] += number * deviation
    ycbcr = torch.zeros(3, *SHAPE)
    for c, a, b, d in (size != 0).nonzero().tolist():
        t, y, x = (torch.tensor([wave(n, k, i) for i in range(n)]) for n, k in ((4, a), (8, b), (8, d)))
        ycbcr[c] += size[c, a, b, d] * t[:, None, None] * y[:, None] * x
    y, cb, cr = ycbcr
    rgb = torch.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]) / 255
    return (rgb - torch.tensor(MEAN).view(3, 1, 1, 1)) / torch.tensor(STD).view(3, 1, 1, 1)


def test_the_law_is_that_of_all_clips_at_once(law):
    found = Cosines(SHAPE)(smooth(60, SPEC))
    torch.testing.assert_close(law.mean, found.mean(0), atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(law.deviation, found.std(0, unbiased=False), atol=1e-2, rtol=1e-3)
    with pytest.raises(ValueError, match="there are none"):
        Law.of([], SHAPE)


def test_all_bits_are_used_and_more_bytes_are_nearer(law):
    clips, errors = smooth(20, SPEC, 3), []
    for size in (4, 16, 64, 200):
        decoder = Decoder.of(law, size)
        assert int(decoder.bits.sum()) == 8 * size
        assert (decoder.bits > 0).all()
        assert decoder.pack(decoder.encode(clips)).shape == (20, size)
        errors.append(float((decoder.decode(decoder.rounded(decoder.encode(clips))) - clips).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.1 * errors[0]


def test_what_a_set_carries_rebuilds_the_decoder(law):
    for bands in (0, 3, 16):
        decoder = Decoder.of(law, 30, bands, 5)
        again = Decoder(SHAPE, 30, bands, **decoder.stored)
        for name, tensor in decoder.named_buffers():
            assert torch.equal(tensor, again.get_buffer(name)), name
        assert torch.equal(decoder.digest, again.digest)
        count = len(band_of(SHAPE, bands).unique())
        assert decoder.stored["mask"].shape == (-(-count // 8),)
        assert decoder.stored["mean"].shape == (3, 5, 5)
    assert not torch.equal(decoder.digest, Decoder.of(law, 31, 16, 5).digest)


def test_parts_that_do_not_fit_are_refused(law):
    held = Decoder.of(law, 30, 4, 5).stored
    with pytest.raises(ValueError, match=r"the code's octaves is \(1,\) torch.uint8, expected \(\d+,\)"):
        Decoder(SHAPE, 30, 4, **held | {"octaves": torch.zeros(1).byte()})
    with pytest.raises(ValueError, match=r"the code's mask .* expected \(96,\)"):
        Decoder(SHAPE, 30, 0, **held)
    with pytest.raises(ValueError, match=r"the code's mean .* expected .* torch.float16"):
        Decoder(SHAPE, 30, 4, **held | {"mean": held["mean"].float()})


def test_the_soft_path_has_the_right_gradient(law):
    decoder = Decoder.of(law, 3, 4, 2).double()
    numbers = torch.randn(2, len(decoder), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder.decode, numbers)
    assert torch.autograd.gradgradcheck(decoder.decode, numbers)
    clips = smooth(1, SPEC).double().requires_grad_()
    assert torch.autograd.gradcheck(decoder.encode, clips)


def test_rounding_is_what_is_stored_and_passes_gradients(law):
    decoder = Decoder.of(law, 24)
    numbers = (2 * torch.randn(3, len(decoder))).requires_grad_()
    rounded = decoder.rounded(numbers)
    assert torch.equal(rounded, decoder.unpack(decoder.pack(numbers.detach())))
    weights = torch.randn(3, len(decoder))
    (rounded * weights).sum().backward()
    torch.testing.assert_close(numbers.grad, weights)


def test_nothing_is_darker_than_black(law):
    decoder = Decoder.of(law, 24)
    shown = decoder.clips(20 * torch.randn(4, len(decoder)))
    low, high = valid_range(torch.device("cpu"))
    assert ((shown >= low) & (shown <= high)).all()
    assert to_frames(shown).float().std() > 50


def test_the_folder_keeps_the_law_and_says_what_changed(tmp_path, law):
    save_code(tmp_path, law, {"key": "k"}, SPEC)
    assert torch.equal(load_code(tmp_path, SPEC).deviation, law.deviation)
    for other in (replace(SPEC, stride=3), replace(SPEC, size=16), ClipSpec(frames=8, size=8)):
        with pytest.raises(ValueError, match=r"was fitted to clips of .* fit one to them"):
            load_code(tmp_path, other)
    key_frames = ClipSpec(frames=8, size=8, stored_frames=4, interpolation="linear")
    with pytest.raises(
        ValueError, match="was fitted to clips of"
    ):  # as many frames, spread over a longer time
        load_code(tmp_path, key_frames)
    weights = tmp_path / "code.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"code\.safetensors changed since it was written"):
        load_code(tmp_path, SPEC)
    (tmp_path / "code.json").write_text("{}")
    with pytest.raises(ValueError, match="field required"):
        load_code(tmp_path, SPEC)
    (tmp_path / "code.json").write_text(json.dumps({"format": 9}))
    with pytest.raises(ValueError, match="is of format 9, this version reads 1"):
        load_code(tmp_path, SPEC)
    with pytest.raises(
        FileNotFoundError, match=r"code\.json is missing; fit one with `vdc pretrain --net code"
    ):
        load_code(tmp_path / "nowhere", SPEC)
    assert make_code(tmp_path / "made", SPEC)
