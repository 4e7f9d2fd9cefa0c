"""How networks are trained: the protocols of published evaluations, and the schedules they mean."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import yaml

from vdc.system.shipped import find

Loss = Literal["mse_gt", "kl", "ce", "soft_ce", "mse"]
Labelling = Literal["hard", "soft", "views", "live"]


@dataclass(frozen=True)
class Protocol:
    """How a network is trained. The defaults are Video-DC's student, MCG-NJU/Video-DC@d51660d8:val.py.

    Args:
        name: written into results; see `named`.
        optimizer: of the network.
        lr: learning rate; `learnt` is the step size that a set of MTT or DATM was learnt with.
        momentum: of SGD.
        weight_decay: decoupled for AdamW, L2 for the others.
        decay: parameters it applies to: those of more than one dimension, or all.
        epochs: E.
        schedule: learning rate over epochs e: `cosine` 0.5 (1 + cos(pi e / (zeta E))), `step`, `constant`.
        zeta: slow-down of the cosine; at 2 training ends at half the rate, at 1 near 0.
        milestones: of `step`, as shares of E, each multiplying by `gamma`.
        gamma: see `milestones`.
        warmup_epochs: epochs of a linear rise from 0.1, ahead of the schedule.
        loss: `None` is `mse_gt` for soft targets (logit MSE + `ce_weight` x CE) and `ce` for hard labels.
        ce_weight: of the true label in `mse_gt`.
        temperature: of `kl`.
        labels: what a condensed set teaches by: `hard` classes, one `soft` vector per stored clip, stored
            `views`, or a `live` teacher on exactly the augmented batch; `None` is the richest that is stored.
        base_batch: batch size per clip that a class holds: ten classes' worth of clips, whatever the ipc.
        batch_size: fixed batch size instead.
        augment: `crop` (random resized crop, mirror), `dsa` (colour, mirror; shift, scale or turn), none.
        crop_scale: area of the crop over that of the frame.
        flip: probability of a mirrored clip.
        cutmix: probability that a batch is mixed.
        ema: rate of a running average of the weights, which is what is tested; 0 tests the weights.
        clip_grad: largest gradient norm; `None` clips nothing.
        init: PyTorch's default, or Kaiming-normal as mmaction2 starts teachers.
        standardise: every batch, also in tests, by its own mean and deviation (Wang 2024).
        test_passes: test by so many random, perhaps mirrored clips of every video, each scored on its own
            (Wang 2024); 0 tests by the data's own clips, the same in every run.
        checks: looks at the test set late in training, for `reference_best`; each costs a test pass.
    """

    name: str = "videodc"
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float | Literal["learnt"] = 1e-3
    momentum: float = 0.9
    weight_decay: float = 0.01
    decay: Literal["matrices", "all"] = "matrices"
    epochs: int = 300
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    zeta: float = 2.0
    milestones: tuple[float, ...] = (0.5,)
    gamma: float = 0.1
    warmup_epochs: int = 0
    loss: Loss | None = None
    ce_weight: float = 0.1
    temperature: float = 1.0
    labels: Labelling | None = None
    base_batch: int = 10
    batch_size: int | None = None
    augment: Literal["crop", "dsa", "none"] = "crop"
    crop_scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5
    cutmix: float = 0.0
    ema: float = 0.0
    clip_grad: float | None = None
    init: Literal["default", "kaiming"] = "default"
    standardise: bool = False
    test_passes: int = 0
    checks: int = 10

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("lr", "epochs", "zeta", "temperature", "base_batch", "batch_size", "clip_grad"):
            value = getattr(self, name)
            if value not in (None, "learnt") and value <= 0:
                raise ValueError(f"protocol.{name} must be positive, got {value}")
        if self.warmup_epochs < 0:
            raise ValueError(f"protocol.warmup_epochs must be at least 0, got {self.warmup_epochs}")
        if self.test_passes < 0:
            raise ValueError(f"protocol.test_passes must be at least 0, got {self.test_passes}")
        if self.checks < 1:
            raise ValueError(f"protocol.checks must be at least 1, the last epoch; got {self.checks}")
        for name, most in (("cutmix", 1.0), ("flip", 1.0), ("ema", 0.9999999)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"protocol.{name} must be in 0..1, got {getattr(self, name)}")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"protocol.crop_scale must rise within 0..1, got {self.crop_scale}")
        if any(not 0 < share < 1 for share in self.milestones):
            raise ValueError(f"protocol.milestones are shares of the epochs in 0..1, got {self.milestones}")
        if self.labels == "hard" and self.loss not in (None, "ce"):
            raise ValueError(
                f"protocol.loss {self.loss} needs soft targets: set protocol.labels to soft, views or live, "
                "or protocol.loss to ce"
            )
        if self.labels not in (None, "hard") and self.loss == "ce":
            raise ValueError(
                f"protocol.loss ce would ignore {self.labels} labels: set protocol.labels hard, or "
                "protocol.loss soft_ce"
            )

    def with_labels(self, richest: Labelling) -> "Protocol":
        """This protocol with labels and loss decided; `richest` is the best that the condensed set stores."""
        labels = self.labels or ("hard" if self.loss == "ce" else richest)
        return replace(self, labels=labels, loss=self.loss or ("ce" if labels == "hard" else "mse_gt"))

    def with_rate(self, learnt: Mapping[str, Any], where: str) -> "Protocol":
        """This protocol with its learning rate decided.

        Args:
            learnt: numbers learnt beside clips and labels, as the manifest of a condensed set has them.
            where: they come from.

        Raises:
            ValueError: the rate is `learnt`, and there is no learnt step size.
        """
        if self.lr != "learnt":
            return self
        if "step_size" not in learnt:
            raise ValueError(
                f"protocol.lr learnt: {where} has no learnt step size, as sets of MTT and DATM do: give a number"
            )
        return replace(self, lr=float(learnt["step_size"]))

    @property
    def rate(self) -> float:
        """The learning rate, once decided."""
        assert self.lr != "learnt"
        return self.lr


def named(name: str, **changes: Any) -> Protocol:
    """The protocol of `configs/protocols/protocol_<name>.yaml`, with `changes`.

    Raises:
        ValueError: no protocol of that name.
    """
    file = f"protocol_{name}.yaml"
    try:
        held = yaml.safe_load(find(file).read_text(encoding="utf-8"))["protocol"]
    except (FileNotFoundError, KeyError) as error:
        raise ValueError(f"no protocol {name!r}: {error}") from error
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in held.items()}
    return Protocol(**options | changes)


def lr_factor(protocol: Protocol, epoch: int) -> float:
    """Learning rate of an epoch over `protocol.lr`, epochs counted from 0."""
    if epoch < protocol.warmup_epochs:
        return 0.1 + 0.9 * epoch / protocol.warmup_epochs
    if protocol.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * epoch / (protocol.zeta * protocol.epochs)))
    if protocol.schedule == "step":
        passed = sum(epoch >= round(share * protocol.epochs) for share in protocol.milestones)
        return float(protocol.gamma**passed)
    return 1.0


def check_epochs(epochs: int, checks: int = 10) -> list[int]:
    """Epochs after which the published habit looks at the test set: 209, 219, ... of 300, counted from 0."""
    return sorted({max(round(epochs * (2 + i / checks) / 3), 1) - 1 for i in range(1, checks + 1)})
