"""Differences of two sets, seed by seed and clip by clip: what can be claimed of them."""

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.table import Table

from vdc.evaluate.results import student_of
from vdc.report.results import Result, read_all, title
from vdc.train.scores import unpack

Floats = np.ndarray[Any, np.dtype[np.float64]]
DRAWS = 10_000
CHUNK = 500  # draws at once
Run = tuple[int, int]  # start (seed of condensation), seed of the student


@dataclass(frozen=True)
class Pair:
    """How far A is ahead of B by one student and size, in points of top-1."""

    a: str
    b: str
    student: str
    labels: str
    starts: int
    runs: int
    difference: float
    error: float | None  # standard error: over starts, of one start over students
    low: float | None  # 95 % of bootstraps over test clips, starts and students lie between
    high: float | None


def paired(a: str, b: str) -> list[Pair]:
    """Compare the evaluations of two places, run by run of equal start and student seed.

    Where one place has a single start it is compared with every start of the other. Sizes are matched if both
    places have the same ones; if each has a single size, these two are compared, whatever they are.

    Args:
        a: condensed set, result folder or file.
        b: what it is compared with.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no two runs fit together, or they were tested on other videos.
    """
    ours, theirs = (by_kind(read_all([place])) for place in (a, b))
    found = []
    for student in ours:
        sizes, others = ours[student], theirs.get(student, {})
        single = len(sizes) == len(others) == 1
        for size, mine in sizes.items():
            other = next(iter(others.values())) if single else others.get(size)
            if other is not None:
                found.append(compare(mine, other))
    if not found:
        raise ValueError(
            f"--paired {a} {b}: nothing to compare, students and sizes are {told(ours)} and {told(theirs)}"
        )
    return found


def by_kind(results: Sequence[Result]) -> dict[tuple[str, str], dict[int | None, list[dict[str, Any]]]]:
    """Results by student and labels, then by size.

    Of the full data, as a teacher beside a set has one, and of random twins only where there is nothing else.
    """
    every = [held for _, held in results]
    sets = [held for held in every if held["ipc"] is not None] or every
    plain = [held for held in sets if held["method"] != "Random"] or sets
    found: dict[tuple[str, str], dict[int | None, list[dict[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for held in plain:
        found[student_of(held), held["protocol"]["labels"]][held["ipc"]].append(held)
    return found


def told(kinds: dict[tuple[str, str], dict[int | None, list[dict[str, Any]]]]) -> str:
    """Students, labels and sizes in words."""
    return "; ".join(f"{', '.join(kind)}, ipc {', '.join(map(str, sizes))}" for kind, sizes in kinds.items())


def compare(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> Pair:
    """The difference of two groups of results, each of one method, student and size.

    Raises:
        ValueError: no runs of equal seeds, or other test videos.
    """
    mine, other = runs(ours), runs(theirs)
    pairs = matched(list(mine), list(other))
    first, second = ours[0], theirs[0]
    if not pairs:
        raise ValueError(
            f"--paired: {title(first)} has (start, student seed) {sorted(mine)}, {title(second)} {sorted(other)}: "
            "none is in both"
        )
    if len({str(held.get("test_data", {}).get("videos")) for held in (*ours, *theirs)}) > 1:
        raise ValueError(f"--paired: {title(first)} and {title(second)} were tested on other videos")
    starts = sorted({start for start, _, _ in pairs})
    gaps = [[mine[x] - other[y] for s, x, y in pairs if s == start] for start in starts]
    difference, error = mean_and_error(gaps)
    low = high = None
    our_answers, their_answers = answers(ours), answers(theirs)
    if our_answers and their_answers:
        rows = [[our_answers[x] - their_answers[y] for s, x, y in pairs if s == start] for start in starts]
        low, high = (100 * edge for edge in bootstrap([np.stack(one) for one in rows]))
    return Pair(
        title(first), title(second), student_of(first), first["protocol"]["labels"], len(starts), len(pairs),
        difference, error, low, high,
    )  # fmt: skip


def runs(results: Sequence[dict[str, Any]]) -> dict[Run, float]:
    """Top-1 by start and student seed."""
    return {
        (int(held.get("condensed_seed") or 0), seed): value
        for held in results
        for seed, value in zip(held["seeds"], held["top1"].get("values", [held["top1"]["mean"]]), strict=True)
    }


def answers(results: Sequence[dict[str, Any]]) -> dict[Run, Floats]:
    """Whether each test clip was right (1.0), by start and student seed; empty if some result does not say so."""
    if any(not held.get("correct") for held in results):
        return {}
    return {
        (int(held.get("condensed_seed") or 0), seed): unpack(text, held["test_videos"]).astype(float)
        for held in results
        for seed, text in zip(held["seeds"], held["correct"], strict=True)
    }


def matched(ours: Sequence[Run], theirs: Sequence[Run]) -> list[tuple[int, Run, Run]]:
    """Runs to compare, with the start they belong to: of equal student seeds and, where both have several, starts."""
    several = [len({start for start, _ in runs}) > 1 for runs in (ours, theirs)]
    if all(several):
        return [(run[0], run, run) for run in ours if run in theirs]
    return [((x if several[0] else y)[0], x, y) for x in ours for y in theirs if x[1] == y[1]]


def mean_and_error(gaps: Sequence[Sequence[float]]) -> tuple[float, float | None]:
    """Mean over starts of the means over students, and its standard error.

    Students of one start share its clips, so only starts are independent: the error is that of their means. Of a
    single start it is that over students, and says nothing of other starts.

    Args:
        gaps: differences of every start's students.
    """
    means = [statistics.fmean(of_start) for of_start in gaps]
    independent = means if len(means) > 1 else gaps[0]
    spread = statistics.stdev(independent) / math.sqrt(len(independent)) if len(independent) > 1 else None
    return statistics.fmean(means), spread


def draw_runs(sizes: Sequence[int], rng: np.random.Generator, draws: int) -> Floats:
    """Weights (draws, runs) of starts drawn again, and of students drawn again in every copy of a start.

    Args:
        sizes: students of every start; runs lie start by start.
        rng: what draws.
        draws: how often.
    """
    count, students = len(sizes), np.array(sizes)
    first = np.cumsum(students) - students  # run of each start
    start = rng.integers(count, size=(draws, count, 1))
    own = students[start]
    place = np.arange(students.max())  # of a student in the copy of a start, which has `own` of them
    chosen = first[start] + np.floor(rng.random((draws, count, students.max())) * own).astype(int)
    weights = np.zeros((draws, int(students.sum())))
    np.add.at(weights, (np.arange(draws)[:, None, None], chosen), (place < own) / (count * own))
    return weights


def bootstrap(
    differences: Sequence[Floats], draws: int = DRAWS, seed: int = 0, share: float = 0.95
) -> tuple[float, float]:
    """The interval that holds `share` of the mean differences of starts, students and test clips drawn again.

    Args:
        differences: of every start, (students, N): right answers of A minus those of B, clip by clip.
        draws: how often.
        seed: of the draws.
        share: in the middle of them.
    """
    rng = np.random.default_rng(seed)
    rows = np.concatenate(list(differences))
    videos = rows.shape[1]
    means = []
    for done in range(0, draws, CHUNK):
        size = min(CHUNK, draws - done)
        by_run = draw_runs([len(one) for one in differences], rng, size)
        by_clip = rng.multinomial(videos, np.full(videos, 1 / videos), size=size) / videos
        means.append(((by_run @ rows) * by_clip).sum(1))
    edge = 50 * (1 - share)
    low, high = np.percentile(np.concatenate(means), [edge, 100 - edge])
    return float(low), float(high)


def as_table(pairs: Sequence[Pair]) -> Table:
    """For a terminal."""
    table = Table(title="top-1 of A minus B, in points")
    for name in ("A", "B", "student", "labels"):
        table.add_column(name, overflow="fold")
    for name in ("A - B", "95 %", "starts", "runs"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in pairs:
        table.add_row(one.a, one.b, one.student, one.labels, *cells(one))
    if any(one.low is None for one in pairs):
        table.caption = "no interval: results of before version 0.2 hold no answers per clip; evaluate again"
    return table


def cells(one: Pair) -> list[str]:
    """Numbers of a pair in words: difference and standard error, interval, starts, runs."""
    error = "" if one.error is None else f" ± {one.error:.1f}"
    interval = "" if one.low is None or one.high is None else f"{one.low:+.1f} .. {one.high:+.1f}"
    return [f"{one.difference:+.1f}{error}", interval, str(one.starts), str(one.runs)]
