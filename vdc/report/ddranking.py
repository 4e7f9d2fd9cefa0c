"""DD-Ranking's scores: what is left of a method's lead once labels and augmentation are taken out (Li 2025).

The documentation (NUS-HPC-AI-Lab/DD-Ranking, doc/introduction.md) has accuracies in [0, 1], which brings the
scores there too; the package 0.2.0 puts percent into the exponent, whose results have no such bounds.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from vdc.evaluate.results import student_of
from vdc.report.results import Result

Score = tuple[float | None, float | None]  # LRS and ARS, percent


def normalised(lead: float) -> float:
    """A lead in [-1, 1] as percent: (e^lead - 1/e) / (e - 1/e)."""
    return 100 * (math.exp(lead) - math.exp(-1)) / (math.e - math.exp(-1))


def label_robust(own: float, random: float, hard: float, full: float, weight: float = 0.5) -> float:
    """LRS in percent: lead over random clips by the same labels, less what hard labels miss of the full data.

    Args:
        own: top-1 of the set by its own labels, percent.
        random: that of as many random clips, by the same labels.
        hard: that of the set by hard labels.
        full: that of the full data.
        weight: w of the first part.
    """
    return normalised((weight * (own - random) - (1 - weight) * (full - hard)) / 100)


def augmentation_robust(
    own: float, random: float, own_plain: float, random_plain: float, weight: float = 0.5
) -> float:
    """ARS in percent: leads over random clips with and without augmentation.

    Args:
        own: top-1 of the set, its students' clips augmented, percent.
        random: that of as many random clips.
        own_plain: that of the set without augmentation.
        random_plain: that of random clips without augmentation.
        weight: gamma, of the first lead.
    """
    return normalised((weight * (own - random) + (1 - weight) * (own_plain - random_plain)) / 100)


def same(held: dict[str, Any], *but: str) -> tuple[Any, ...]:
    """What two results must share for one to be the other's reference, but for some settings of the protocol."""
    protocol = held["protocol"]
    rest = {name: value for name, value in protocol.items() if name not in {"name", *but}}
    return student_of(held), tuple(held["classes"]), held["test_videos"], str(sorted(rest.items(), key=str))


def scores(results: Sequence[Result], bounds: Sequence[float | None]) -> list[Score]:
    """LRS and ARS of every result, `None` where a result that they need is not there.

    Args:
        results: evaluations.
        bounds: top-1 of each one's student on the full data.
    """
    random, hard, plain = defaultdict(list), defaultdict(list), defaultdict(list)
    for _, held in results:
        top1, size = held["top1"]["mean"], held["ipc"]
        if held["method"] == "Random":
            random[size, same(held)].append(top1)
        if held["protocol"]["labels"] == "hard":
            hard[of_set(held), same(held, "labels", "loss")].append(top1)
        if held["protocol"].get("augment") == "none":
            plain[of_set(held), same(held, "augment", "cutmix")].append(top1)
    found = []
    for (_, held), full in zip(results, bounds, strict=True):
        own, size = held["top1"]["mean"], held["ipc"]
        beside = mean(random[size, same(held)])
        by_hard = mean(hard[of_set(held), same(held, "labels", "loss")])
        by_plain = mean(plain[of_set(held), same(held, "augment", "cutmix")])
        bare = held | {"protocol": held["protocol"] | {"augment": "none", "cutmix": 0.0}}
        random_plain = mean(random[size, same(bare)])
        lrs = ars = None
        if size is not None and full is not None and None not in (beside, by_hard):
            lrs = label_robust(own, beside, by_hard, full)
        if held["protocol"].get("augment", "none") != "none" and None not in (beside, by_plain, random_plain):
            ars = augmentation_robust(own, beside, by_plain, random_plain)
        found.append((lrs, ars))
    return found


def of_set(held: dict[str, Any]) -> tuple[Any, ...]:
    """Names the clips that a result is of: relabelled sets keep theirs."""
    return (
        held["method"],
        held["ipc"],
        held.get("stored_ipc"),
        held.get("condensed_seed"),
        str(held.get("config")),
    )


def mean(values: Sequence[float]) -> Any:
    """Of none `None`."""
    return statistics.fmean(values) if values else None
