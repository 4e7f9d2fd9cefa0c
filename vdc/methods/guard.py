"""Second-order methods can diverge within a step: stop before a bad gradient reaches the memory."""

from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

LAST_GOOD = "last_good.ckpt"


def gradients(optimizer: Optimizer) -> list[Tensor]:
    """What a step is about to apply."""
    return [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]


def stop_if_not_finite(module: LightningModule, optimizer: Optimizer, what: str) -> None:
    """Refuse a step whose gradients are not finite: averaged over processes, so that all refuse alike.

    The state before the step is saved in the run folder.

    Args:
        module: what is trained.
        optimizer: of the step.
        what: the step was made of, for the message.

    Raises:
        ValueError: a gradient is not finite, with the step and the checkpoint to go on from.
    """
    found = gradients(optimizer)
    if not found or bool(torch.stack([torch.isfinite(g).all() for g in found]).all()):
        return
    trainer, path = module.trainer, Path(module.trainer.default_root_dir) / LAST_GOOD
    trainer.save_checkpoint(path)
    raise ValueError(
        f"loss or gradient is not finite at step {module.global_step} ({what}); the state before it is in "
        f"{path}: lower the learning rates, then go on with --ckpt_path {path}"
    )
