"""Networks that learn along with the synthetic clips, each of another age (FRePo)."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vdc.nets import VideoNet
from vdc.ops.rng import derive, generator


class OnlinePool:
    """Networks trained one step at a time, and started afresh when old; no part of what is learnt.

    Ages start staggered, so that the pool always holds networks of all ages.

    Args:
        nets: the networks, on their device; their weights are drawn here.
        max_age: steps after which a network starts afresh.
        lr: of Adam.
        seed: of initial weights and dropout.
    """

    def __init__(self, nets: list[VideoNet], max_age: int, lr: float, seed: int) -> None:
        self.nets = nets
        self.max_age = max_age
        self.lr = lr
        self.seed = seed
        self.ages = [max_age // len(nets) * i for i in range(len(nets))]
        self.lives = [0] * len(nets)  # times each was started afresh
        self.steps = 0  # of all of them
        self.optimizers: list[torch.optim.Adam] = []
        for i in range(len(nets)):
            self.optimizers.append(self._start(i))

    def __len__(self) -> int:
        """Networks."""
        return len(self.nets)

    def _start(self, i: int) -> torch.optim.Adam:
        """Give network i fresh weights, in place, and an optimiser that knows nothing."""
        self.nets[i].reset_parameters("default", generator(self.seed, "online", i, self.lives[i]))
        return torch.optim.Adam(self.nets[i].parameters(), self.lr)

    def still(self, i: int) -> VideoNet:
        """Network i as a fixed feature extractor: in eval mode, without gradients to its weights."""
        return self.nets[i].eval().requires_grad_(False)

    def advance(self, i: int, clips: Tensor, targets: Tensor) -> None:
        """One step of network i, or a new life if it is too old.

        Args:
            i: which.
            clips: (N, C, T, H, W).
            targets: what its logits should be, (N, K).
        """
        self.steps += 1
        if self.ages[i] >= self.max_age:
            self.lives[i] += 1
            self.ages[i] = 0
            self.optimizers[i] = self._start(i)
            return
        net = self.nets[i].train().requires_grad_(True)
        torch.manual_seed(derive(self.seed, "dropout", i, self.lives[i], self.ages[i]))
        with torch.enable_grad():
            loss = F.mse_loss(net(clips), targets)
            self.optimizers[i].zero_grad()
            torch.autograd.backward(loss)
        self.optimizers[i].step()
        self.ages[i] += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes, as tensors."""
        return {
            "ages": torch.tensor(self.ages),
            "lives": torch.tensor(self.lives),
            "steps": torch.tensor(self.steps),
            "nets": [net.state_dict() for net in self.nets],
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is of another pool.
        """
        if len(state["nets"]) != len(self):
            raise ValueError(
                f"--ckpt_path: a pool of {len(state['nets'])} networks, this run has {len(self)}"
            )
        self.ages, self.lives, self.steps = (state[name].tolist() for name in ("ages", "lives", "steps"))
        for net, weights in zip(self.nets, state["nets"], strict=True):
            try:
                net.load_state_dict(weights)
            except RuntimeError as error:
                raise ValueError(f"--ckpt_path: networks of another kind: {error}") from error
        for optimizer, moments in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(moments)
