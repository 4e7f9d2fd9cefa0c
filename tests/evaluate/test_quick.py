"""Epochs that fit the machine."""

import pytest
import torch

from vdc.evaluate import quick
from vdc.evaluate.quick import seconds_per_clip, shortened
from vdc.nets import build
from vdc.spec import ClipSpec
from vdc.train.protocol import Protocol

SPEC = ClipSpec(frames=4, size=48)


@pytest.mark.parametrize(
    ("per_clip", "students", "clips", "runs", "epochs"),
    [
        (0.01, 1, 10, 3, 300),  # 0.3 s an epoch: all that was asked for
        (0.01, 1, 40, 3, 150),  # 1.2 s
        (0.01, 2, 40, 3, 75),  # 2.4 s
        (0.01, 1, 750, 3, 10),  # 22.5 s: the least
    ],
)
def test_epochs_by_hand(monkeypatch, per_clip, students, clips, runs, epochs):
    monkeypatch.setattr(quick, "seconds_per_clip", lambda net, spec: per_clip)
    asked = Protocol(checks=3)
    held = shortened(asked, ["minic3d"] * students, {}, SPEC, 10, clips, runs)
    assert held.epochs == epochs
    assert (held is asked) == (epochs == 300)
    if held is not asked:
        assert (held.name, held.checks) == ("videodc-quick", 1)
    few = Protocol(epochs=5)
    assert shortened(few, ["minic3d"], {}, SPEC, 10, 10**6, 3) is few


def test_the_time_of_a_clip_is_that_of_a_step(monkeypatch):
    net = build("minic3d", 3, SPEC, width=0.25)
    before = [p.clone() for p in net.parameters()]
    assert 0 < seconds_per_clip(net, SPEC) < 10
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
