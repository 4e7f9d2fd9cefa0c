"""Probes: single frames, frames backwards, frames shuffled."""

import torch
from lightning.pytorch import Trainer

from tests.small import K, Videos
from vdc.nets import load_teacher
from vdc.ops.rng import generator
from vdc.train.testing import backwards, middle_frame, out_of_order, probe


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
    assert found["reversed_top1"] == found["shuffled_top1"] == found["top1"]  # both move


class Rising(torch.nn.Module):
    """Sees nothing but whether the last frame is brighter than the first, or darker."""

    def forward(self, clips):
        change = clips[:, :, -1].mean((1, 2, 3)) - clips[:, :, 0].mean((1, 2, 3))
        return torch.stack([change, -change, 0.001 - change.abs()], 1)


def test_what_needs_the_order_fails_without_it():
    videos = Videos()
    ramp = torch.tensor([10, 60, 120, 200], dtype=torch.uint8)
    for row, label in enumerate(videos.labels):
        shown = (ramp, ramp.flip(0), ramp[[0] * 4])[label]
        videos.frames[row] = shown.view(1, 4, 1, 1, 1)
    found = probe(Rising(), videos, K, Trainer(logger=False, accelerator="cpu", enable_progress_bar=False))
    assert (found["top1"], found["still_top1"], found["reversed_top1"]) == (100, 33.3333, 33.3333)
    orders = [torch.randperm(4, generator=generator(0, "shuffled frames", row)).tolist() for row in range(8)]
    right = 4 + sum(
        order[-1] > order[0] for order in orders
    )  # the class that never changes; those that go on as they do
    assert found["shuffled_top1"] == round(100 * right / 12, 4)


def test_frames_are_reversed_and_shuffled():
    clips = torch.randn(3, 3, 6, 4, 4)
    assert all(backwards(clips)[:, :, t].equal(clips[:, :, 5 - t]) for t in range(6))
    rows = torch.tensor([7, 2, 7])
    mixed = out_of_order(clips, rows)
    orders = []
    for clip, other in zip(clips, mixed, strict=True):
        orders.append([next(t for t in range(6) if clip[:, t].equal(other[:, i])) for i in range(6)])
        assert sorted(orders[-1]) == list(range(6))  # every frame once
    assert orders[0] == orders[2] != orders[1]
    assert torch.equal(out_of_order(clips[1:2], rows[1:2]), mixed[1:2])  # whatever else is in the batch
    assert out_of_order(clips[:, :, :1], rows).equal(clips[:, :, :1])


def test_teachers_can_be_probed(teacher):
    net, videos = load_teacher(teacher), Videos()
    found = probe(net, videos, K, Trainer(logger=False, accelerator="cpu", enable_progress_bar=False))
    batch = videos.on_after_batch_transfer(videos.raw(list(range(12))), 0)
    right = (net(batch.clips).argmax(1) == batch.labels).float().mean()
    assert abs(found["top1"] - 100 * float(right)) < 1e-3
