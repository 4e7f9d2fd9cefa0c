import torch
from torchvision.transforms.v2 import functional as tv

from vdc.ops.pixels import to_clips, to_frames, valid_range
from vdc.spec import MEAN, STD


def every_level():
    """All 256 grey levels in every channel, other levels beside them: (2, 4, 8, 8, 3) uint8."""
    return (
        torch.stack([(torch.arange(512) * k + k) % 256 for k in (1, 3, 7)], 1)
        .to(torch.uint8)
        .view(2, 4, 8, 8, 3)
    )


def test_to_clips_equals_torchvision():
    frames = every_level()
    want = [tv.normalize(tv.to_dtype(v.movedim(-1, 1), scale=True), MEAN, STD).movedim(0, 1) for v in frames]
    clips = to_clips(frames)
    assert clips.shape == (2, 3, 4, 8, 8)
    assert clips.dtype == torch.float32
    assert clips.is_contiguous()
    torch.testing.assert_close(clips, torch.stack(want), rtol=0, atol=1e-6)


def test_every_stored_level_survives_the_round_trip():
    frames = every_level()
    back = to_frames(to_clips(frames))
    assert back.dtype == torch.uint8
    assert back.is_contiguous()
    assert torch.equal(back, frames)


def test_to_frames_rounds_to_the_nearest_level_and_clamps():
    levels = torch.tensor([-300.0, -0.6, 0.4, 0.6, 100.4, 100.6, 254.6, 255.4, 999.0])
    clips = torch.stack([(levels / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)]).view(1, 3, 1, 1, -1)
    want = torch.tensor([0, 0, 0, 1, 100, 101, 255, 255, 255], dtype=torch.uint8)
    assert torch.equal(
        to_frames(clips.requires_grad_()), want[None, None, None, :, None].expand(1, 1, 1, 9, 3)
    )


def test_valid_range_is_black_and_white():
    low, high = valid_range(torch.device("cpu"))
    assert low.shape == high.shape == (3, 1, 1, 1)
    ends = torch.tensor([0, 255], dtype=torch.uint8).view(1, 2, 1, 1, 1).expand(1, 2, 1, 1, 3)
    torch.testing.assert_close(to_clips(ends)[0].movedim(1, 0), torch.stack([low, high])[:, :, 0])
    clips = torch.randn(2, 3, 4, 5, 5) * 9
    clamped = torch.minimum(torch.maximum(clips, low), high)
    assert torch.equal(to_frames(clamped), to_frames(clips))
