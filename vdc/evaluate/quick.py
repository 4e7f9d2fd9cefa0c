"""Evaluations that fit the machine: as many epochs as a few minutes hold."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from vdc.nets import build
from vdc.nets.transformers import resolved
from vdc.spec import ClipSpec
from vdc.train.protocol import Protocol

SECONDS = 180.0  # of training, for all students and seeds
EPOCHS = (10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000)  # few, so that repetitions choose alike
BATCH = 10  # clips


def seconds_per_clip(net: nn.Module, spec: ClipSpec) -> float:
    """Measured: seconds that training a network on one clip takes on this machine, as busy as it is."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = net.to(device)
    clips = torch.zeros(BATCH, 3, spec.frames, spec.size, spec.size, device=device)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        loss: torch.Tensor = net(clips).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        loss.item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times) / BATCH


def shortened(
    protocol: Protocol,
    students: Sequence[str],
    net_options: dict[str, Any],
    spec: ClipSpec,
    classes: int,
    clips: int,
    runs: int,
) -> Protocol:
    """A protocol of as many epochs as fit, with one look at the test set, under a name of its own.

    Args:
        protocol: to shorten; one that fits is left as it is.
        students: networks to train.
        net_options: of them.
        spec: of clips.
        classes: K.
        clips: of an epoch, of all sizes together.
        runs: seeds of every student.
    """
    nets = [build(one, classes, spec, **resolved(one, net_options)) for one in students]
    each = runs * clips * sum(seconds_per_clip(net, spec) for net in nets)
    fitting = [epochs for epochs in EPOCHS if epochs * each <= SECONDS]
    epochs = max(fitting, default=EPOCHS[0])
    if epochs >= protocol.epochs:
        return protocol
    return replace(protocol, name=f"{protocol.name}-quick", epochs=epochs, checks=min(protocol.checks, 1))
