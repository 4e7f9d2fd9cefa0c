"""Several processes of one run: which of them writes, and waiting for one another."""

import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only


def first_process() -> bool:
    """Whether this process is the one that writes."""
    return int(getattr(rank_zero_only, "rank", 0)) == 0


def wait_for_all() -> None:
    """Until every process is here."""
    if dist.is_initialized():
        dist.barrier()
