"""Multi-size condensation: one run whose first n items of every class are a good set of n, for every n."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vdc.condensed.memory import Memory
from vdc.data.sampler import PerClass
from vdc.ops.rng import derive

if TYPE_CHECKING:
    from vdc.methods.base.condenser import Condenser

Terms = dict[str, Tensor]
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


class Seen(NamedTuple):
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
        self.plan, self.classes, self.items = plan, classes, items
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

    # -- choosing -----------------------------------------------------------------------------------------

    def measuring(self, step: int) -> bool:
        """Whether distances are compared in this step."""
        every, some = self.plan.interval, self.plan.average
        return self.made > 0 and step % every >= every - some

    def add(self, seen: Seen) -> None:
        """Count by how much the distances of a step fell, over the squared norm of the means of real clips."""
        known = (seen.counts > 0).double().cpu()
        norms = seen.real.float().square().sum(1).double().cpu()
        then, now = (prefix_distances(f, seen.real, self.items) for f in (seen.earlier, seen.items))
        found = (then - now).double().cpu()
        found /= ((norms * known).sum() / known.sum().clamp_min(1)).clamp_min(1e-12)
        groups = (len(self.size), -1)
        self.sums += (found * known[:, None]).view(*groups, self.items - 1).sum(1)
        self.counts += known.view(groups).sum(1)

    def due(self, step: int) -> bool:
        """Whether a choice has to be made before this step."""
        return self.made < (step >= self.plan.average) + step // self.plan.interval

    def choose(self) -> None:
        """Go to the prefix whose distance changed most; to one item at first. A class not seen since then stays."""
        change = self.sums.abs()
        self.switch(torch.where(self.counts > 0, change.argmax(1) + 1, self.size.clamp_min(1)))
        self.sums, self.counts = torch.zeros_like(self.sums), torch.zeros_like(self.counts)

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

    # -- what follows -------------------------------------------------------------------------------------

    @property
    def matched(self) -> Tensor:
        """Items of every class in the matched prefix, (C,); 0 before the first choice."""
        return self.size.expand(self.classes)

    @property
    def frozen(self) -> Tensor:
        """Frozen first items of every class, (C,)."""
        if self.plan.freeze == "predecessor":
            held = torch.where(self.last < self.size, self.last, 0)
        else:
            sizes = torch.arange(self.items)
            held = (sizes * (self.retired & (sizes < self.size[:, None]))).amax(1)
        return held.expand(self.classes)

    def state(self) -> dict[str, Any]:
        """Plain values, and the tensors of the earlier items, for a checkpoint."""
        held = {name: getattr(self, name).tolist() for name in STATE}
        earlier = None if self.earlier is None else dict(self.earlier.state_dict())
        return held | {"made": self.made, "plan": asdict(self.plan), "earlier": earlier}

    def load_state(self, state: dict[str, Any], memory: Memory) -> None:
        """Go on from a checkpoint of a memory like `memory`.

        Raises:
            ValueError: it is of another plan.
        """
        if state["plan"] != asdict(self.plan):
            raise ValueError(
                f"--ckpt_path was written with multisize {state['plan']}, not {asdict(self.plan)}"
            )
        for name in STATE:
            setattr(self, name, torch.tensor(state[name], dtype=getattr(self, name).dtype))
        self.made = state["made"]
        if state["earlier"] is not None:
            self.keep(memory)
            cast(Memory, self.earlier).load_state_dict(state["earlier"])


# -- in a memory ------------------------------------------------------------------------------------------


def prefixes_of(memory: Memory, plan: MultiSize | None) -> Prefixes | None:
    """The start of multi-size for the items of a memory; with one per class there is nothing to choose.

    Raises:
        ValueError: the memory's rows are not in the order in which a set is cut.
    """
    if plan is None or memory.ipc < 2:
        return None
    if getattr(memory, "order", "image") != "image":
        raise ValueError("multisize needs memory.order image: stored sets are cut in the order of items")
    return Prefixes(plan, memory.num_classes, memory.ipc)


def prefix_rows(memory: Memory, sizes: Tensor) -> Tensor:
    """Clip rows of the first sizes[k] items of class k, class-major."""
    rows = torch.arange(len(memory))
    return rows[rows // memory.per_item % memory.ipc < sizes[rows // (memory.ipc * memory.per_item)]]


def frozen_parts(memory: Memory, frozen: Tensor) -> Iterator[tuple[nn.Parameter, Any]]:
    """Learnt tensors, and the index of what a step must leave: the first frozen[k] items of class k.

    What items share stays as it is while any item is frozen: else frozen ones would be rendered differently.
    """
    held = (torch.arange(memory.ipc) < frozen[:, None]).flatten()
    for name, parameter in memory.named_parameters():
        if "." not in name and parameter.ndim and len(parameter) % len(held) == 0:
            rows = held.repeat_interleave(len(parameter) // len(held)).nonzero().flatten()
            yield parameter, rows.to(parameter.device)
        else:
            yield parameter, ...


# -- in a method ------------------------------------------------------------------------------------------


def choose(method: "Condenser") -> None:
    """Choose the prefix to match where that is due."""
    prefixes = method.prefixes
    if prefixes is not None and prefixes.due(method.step):
        share(method, prefixes)
        prefixes.choose()
        prefixes.keep(method.memory)


def share(method: "Condenser", prefixes: Prefixes) -> None:
    """Average what was measured over the processes that share classes: each goes on with what all of them saw."""
    if method.separable or method.trainer.world_size == 1:
        return
    for name in ("sums", "counts"):
        found = method.trainer.strategy.reduce(getattr(prefixes, name).to(method.device), reduce_op="mean")
        setattr(prefixes, name, found.cpu())


def saved(method: "Condenser", prefixes: Prefixes) -> dict[str, Any]:
    """State for a checkpoint, of which one process writes its own."""
    share(method, prefixes)
    return prefixes.state()


def terms(method: "Condenser", clips: Tensor, labels: Tensor, context: Any) -> Terms:
    """Terms of a step: of the whole set and, beside it, of the prefix to match.

    Args:
        method: whose losses they are.
        clips: of all rows (N, C, T_c, H, W).
        labels: (N,) int64 or (N, K) logits.
        context: of the step.
    """
    prefixes = method.prefixes
    if prefixes is None:
        return method.loss(clips, labels, context)
    if not prefixes.made:
        found = method.loss(clips, labels, context)
    else:
        rows = prefix_rows(method.memory, prefixes.matched).to(clips.device)
        whole, part = method.losses(clips, labels, context, rows)
        found = whole | {f"prefix_{name}": value for name, value in part.items()}
    if prefixes.earlier is not None and prefixes.measuring(method.step):
        with torch.no_grad():
            earlier = method.rendered(context, earlier_items(method, prefixes.earlier))[0]
            method.step_seen = method.embedded(clips.detach(), earlier, context)
    sizes = {"prefix": prefixes.matched, "frozen": prefixes.frozen}
    method.log_dict({name: items.float().mean() for name, items in sizes.items()})
    return found


def earlier_items(method: "Condenser", earlier: Memory) -> Memory:
    """The items as they were at the last choice, in whose rendering the step leaves the same to chance."""
    earlier.to(method.device)
    for old, now in zip(earlier.buffers(), method.memory.buffers(), strict=True):
        old.copy_(now)
    return earlier


def count(method: "Condenser") -> None:
    """Count what was measured, once the step is known to be sound."""
    if method.prefixes is not None and method.step_seen is not None:
        method.prefixes.add(method.step_seen)
    method.step_seen = None


@contextmanager
def held(method: "Condenser", optimizer: Optimizer) -> Iterator[None]:
    """Through a step of the optimiser, keep frozen items as they are, and their moments at zero."""
    frozen = method.frozen
    parts = list(frozen_parts(method.memory, frozen)) if isinstance(frozen, Tensor) else []
    kept = [parameter.detach()[rows].clone() for parameter, rows in parts]
    yield
    with torch.no_grad():
        for (parameter, rows), values in zip(parts, kept, strict=True):
            parameter[rows] = values
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment[rows] = 0


def real_clips(method: "Condenser") -> Iterator[Tensor]:
    """`data.per_class` random real clips (n, C, T_c, H, W) of each class of a method, others in every step."""
    data, n = method.data, method.data.per_class
    seed = derive(method.seed, "measured", method.classes[0], method.step)
    keys = PerClass(data.labels, n, method.classes, seed, steps=1)
    for raw in data.by_key(keys, seed, n, stored=True):
        yield data.to_batch(raw.to(method.device)).clips
