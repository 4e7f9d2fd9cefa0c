"""The single-frame probe."""

import torch
from lightning.pytorch import Trainer

from tests.small import K, Videos
from vdc.nets import load_teacher
from vdc.train.testing import middle_frame, probe


def test_middle_frame_is_repeated():
    clips = torch.randn(2, 3, 5, 4, 4)
    still = middle_frame(clips)
    assert still.shape == clips.shape
    assert all(still[:, :, t].equal(clips[:, :, 2]) for t in range(5))


class Motion(torch.nn.Module):
    """Sees nothing but whether frames differ."""

    def forward(self, clips):
        moving = clips.diff(dim=2).abs().sum((1, 2, 3, 4)) > 0
        return torch.stack([~moving, moving, torch.zeros_like(moving)], 1).float()


def test_what_needs_motion_fails_on_stills():
    found = probe(Motion(), Videos(), K, Trainer(logger=False, accelerator="cpu", enable_progress_bar=False))
    assert [sum(row) for row in found["confusion"]] == [4, 4, 4]
    assert found["per_class"] == [0, 100, 0]
    assert found["still_top1"] == 33.3333


def test_teachers_can_be_probed(teacher):
    net, videos = load_teacher(teacher), Videos()
    found = probe(net, videos, K, Trainer(logger=False, accelerator="cpu", enable_progress_bar=False))
    batch = videos.on_after_batch_transfer(videos.raw(list(range(12))), 0)
    right = (net(batch.clips).argmax(1) == batch.labels).float().mean()
    assert abs(found["top1"] - 100 * float(right)) < 1e-3
