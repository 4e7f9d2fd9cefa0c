"""Separable methods: classes are learnt in blocks, one after another, and processes own different blocks.

Float pixels and optimiser state exist for one block at a time; a finished block is kept as it will be stored.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vdc.condensed.memory import Memory, Pixels
from vdc.methods.base.condenser import MemoryCallable
from vdc.methods.base.learner import Learner
from vdc.methods.base.memory_estimate import check
from vdc.methods.base.options import at_least_one
from vdc.methods.base.shard import ShardStrategy, State, class_blocks, gather, join, owned
from vdc.ops.rng import derive, generator
from vdc.spec import Batch, ClipSpec


class BlockCondenser(Learner):
    """A separable learner without real batches: `iterations` steps for one block of classes, then the next.

    `self.memory` holds the current block only; its class 0 is class `self.classes[0]` of the data. What a
    step draws depends on (seed, block, step in the block), so the items do not depend on how many processes
    there are.

    Args:
        ipc: items per class.
        memory: what is stored and learnt.
        iterations: steps per block; every block gets a fresh optimiser.
        block: items per block at most, a class is never split; `None` takes all classes at once.
        options: see `Learner`.
    """

    separable: ClassVar[bool] = True
    batches: ClassVar = "none"

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        iterations: int = 1000,
        block: int | None = 100,
        **options: Any,
    ) -> None:
        block = num_classes * ipc if block is None else block
        at_least_one(iterations=iterations, block=block)
        blocks = class_blocks(num_classes, ipc, block)

        def planned(_: int, ipc: int, spec: ClipSpec) -> Memory:
            with torch.device("meta"):
                return memory(len(blocks[0]), ipc, spec)

        super().__init__(num_classes, spec, ipc=ipc, memory=planned, **options)
        self.iterations = iterations
        self.blocks = blocks
        self.new_memory = memory
        if self.memory.shared and len(blocks) > 1:
            raise ValueError(
                f"all classes share a part of memory {type(self.memory).__name__}, which {len(blocks)} blocks "
                f"would learn apart: set model.init_args.block to at least {num_classes * ipc}"
            )
        self.block_clips = len(self.memory)
        self.block_bytes = sum(p.numel() * p.element_size() for p in self.memory.parameters())
        del self.memory  # made in `setup`, once it is known to fit
        self.block = 0  # the current one
        self.done = 0  # blocks that this process has learnt
        self.mine = range(len(blocks))  # those that it owns
        self.finished: dict[int, State] = {}
        self._before: State = {}  # `block_state` before the current step

    # -- what a method writes -----------------------------------------------------------------------------

    @abstractmethod
    def begin_block(self) -> None:
        """Forget what was learnt about the last block; called before the first step of every block."""

    def block_state(self) -> State:
        """Tensors beside memory and optimiser that the rest of the block depends on."""
        return {}

    def load_block_state(self, state: State) -> None:
        """Take up `block_state` again, after `begin_block`."""

    def demand(self, clips: int) -> dict[str, int]:
        """What else than pixels and their optimiser a step of `clips` clips holds in memory, in bytes."""
        return {}

    # -- what methods use ---------------------------------------------------------------------------------

    @property
    def classes(self) -> range:
        """Classes of the current block."""
        return self.blocks[self.block]

    @property
    def step(self) -> int:
        """Step within the current block."""
        return self.global_step - self.done * self.iterations

    @property
    def idle(self) -> bool:
        """Whether this process has learnt all its blocks and waits for the others."""
        return self.done == len(self.mine)

    def rng(self, *purpose: int | str, per_rank: bool = False) -> torch.Generator:
        """A generator for one purpose of the current step, the same on whichever process the block is."""
        return generator(self.seed, *purpose, self.block, self.step)

    def noise(self, *shape: int) -> Tensor:
        """Normal noise of `shape` for every class of the block, the same in whichever block it is."""
        return torch.stack(
            [torch.randn(shape, generator=generator(self.seed, "init", k)) for k in self.classes]
        )

    def about_step(self) -> str:
        """Its classes, and its number in their block."""
        first, last = self.classes[0], self.classes[-1]
        return f"step {self.step} of classes {first}-{last}"

    def rollback_step(self) -> None:
        """Take up the block's state before the step again."""
        self.begin_block()
        self.load_block_state(self._before)

    # -- blocks -------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Find this process's blocks, and how long all of them take."""
        world = self.trainer.world_size
        if world > 1 and not isinstance(self.trainer.strategy, ShardStrategy):
            raise ValueError(
                f"{world} processes would average unrelated classes: add --trainer.strategy shard"
            )
        if world > len(self.blocks):
            raise ValueError(
                f"{world} processes for {len(self.blocks)} block(s) of {len(self.blocks[0])} classes: "
                "lower model.init_args.block or --trainer.devices"
            )
        self.mine = owned(len(self.blocks), self.trainer.global_rank, world)
        steps, limit = self.iterations * len(owned(len(self.blocks), 0, world)), self.trainer.max_steps
        self.trainer.fit_loop.epoch_loop.max_steps = steps if limit == -1 else min(limit, steps)
        self.trainer.fit_loop.max_epochs = -1  # the steps end it, also after a shorter run went on
        self._check_memory()
        self._open(self.mine[0])

    def _check_memory(self) -> None:
        """Say what a block and the finished items take, and refuse what does not fit."""
        device, host = self.trainer.strategy.root_device, torch.device("cpu")
        two = 2 * self.block_bytes  # pixels and gradient, two moments, window and crop
        block = {"pixels": two, "optimiser": two, "views": two} | self.demand(self.block_clips)
        block |= dict.fromkeys(self.copies, self.block_bytes)
        items = {"finished items": self.block_bytes // 4 * len(self.mine)}
        remedy = (
            f"lower model.init_args.block (a block is {self.block_clips} clips now, never less than one class of "
            f"{self.ipc} items), model.init_args.ipc, or the size of the clips"
        )
        if device.type == "cpu":
            check(block | items, host, remedy, self.trainer.num_devices)
        else:
            check(block, device, remedy)
            check(items, host, remedy, self.trainer.num_devices)

    def _open(self, block: int) -> None:
        """Make the memory of a block, unfilled."""
        self.block = block
        self.memory = self.new_memory(len(self.classes), self.ipc, self.spec).to(self.device)

    def _close(self) -> None:
        """Keep what will be stored of the current block."""
        self.memory.clamp()
        self.finished[self.block] = {name: part.cpu() for name, part in self.memory.state().items()}
        self.done += 1

    def fill(self) -> None:
        """Give the block's memory the clips it starts from."""
        super().fill()
        self.begin_block()

    # -- Lightning ----------------------------------------------------------------------------------------

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Go to the next block where one is due.

        Here and not at the end of a step, because checkpoints are written before the end of a step.
        """
        self.memory.clamp()
        if not self.idle and self.global_step // self.iterations > self.done:
            self._close()
            if not self.idle:
                self._open(self.mine[self.done])
                self.fill()
                self.trainer.strategy.setup_optimizers(self.trainer)
        self.memory.redraw(derive(self.seed, "memory", self.block, self.step))
        self._before = {name: part.clone() for name, part in self.block_state().items()}
        torch.manual_seed(derive(self.seed, "step", self.block, self.step))

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step of the current block, or an empty one while other processes still work."""
        if self.idle:
            return torch.stack([p.sum() for p in self.memory.parameters()]).sum() * 0
        return super().training_step(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        """The block's optimiser, its rate falling to 0 over the block by half a cosine."""
        optimizer = self.optimizer(self.memory.groups())
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / self.iterations, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": factor, "interval": "step"}}

    def _plan(self) -> dict[str, int]:
        """What must not change between a checkpoint and its resumption."""
        sizes = {"classes": self.num_classes, "ipc": self.ipc, "classes per block": len(self.blocks[0])}
        return sizes | {"iterations": self.iterations, "processes": self.trainer.world_size}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the finished blocks and where this process stands."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["blocks"] = {
            "plan": self._plan(),
            "done": self.done,
            "finished": self.finished,
            "state": self.block_state(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the checkpoint's block.

        Raises:
            ValueError: the checkpoint is of another plan.
        """
        saved, plan = checkpoint["blocks"], self._plan()
        if saved["plan"] != plan:
            raise ValueError(f"--ckpt_path was written by a run of {saved['plan']}; this one is of {plan}")
        self.done = saved["done"]
        self.finished = saved["finished"]
        self._open(self.mine[min(self.done, len(self.mine) - 1)])
        super().on_load_checkpoint(checkpoint)
        self._saved = saved["state"]

    def on_fit_start(self) -> None:
        """Prepare; then begin the first block, or the resumed one where it was."""
        super().on_fit_start()
        if self._resumed:
            self.begin_block()
            self.load_block_state({name: part.to(self.device) for name, part in self._saved.items()})

    def on_fit_end(self) -> None:
        """Put the blocks of all processes together, and write the condensed set."""
        if self.trainer.interrupted:
            return
        if not self.idle:
            self._close()
        if not self.idle:
            rank_zero_warn(f"stopped at step {self.global_step}: later blocks are stored as they start")
        while not self.idle:
            self._open(self.mine[self.done])
            self.fill()
            self._close()
        trainer, count = self.trainer, len(self.blocks)
        states = gather(self.finished, count, trainer.global_rank, trainer.world_size)
        if self.trainer.is_global_zero:
            state = join([states[block] for block in range(count)], self.num_classes * self.ipc)
            options = self.memory.options()
            self.memory = type(self.memory).restore(state, self.num_classes, self.ipc, self.spec, **options)
        super().on_fit_end()
