"""Work that processes do not share: blocks of classes, who owns which, a strategy that averages nothing."""

import atexit
import math
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry
from torch import Tensor

from vdc.condensed.memory.base import SHARED

State = dict[str, Tensor]


def class_blocks(num_classes: int, ipc: int, items: int) -> list[range]:
    """Classes in consecutive blocks of at most `items` items each, and of at least one class."""
    size = max(1, items // ipc)
    return [range(first, min(first + size, num_classes)) for first in range(0, num_classes, size)]


def owned(blocks: int, rank: int, world: int) -> range:
    """The consecutive blocks that process `rank` of `world` learns; the first processes take the odd ones."""
    return range(math.ceil(rank * blocks / world), math.ceil((rank + 1) * blocks / world))


def join(states: list[State], items: int) -> State:
    """The state of all blocks, class-major, from the states of each; `items` is K * ipc.

    Raises:
        ValueError: the blocks learnt a tensor that the memory shares between classes apart.
    """
    if len(states) == 1:
        return states[0]
    shared = {name: tensor for name, tensor in states[0].items() if name.startswith(SHARED)}
    apart = sorted(n for n, t in shared.items() if any(not torch.equal(t, state[n]) for state in states[1:]))
    if apart:
        raise ValueError(
            f"all classes share this memory's {', '.join(apart)}, which {len(states)} blocks learnt apart: set "
            f"model.init_args.block to at least {items}"
        )
    return shared | {
        name: torch.cat([state[name] for state in states]) for name in states[0] if name not in shared
    }


def gather(finished: dict[int, State], blocks: int, rank: int, world: int) -> dict[int, State]:
    """Finished blocks of all processes on process 0; one block of each at a time, so that little is copied.

    Args:
        finished: block -> state, of the blocks this process owns.
        blocks: of all processes.
        rank: which process this is.
        world: how many there are.
    """
    if world == 1:
        return finished
    mine, every = owned(blocks, rank, world), dict(finished)
    for turn in range(len(owned(blocks, 0, world))):
        own = (mine[turn], finished[mine[turn]]) if turn < len(mine) else None
        parts: list[Any] = [None] * world
        dist.gather_object(own, parts if rank == 0 else None)
        every.update(part for part in parts if part is not None)
    return every


def disconnect() -> None:
    """Leave the other processes, if any."""
    if dist.is_initialized():
        dist.destroy_process_group()


class ShardStrategy(DDPStrategy):
    """Processes that share nothing while they learn: no gradient is averaged, each writes its own checkpoint.

    `--trainer.strategy shard`. The share of process r > 0 lies in a folder `rank<r>` beside the named file.
    """

    def setup_environment(self) -> None:
        """Connect the processes, until they end: a thread of gloo that frees what was gathered later aborts."""
        super().setup_environment()
        atexit.register(disconnect)

    def configure_ddp(self) -> None:
        """Leave the module unwrapped: parameters and gradients stay those of the process."""

    def _own(self, path: str | Path) -> Path:
        """Where this process keeps its share of the checkpoint `path`."""
        path = Path(path)
        return path.parent / f"rank{self.global_rank}" / path.name if self.global_rank else path

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        """Write this process's share."""
        self.checkpoint_io.save_checkpoint(checkpoint, self._own(filepath), storage_options=storage_options)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Read this process's share.

        Raises:
            ValueError: shares are missing, or of different steps.
        """
        own = self._own(checkpoint_path)
        checkpoint = super().load_checkpoint(own, weights_only=weights_only) if own.exists() else {}
        steps: list[int | None] = [None] * self.world_size
        dist.all_gather_object(steps, checkpoint.get("global_step"))
        if None in steps or len(set(steps)) > 1:
            raise ValueError(
                f"--ckpt_path {checkpoint_path}: the shares of the {self.world_size} processes are at steps "
                f"{steps} (None: not there): take a checkpoint that as many processes wrote to the end"
            )
        return checkpoint

    def remove_checkpoint(self, filepath: Any) -> None:
        """Remove this process's share."""
        self.checkpoint_io.remove_checkpoint(self._own(filepath))


StrategyRegistry.register("shard", ShardStrategy, description="separable methods", override=True)
