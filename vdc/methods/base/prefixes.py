"""Which prefix multi-size matches, which it freezes, and what decides about the next."""

import copy
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from vdc.condensed.memory import Memory

STATE = ("size", "last", "retired", "sums", "counts")


@dataclass(frozen=True)
class MultiSize:
    """Match a prefix of every class beside the whole set (He 2024, ICLR, arXiv 2403.06075).

    The prefix is the one that learns most: the distance of whose mean feature to that of real clips changed
    most since the last choice. A prefix that was matched before and is smaller stays as it is meanwhile.

    The authors compare averages over networks then with those over others now, whose difference is as large as
    what was learnt where networks are of very different scale, as those of a pool. Here each network sees the
    items as they are and as they were, and distances are over the squared norm of its means of real clips.

    Args:
        interval: steps between two choices; the authors' 100 networks are 100 x `outer` steps of IDC here.
        average: last steps before a choice in whose networks distances are compared. The first choice, always
            one item, comes after so many steps; nothing but the whole set is matched before.
        classwise: every class chooses for itself.
        freeze: `permanent`: the largest smaller prefix that was ever matched, as in the authors' code
            (he-y/Multisize-Dataset-Condensation@e9b9f7e:reg_ipcx.py); `predecessor`: the one matched just
            before, if it is smaller, as in their eq. 10.
    """

    interval: int = 250
    average: int = 25
    classwise: bool = False
    freeze: Literal["permanent", "predecessor"] = "permanent"

    def __post_init__(self) -> None:
        if not 1 <= self.average < self.interval:
            raise ValueError(
                f"multisize.average {self.average} must be at least 1, and less than multisize.interval "
                f"{self.interval}"
            )
        if self.freeze not in ("permanent", "predecessor"):
            raise ValueError(f"multisize.freeze must be permanent or predecessor, got {self.freeze!r}")


class StepFeatures(NamedTuple):
    """What a network makes of the items, now and at the last choice, and of real clips of their classes."""

    items: Tensor  # (n, D), of all clip rows, class-major
    earlier: Tensor  # (n, D), of the same rows
    real: Tensor  # (C, D), means over real clips
    counts: Tensor  # (C,) of real clips; classes with none are left out


def prefix_distances(items: Tensor, real: Tensor, ipc: int) -> Tensor:
    """Squared distance of the mean of the first n items to the mean of real clips (He 2024).

    Args:
        items: features of all clip rows, (C * ipc * per_item, D), class-major.
        real: mean features of real clips, (C, D).
        ipc: items per class N.

    Returns:
        (C, N - 1), for n from 1 to N - 1.
    """
    each = items.float().view(len(real), ipc, -1, items.shape[1]).mean(2)  # (C, N, D)
    means = each.cumsum(1)[:, :-1] / torch.arange(1, ipc, device=items.device).view(-1, 1)
    return (means - real.float()[:, None]).square().sum(2)


class Prefixes:
    """Which prefix is matched beside the whole set, which is frozen, and what decides about the next.

    Groups are classes, or one for all of them. The authors freeze a first item that is given up at the very
    first comparison one step late; here it freezes at once, like all others.

    Args:
        plan: intervals and rules.
        classes: C.
        items: per class N, at least 2.
    """

    def __init__(self, plan: MultiSize, classes: int, items: int) -> None:
        groups = classes if plan.classwise else 1
        self.plan = plan
        self.classes = classes
        self.items = items
        self.made = 0  # choices
        self.size = torch.zeros(groups, dtype=torch.int64)  # of the matched prefix; 0 before the first choice
        self.last = torch.zeros(groups, dtype=torch.int64)  # size matched before that one
        self.retired = torch.zeros(
            groups, items, dtype=torch.bool
        )  # column n: size n was matched and given up
        self.earlier: Memory | None = None  # the items as they were at the last choice
        self.sums = torch.zeros(
            groups, items - 1, dtype=torch.float64
        )  # of what distances fell by since then
        self.counts = torch.zeros(groups, dtype=torch.float64)

    def measuring(self, step: int) -> bool:
        """Whether distances are compared in this step."""
        every, some = self.plan.interval, self.plan.average
        return self.made > 0 and step % every >= every - some

    def add(self, seen: StepFeatures) -> None:
        """Count by how much the distances of a step fell, over the squared norm of the means of real clips."""
        known = (seen.counts > 0).double().cpu()
        norms = seen.real.float().square().sum(1).double().cpu()
        then, now = (prefix_distances(f, seen.real, self.items) for f in (seen.earlier, seen.items))
        fallen = (then - now).double().cpu()
        fallen /= ((norms * known).sum() / known.sum().clamp_min(1)).clamp_min(1e-12)
        groups = (len(self.size), -1)
        self.sums += (fallen * known[:, None]).view(*groups, self.items - 1).sum(1)
        self.counts += known.view(groups).sum(1)

    def due(self, step: int) -> bool:
        """Whether a choice has to be made before this step."""
        return self.made < (step >= self.plan.average) + step // self.plan.interval

    def choose(self) -> None:
        """Go to the prefix whose distance changed most; to one item at first. A class not seen since then stays."""
        change = self.sums.abs()
        self.switch(torch.where(self.counts > 0, change.argmax(1) + 1, self.size.clamp_min(1)))
        self.sums = torch.zeros_like(self.sums)
        self.counts = torch.zeros_like(self.counts)

    def keep(self, memory: Memory) -> None:
        """Keep the items as they are, for the next choice."""
        self.earlier = copy.deepcopy(memory).requires_grad_(False)

    def switch(self, size: Tensor) -> None:
        """Match the prefixes of `size` (groups,) from now on."""
        left = ((size != self.size) & (self.size > 0)).nonzero().flatten()
        self.retired[left, self.size[left]] = True
        self.last[left] = self.size[left]
        self.size = size
        self.made += 1

    @property
    def matched(self) -> Tensor:
        """Items of every class in the matched prefix, (C,); 0 before the first choice."""
        return self.size.expand(self.classes)

    @property
    def frozen(self) -> Tensor:
        """Frozen first items of every class, (C,)."""
        if self.plan.freeze == "predecessor":
            frozen = torch.where(self.last < self.size, self.last, 0)
        else:
            sizes = torch.arange(self.items)
            frozen = (sizes * (self.retired & (sizes < self.size[:, None]))).amax(1)
        return frozen.expand(self.classes)

    def state(self) -> dict[str, Any]:
        """Plain values, and the tensors of the earlier items, for a checkpoint."""
        values = {name: getattr(self, name).tolist() for name in STATE}
        earlier = None if self.earlier is None else dict(self.earlier.state_dict())
        return values | {"made": self.made, "earlier": earlier}

    def load_state(self, state: dict[str, Any], memory: Memory) -> None:
        """Go on from a checkpoint of a memory like `memory`."""
        for name in STATE:
            setattr(self, name, torch.tensor(state[name], dtype=getattr(self, name).dtype))
        self.made = state["made"]
        if state["earlier"] is not None:
            self.keep(memory)
            cast(Memory, self.earlier).load_state_dict(state["earlier"])
