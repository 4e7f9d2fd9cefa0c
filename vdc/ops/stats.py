"""Channel statistics of feature maps: of a batch, of a data set in one pass, and how far apart they are."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

Variance = Literal["within", "pooled"]


class Stat(NamedTuple):
    """Mean and biased variance of S channels (or grid cells): (S,) of a set, (N, S) of samples or classes."""

    mean: Tensor
    var: Tensor


class _RowMoments(torch.autograd.Function):
    """Mean and biased variance of the last axis; the backward is one pass, `torch.var_mean`'s is three."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.is_cuda:
            var, mean = torch.var_mean(x, -1, correction=0)
        else:  # the CPU kernel of var_mean is not vectorised: two passes are 6x faster and as accurate
            mean = x.mean(-1)
            var = (x - mean[..., None]).square_().mean(-1)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, d_mean: Tensor, d_var: Tensor) -> Tensor:
        x, mean = ctx.saved_tensors
        slope = d_var * (2 / x.shape[-1])
        return torch.addcmul((d_mean / x.shape[-1] - slope * mean)[..., None], x, slope[..., None])


def channel_moments(x: Tensor) -> Stat:
    """Per-sample channel statistics, twice differentiable.

    Args:
        x: feature maps (N, C, T, H, W), or any (N, C, ...); half precision is reduced in float32.

    Returns:
        mean and biased variance over the other axes, (N, C). `pooled` makes batch statistics of them.
    """
    rows = x.flatten(2)
    return Stat(*_RowMoments.apply(rows.to(torch.promote_types(rows.dtype, torch.float32))))


def patch_moments(x: Tensor, window: int = 16) -> Stat:
    """Per-sample statistics of each cell of a spatial grid, over channels, frames and pixels (G-VBSM, EDC).

    Maps are stretched bilinearly to the next multiple of `window`, then cut. Frames count as samples of the
    same clip, so that `pooled` over clips equals frames folded into the batch.

    Args:
        x: feature maps (N, C, T, H, W).
        window: side of a cell in stretched pixels.

    Returns:
        mean and biased variance (N, cells), cells row by row.
    """
    n, c, t, h, w = x.shape
    height, width = (-(-side // window) * window for side in (h, w))
    frames = x.flatten(0, 1)
    if (height, width) != (h, w):
        frames = F.interpolate(frames, (height, width), mode="bilinear")
    grid = frames.reshape(n, c * t, height // window, window, width // window, window)
    return channel_moments(grid.permute(0, 2, 4, 1, 3, 5).flatten(1, 2))


def pooled(stat: Stat) -> Stat:
    """Statistics of N equally large samples taken together, (N, S) -> (S,): the law of total variance."""
    mean = stat.mean.mean(0)
    return Stat(mean, stat.var.mean(0) + (stat.mean - mean).square().mean(0))


@dataclass
class Moments:
    """Running statistics of one tap, per class and of the whole set, in one pass over samples of equal size.

    Everything is a float64 sum: accumulators of disjoint parts add up (`merge`, or `all_reduce` of `sums`),
    and a pass stopped and taken up again with the same `sums` ends the same.

    Args:
        sums: (K, 1 + 3S) float64: samples, then sums of their means, variances and squared means.
    """

    sums: Tensor

    @classmethod
    def zeros(cls, num_classes: int, size: int, device: torch.device | str = "cpu") -> Self:
        """An empty accumulator for K classes and S channels."""
        return cls(torch.zeros(num_classes, 1 + 3 * size, dtype=torch.float64, device=device))

    def update(self, stat: Stat, labels: Tensor) -> None:
        """Add samples: their statistics (N, S) and classes (N,) int64."""
        mean, var = stat.mean.detach().double(), stat.var.detach().double()
        rows = torch.cat([torch.ones_like(mean[:, :1]), mean, var, mean.square()], 1)
        self.sums.index_add_(0, labels, rows)

    def merge(self, other: Self) -> None:
        """Add what another accumulator saw."""
        self.sums += other.sums

    def classes(self, variance: Variance = "within") -> Stat:
        """Statistics of every class, (K, S) float64.

        Args:
            variance: `within`: mean of the samples' own variances (what EDC's authors store); `pooled`:
                variance of all elements of the class, which adds the spread of the samples' means.
        """
        if len(empty := (self.sums[:, 0] == 0).nonzero()):
            raise ValueError(f"statistics: no clip of class {empty.flatten().tolist()} was seen")
        return _statistic(self.sums, variance)

    def dataset(self, variance: Variance = "pooled") -> Stat:
        """Statistics of the whole set, (S,) float64; every sample weighs the same, whatever its class."""
        total = self.sums.sum(0)
        if total[0] == 0:
            raise ValueError("statistics: no clip was seen")
        return _statistic(total, variance)


def _statistic(sums: Tensor, variance: Variance) -> Stat:
    """Statistics from rows of sums (..., 1 + 3S)."""
    mean, within, squares = (sums[..., 1:] / sums[..., :1]).chunk(3, -1)
    if variance == "within":
        return Stat(mean, within)
    return Stat(mean, within + (squares - mean.square()).clamp_min(0))


def class_target(classes: Stat, labels: Tensor) -> Stat:
    """What a batch of classes `labels` (N,) should match: the average of their statistics, (K, S) -> (S,)."""
    share = classes.mean.new_zeros(len(classes.mean))  # `bincount` would wait for the device
    share = share.index_add(0, labels, torch.ones_like(labels, dtype=share.dtype)) / len(labels)
    return Stat(share @ classes.mean, share @ classes.var)


def statistic_distance(mean: Tensor, var: Tensor, target_mean: Tensor, target_var: Tensor) -> Tensor:
    """Sum of the plain (not squared) L2 distances of means and of variances, all (S,)."""
    norms: Tensor = torch.linalg.vector_norm(mean - target_mean) + torch.linalg.vector_norm(var - target_var)
    return norms


def layer_distance(batch: Stat, dataset: Stat | None, classes: Stat | None, alpha: float = 0.5) -> Tensor:
    """One tap's term: alpha * (distance to the data set) + (1 - alpha) * (distance to the batch's classes).

    EDC: Shao et al., NeurIPS 2024, soft category-aware matching (the authors' code fixes alpha at 0.5); alpha
    1 on norm layers with their running statistics as `dataset` is SRe2L's term.

    Args:
        batch: statistics of the synthetic batch, (S,).
        dataset: of the real set, (S,); not read at alpha 0.
        classes: `class_target` of the batch's labels, (S,); not read at alpha 1.
        alpha: in [0, 1].
    """
    terms = []
    for weight, target, name in ((alpha, dataset, "dataset"), (1 - alpha, classes, "class")):
        if weight == 0:
            continue
        if target is None:
            raise ValueError(f"alpha {alpha} needs {name} statistics")
        terms.append(weight * statistic_distance(*batch, *target))
    return torch.stack(terms).sum()


@dataclass
class Momentum:
    """Moving average of batch statistics whose gradient is that of the current batch (straight through).

    average <- rate * average + (1 - rate) * current, from zero. `averages` and `weights` are plain state, to
    be stored in a checkpoint.

    Args:
        rate: of the average, in [0, 1); 0 returns the batch's own statistics.
        corrected: divide by 1 - rate^steps, so that the first value is the first batch's. EDC's authors do
            not, and carry the average from one block of items into the next: `corrected=False`, no `reset`.
        averages: per tap name.
        weights: per tap name, 1 - rate^steps.
    """

    rate: float
    corrected: bool = True
    averages: dict[str, Tensor] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def __call__(self, name: str, current: Tensor) -> Tensor:
        """Step the average of one tap: its value, with the gradient of `current`."""
        now = current.detach()
        average = torch.lerp(now, self.averages.get(name, torch.zeros_like(now)), self.rate)
        self.averages[name] = average
        self.weights[name] = self.rate * self.weights.get(name, 0.0) + 1 - self.rate
        value = average / self.weights[name] if self.corrected else average
        return current + (value - now)

    def reset(self) -> None:
        """Forget: a new block of items starts."""
        self.averages.clear()
        self.weights.clear()


@torch.no_grad()
def smooth_(averages: Iterable[Tensor], currents: Iterable[Tensor], rate: float) -> None:
    """Step moving averages in place, rate * average + (1 - rate) * current: EDC's slow copy of the items."""
    for average, current in zip(averages, currents, strict=True):
        average.lerp_(current, 1 - rate)


def flatness(
    logits: Tensor,
    slow_logits: Tensor,
    temperature: float = 4.0,
    reduction: Literal["batchmean", "mean"] = "batchmean",
) -> Tensor:
    """KL(softmax(slow / T) || softmax(logits / T)), no factor T^2: items should not sit in a sharp minimum.

    EDC: Shao et al., NeurIPS 2024, flatness regularisation; shaoshitong/EDC@80116a79:CIFAR_10/recover.py.

    Args:
        logits: teacher logits of the items, (N, K).
        slow_logits: of their slow copy, (N, K); held constant.
        temperature: T, 4 in the paper.
        reduction: `batchmean` divides by N; `mean`, what the authors' code uses, by N * K: weight w with
            `batchmean` is weight K * w with `mean`.
    """
    slow = (slow_logits.detach() / temperature).softmax(1)
    divergence = F.kl_div((logits / temperature).log_softmax(1), slow, reduction="batchmean")
    return divergence / logits.shape[1] if reduction == "mean" else divergence
