"""Choosing a few clips of one class by their features, in an order whose prefixes are smaller choices."""

import torch
from torch import Tensor


def _checked(features: Tensor, k: int) -> Tensor:
    """The features in at least float32, after checking that k of them can be chosen."""
    if not 1 <= k <= len(features):
        raise ValueError(f"cannot choose {k} of {len(features)} clips: lower ipc or add videos")
    if not features.isfinite().all():
        raise ValueError("features hold NaN or infinity: check the network they come from")
    return features.to(torch.promote_types(features.dtype, torch.float32))


def herding(features: Tensor, k: int) -> Tensor:
    """Greedily keep the mean of the choice close to the mean of all, without repeats.

    Welling 2009; step i takes the clip nearest to i * mean - sum of those taken, as in
    yuz1wan/video_distillation@5871dc5b:distill_coreset.py.

    Args:
        features: (n, D).
        k: how many, at most n.

    Returns:
        (k,) int64, in the order of choosing.
    """
    features = _checked(features, k)
    mean = features.mean(0)
    missing = mean.clone()
    taken = torch.zeros(len(features), dtype=torch.bool, device=features.device)
    chosen = []
    for _ in range(k):
        distance = (features - missing).square().sum(1).masked_fill(taken, torch.inf)
        nearest = distance.argmin()
        taken[nearest] = True
        missing += mean - features[nearest]
        chosen.append(nearest)
    return torch.stack(chosen)


def still_learnt(errors: Tensor, windows: int = 2) -> Tensor:
    """Compute-aligned difficulty of clips: how much their errors change while a network of this budget learns.

    CAD, arXiv 2604.18811, eq. 1-2, as two re-implementations have it: the unbiased deviation of the errors over
    windows of consecutive epochs, averaged over windows that start an epoch later each. A window is E - `windows`
    epochs long; the last epoch of all is not used.

    Args:
        errors: after each of E epochs, EL2N (Paul 2021) for instance, (E, n).
        windows: W.

    Returns:
        (n,), higher where a clip is still being learnt.

    Raises:
        ValueError: too few epochs for a deviation.
    """
    length = len(errors) - windows
    if windows < 1 or length < 2:
        raise ValueError(f"{len(errors)} epochs are too few for {windows} windows: at least {windows + 2}")
    return torch.stack([errors[i : i + length].std(0) for i in range(windows)]).mean(0)


def k_center(features: Tensor, k: int) -> Tensor:
    """Cover the class: start nearest to the mean, then always add the clip farthest from those taken.

    Sener 2018, alg. 1, with the start of DC's authors (VICO-UoE/DatasetCondensation issue 21).

    Args:
        features: (n, D).
        k: how many, at most n.

    Returns:
        (k,) int64, in the order of choosing.
    """
    features = _checked(features, k)
    chosen = [(features - features.mean(0)).square().sum(1).argmin()]
    cover = torch.full((len(features),), torch.inf, dtype=features.dtype, device=features.device)
    for _ in range(k - 1):
        cover = torch.minimum(cover, (features - features[chosen[-1]]).square().sum(1))
        cover[chosen[-1]] = -1.0  # never again, even where copies leave nothing else at a distance
        chosen.append(cover.argmax())
    return torch.stack(chosen)


def kmeans_medoids(features: Tensor, k: int, generator: torch.Generator, rounds: int = 100) -> Tensor:
    """The clip nearest to each k-means centre, without repeats; k-means++ start.

    The sampling of DREAM (Liu 2023, sec. 3.2).

    Args:
        features: (n, D).
        k: how many, at most n.
        generator: on the CPU.
        rounds: of Lloyd's algorithm at most.

    Returns:
        (k,) int64.
    """
    features = _checked(features, k)
    centres = features[_spread(features, k, generator)]
    for _ in range(rounds):
        member = _distances(features, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, member, features)
        counts = torch.bincount(member, minlength=k)[:, None]
        moved = torch.where(counts > 0, sums / counts.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    distance = _distances(centres, features)
    chosen = []
    for row in distance:
        nearest = row.argmin()
        distance[:, nearest] = torch.inf
        chosen.append(nearest)
    return torch.stack(chosen)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, m), without the products that cancel between near neighbours."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _spread(features: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++ start: the next clip is drawn in proportion to its squared distance to those taken."""
    chosen = [int(torch.randint(len(features), (), generator=generator))]
    cover = torch.full((len(features),), torch.inf, dtype=features.dtype, device=features.device)
    for _ in range(k - 1):
        cover = torch.minimum(cover, (features - features[chosen[-1]]).square().sum(1))
        weights = cover.cpu()
        if not weights.any():  # only copies are left
            weights = torch.ones_like(weights)
            weights[chosen] = 0
        chosen.append(int(torch.multinomial(weights, 1, generator=generator)))
    return torch.tensor(chosen, device=features.device)
