"""The interpolator against a loop over tokens, its derivatives, and its folder."""

import json

import pytest
import torch
from torch.nn import functional as F

from vdc.nets.interpolator import (
    INFO,
    WEIGHTS,
    Attention,
    Interpolator,
    interpolator_of,
    load_interpolator,
    save_interpolator,
)
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=8, stride=3, stored_frames=2, interpolation="parametric", interpolator="here")
SMALL = {"keys": [1, 2], "dim": 6, "depth": 1, "heads": 2, "patch": 4}


@pytest.fixture
def net():
    net, rng = Interpolator(4, 8, **SMALL), torch.Generator().manual_seed(1)
    net.reset_parameters(rng)
    torch.nn.init.normal_(net.head.weight, generator=rng)
    return net


@pytest.fixture
def folder(net, tmp_path):
    save_interpolator(tmp_path / "net", net, {"seconds": 1}, stride=3)
    return tmp_path / "net"


def test_attention_is_torchs_own():
    ours, x = Attention(6, 2), torch.randn(2, 5, 3, 6)
    q, k, v = (part.unflatten(-1, (2, 3)).transpose(-3, -2) for part in ours.qkv(ours.norm(x)).chunk(3, -1))
    want = F.scaled_dot_product_attention(q, k, v).transpose(-3, -2).flatten(-2)
    torch.testing.assert_close(ours(x), ours.out(want))


def test_tokens_look_along_time_and_then_over_their_frame(net):
    clips = torch.randn(1, 3, 4, 8, 8)
    x = torch.zeros(4, 4, 6)  # frame, patch, D
    for t in range(4):
        for place in range(4):
            top, left = 4 * (place // 2), 4 * (place % 2)
            patch = clips[0, :, t, top : top + 4, left : left + 4].reshape(-1)
            token = net.embed.weight.flatten(1) @ patch + net.embed.bias
            x[t, place] = token + net.when[t, 0] + net.where[place]
    block = net.blocks[0]
    x = torch.stack([x[:, place] + block.time(x[:, place]) for place in range(4)], 1)
    x = torch.stack([x[t] + block.space(x[t]) for t in range(4)])
    x = x + block.mlp(x)
    want = clips.clone()
    for t in range(4):
        for place in range(4):
            top, left = 4 * (place // 2), 4 * (place % 2)
            change = net.head(net.norm(x[t, place])).view(3, 4, 4)
            want[0, :, t, top : top + 4, left : left + 4] += change
    torch.testing.assert_close(net(clips), want)
    assert (net(clips) - clips).abs().max() > 0.1


def test_it_starts_as_duplication():
    net = Interpolator(4, 8, **SMALL)
    net.reset_parameters(torch.Generator())
    clips = torch.randn(2, 3, 4, 8, 8)
    assert torch.equal(net(clips), clips)


def test_it_has_two_derivatives(net):
    net.double()
    clips = torch.randn(1, 3, 4, 8, 8, dtype=torch.float64)
    known = clips[:, :, :1, :2, :1].clone().requires_grad_()

    def through(x):
        whole = clips.clone()
        whole[:, :, :1, :2, :1] = x
        return net(whole)[0, :2, :, 5, 3]

    assert torch.autograd.gradcheck(through, known)
    assert torch.autograd.gradgradcheck(through, known)


def test_a_folder_gives_back_the_same_network_frozen(net, folder):
    spec = ClipSpec(**{**SPEC.__dict__, "interpolator": str(folder)})
    found, clips = interpolator_of(spec), torch.randn(2, 3, 2, 8, 8, requires_grad=True)
    assert not any(p.requires_grad for p in found.parameters())
    assert found.nbytes == sum(p.numel() for p in net.parameters()) * 4
    seen = apply_view(clips, spec, None, found)
    torch.testing.assert_close(seen, net(clips.repeat_interleave(2, 2)))
    seen.sum().backward()
    assert clips.grad.abs().min() > 0
    assert interpolator_of(ClipSpec(frames=4)) is None
    assert json.loads((folder / INFO).read_text())["seconds"] == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"size": 16}, "trained on 4 frames of 8 px, stride 3; these clips have 4 of 16 px"),
     ({"frames": 8}, "these clips have 8 of 8 px"), ({"stride": 2}, "stride 2: train one for them"),
     ({"stored_frames": 3}, "trained for 1, 2 key frames, an item has 3")],
)  # fmt: skip
def test_one_for_other_clips_is_refused(folder, changes, words):
    with pytest.raises(ValueError, match=words):
        load_interpolator(folder, ClipSpec(**SPEC.__dict__ | changes))


def test_missing_and_changed_files_are_said(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="vdc pretrain --net interpolator"):
        load_interpolator(tmp_path / "nowhere", SPEC)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes() + b" ")
    with pytest.raises(ValueError, match="changed since it was written"):
        load_interpolator(folder, SPEC)
    (folder / INFO).write_text("{}")
    with pytest.raises(ValueError, match=r"interpolator.json: format: field required"):
        load_interpolator(folder, SPEC)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"patch": 3}, "patch 3 does not divide spec.size 8"), ({"keys": [4]}, r"keys \[4\] must be in 1..3"),
     ({"keys": [0, 2]}, "must be in 1..3"), ({"heads": 4}, "heads 4 do not divide dim 6")],
)  # fmt: skip
def test_impossible_options_are_named(options, words):
    with pytest.raises(ValueError, match=words):
        Interpolator(4, 8, **SMALL | options)
