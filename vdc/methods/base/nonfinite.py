"""Stop before a loss or gradient that is not finite reaches the memory, with the state before it saved."""

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim import Optimizer

LAST_GOOD = "last_good.ckpt"
ELSEWHERE = "in another process"


def stop_if_not_finite(
    module: LightningModule,
    terms: Iterable[Tensor],
    optimizer: Optimizer,
    what: str,
    restore: Callable[[], None],
) -> None:
    """Refuse a step whose loss or gradient is not finite, in all processes if it is in one.

    The state before the step is saved in the run folder. With 16-mixed, gradients may overflow: the loss scaler
    itself leaves such steps out.

    Args:
        module: what is trained.
        terms: of the loss of the step, detached.
        optimizer: of the step.
        what: the step was made of, for the message.
        restore: takes back what the step changed already.

    Raises:
        ValueError: something is not finite, with the step and the checkpoint to go on from.
    """
    trainer = module.trainer
    tensors = [sum(terms, torch.zeros(()))]  # of finite terms, too, may be infinite
    if str(trainer.precision) != "16-mixed":
        tensors += [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    flags = [torch.isfinite(tensor).all().to(module.device) for tensor in tensors]
    bad = not bool(torch.stack(flags).all())
    if not trainer.strategy.reduce_boolean_decision(bad, all=False):
        return
    path = Path(trainer.default_root_dir) / LAST_GOOD
    restore()
    trainer.save_checkpoint(path)
    raise ValueError(
        f"loss or gradient is not finite at step {module.global_step} ({what if bad else ELSEWHERE}); the "
        f"state before it is in {path}: begin anew with lower learning rates, or, if the device was at fault, "
        f"go on with --ckpt_path {path}"
    )
