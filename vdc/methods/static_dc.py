"""Static-DC: gradient matching on single frames, for still videos and for the stills of a dynamic memory."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vdc.methods.base.options import Network
from vdc.methods.base.shard import State
from vdc.methods.dc import DC, LOOPS
from vdc.spec import Batch, ClipSpec

SINGLE_FRAMES = Network("convnet2d")


class StaticDC(DC):
    """DC on stills: one random frame of each real video, drawn anew whenever the video comes up.

    Wang 2024 (S2D, arXiv 2312.00362), sec. 5: its set teaches as still videos (Static-DC), and is the start of
    a `StaticDynamic` memory's stills (`init`). The network sees single frames; students see each repeated:
    `data.spec.stored_frames` 1 with `interpolation: duplicate`.

    Args:
        ipc: stills per class.
        net: network for single frames to compare in.
        patience: end when the mean loss of so many steps is not below that of as many before; `None` never
            does before `iterations`.
        options: see `DC`.
    """

    def __init__(
        self,
        *args: Any,
        ipc: int = 1,
        outer: int | None = None,
        inner: int | None = None,
        init: str = "real",
        net: Network = SINGLE_FRAMES,
        patience: int | None = None,
        **options: Any,
    ) -> None:
        steps, epochs = LOOPS.get(1 if ipc == 2 else ipc, (outer, inner))
        outer = steps if outer is None else outer
        inner = epochs if inner is None else inner
        super().__init__(*args, ipc=ipc, outer=outer, inner=inner, init=init, net=net, **options)
        if self.spec.stored != 1:
            raise ValueError(
                f"StaticDC learns stills, not {self.spec.stored} frames: set data.spec.stored_frames 1 and "
                "data.spec.interpolation duplicate"
            )
        if patience is not None and (patience < 1 or len(self.blocks) > 1):
            raise ValueError(
                f"model.init_args.patience {patience} must be at least 1, and all classes one block: leave "
                "model.init_args.block out"
            )
        self.patience = patience
        self.losses_seen = torch.zeros(0)  # of the last 2 x patience steps

    @property
    def net_spec(self) -> ClipSpec:
        """A single frame."""
        spec = self.spec
        return replace(ClipSpec(), frames=1, size=spec.size, stride=spec.stride)

    @property
    def longest(self) -> int:
        """A single frame."""
        return 1

    def view(self, clips: Tensor, starts: Tensor | None) -> Tensor:
        """Stills as they are: only students see them repeated."""
        return clips

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step, perhaps the last."""
        loss = super().training_step(batch, batch_idx)
        if self.patience is not None:
            seen = torch.cat([self.losses_seen, loss.detach().cpu().view(1)])
            self.losses_seen = seen[-2 * self.patience :]
            if stalled(self.losses_seen, self.patience):
                self.trainer.should_stop = True
        return loss

    def begin_block(self) -> None:
        """Forget the last losses."""
        super().begin_block()
        self.losses_seen = torch.zeros(0)

    def block_state(self) -> State:
        """The last losses too."""
        return super().block_state() | {"losses": self.losses_seen}

    def load_block_state(self, state: State) -> None:
        """Take them up."""
        super().load_block_state(state)
        self.losses_seen = state["losses"].cpu()


def stalled(losses: Tensor, patience: int) -> bool:
    """Whether the mean of the last `patience` losses (n,) is not below that of as many before."""
    before, after = losses[:-patience], losses[-patience:]
    return len(before) >= patience and not bool(after.mean() < before[-patience:].mean())
