"""A split for videos that have none: by class, with clips of one source in one part."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from vdc.data.index import Video
from vdc.data.sources import sources_of
from vdc.data.splits import Split
from vdc.data.text import shown
from vdc.ops.rng import generator


@dataclass(frozen=True)
class Stratified:
    """A split of videos that had none.

    Args:
        parts: rows of each part, ascending.
        told_by: what told which clips belong together; empty if nothing did.
        sources: how many there are.
        notes: what to know of it, for people.
    """

    parts: dict[Split, list[int]]
    told_by: str
    sources: int
    notes: list[str]


def stratify(
    videos: Sequence[Video],
    classes: Sequence[str],
    shares: Mapping[Split, float] | None = None,
    seed: int = 0,
) -> Stratified:
    """Split videos so that every part has its share of every class, and clips of one source stay together.

    Sources go one by one, the largest first, to the part that then is nearest to its shares; then sources are moved
    until every part has every class, where that can be. A class from a single source is split clip by clip.

    Args:
        videos: labelled; their order does not matter.
        classes: names, in label order.
        shares: of the parts, in order of preference; `None`: 0.8 to `train` and 0.2 to `test`.
        seed: of the order among equals.

    Raises:
        ValueError: shares that are not positive.
    """
    shares = shares or {"train": 0.8, "test": 0.2}
    if min(shares.values()) <= 0:
        raise ValueError(f"shares of a split must be positive, got {dict(shares)}")
    whole = sum(shares.values())
    keys, told_by = sources_of([v.path for v in videos], [classes[v.label] for v in videos])
    of_class: dict[int, set[str]] = {}
    for video, key in zip(videos, keys, strict=True):
        of_class.setdefault(video.label, set()).add(key)
    sizes = Counter(video.label for video in videos)
    torn = {label for label, found in of_class.items() if len(found) == 1 and sizes[label] > 1}
    groups: dict[tuple[str, str], list[int]] = {}
    for row in sorted(range(len(videos)), key=lambda row: videos[row].path):
        own = videos[row].path if videos[row].label in torn else ""
        groups.setdefault((keys[row], own), []).append(row)
    order = torch.randperm(len(groups), generator=generator(seed, "stratify")).tolist()
    sources = list(groups.values())
    shuffled = [sources[i] for i in order]
    split = _Assignment({part: share / whole for part, share in shares.items()}, sizes)
    for rows in sorted(shuffled, key=len, reverse=True):
        split.place(rows, Counter(videos[row].label for row in rows))
    split.complete()
    notes = _split_notes(split, classes, told_by, sorted(torn) if told_by else [])
    parts = {part: sorted(row for rows, _ in held for row in rows) for part, held in split.held.items()}
    return Stratified(parts, told_by, len(set(keys)), notes)


def _split_notes(split: "_Assignment", classes: Sequence[str], told_by: str, torn: list[int]) -> list[str]:
    """What to know of a split."""
    notes = [f"clips of one source are kept together, told by {told_by}"]
    if not told_by:
        notes = [
            "names do not tell which clips were cut from one recording: some of one may lie in two parts"
        ]
    if torn:
        names = ", ".join(shown(classes[label]) for label in torn[:5])
        notes.append(f"{len(torn)} classes have a single source, and are split clip by clip: {names}")
    for part, lacking in split.lacking().items():
        if lacking:
            names = ", ".join(shown(classes[label]) for label in lacking[:5])
            notes.append(f"{len(lacking)} classes have too few sources to be in {part}: {names}")
    return notes


class _Assignment:
    """Sources given to parts, while counting the clips of every class.

    Args:
        shares: of the parts; their sum is 1.
        sizes: clips of every class.
    """

    def __init__(self, shares: dict[Split, float], sizes: Counter[int]) -> None:
        self.shares, self.sizes = shares, sizes
        self.held: dict[Split, list[tuple[list[int], Counter[int]]]] = {part: [] for part in shares}
        self.counts: dict[Split, Counter[int]] = {part: Counter() for part in shares}

    def _cost(self, part: Split, labels: Counter[int], sign: int = 1) -> float:
        """How much farther from its shares a part comes when it is given clips, or loses them."""
        cost = 0.0
        for label, count in labels.items():
            off = self.counts[part][label] - self.shares[part] * self.sizes[label]
            cost += ((off + sign * count) ** 2 - off**2) / self.sizes[label]
        return cost

    def place(self, rows: list[int], labels: Counter[int]) -> None:
        """Give a source to the part that it serves best."""
        part = min(self.shares, key=lambda part: self._cost(part, labels))
        self._give(part, (rows, labels))

    def _give(self, part: Split, source: tuple[list[int], Counter[int]]) -> None:
        self.held[part].append(source)
        self.counts[part].update(source[1])

    def lacking(self) -> dict[Split, list[int]]:
        """The classes that a part has no clip of."""
        return {part: [k for k in sorted(self.sizes) if not self.counts[part][k]] for part in self.shares}

    def complete(self) -> None:
        """Move sources into parts that lack their class, unless that takes another class from a part."""
        for part, lacking in self.lacking().items():
            for label in lacking:
                moves = [
                    (self._cost(part, source[1]) + self._cost(other, source[1], -1), i, other)
                    for other in self.shares
                    for i, source in enumerate(self.held[other])
                    if other != part and label in source[1] and self._can_spare(other, source[1])
                ]
                if moves and not self.counts[part][label]:
                    _, i, other = min(moves)
                    source = self.held[other].pop(i)
                    self.counts[other].subtract(source[1])
                    self._give(part, source)

    def _can_spare(self, part: Split, labels: Counter[int]) -> bool:
        """Whether a part keeps a clip of every class when it loses these."""
        return all(self.counts[part][label] > count for label, count in labels.items())
