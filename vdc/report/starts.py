"""Condensed sets of several starts as one line: a table never shows the best of several draws."""

import re
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from vdc.evaluate.results import spread, student_of
from vdc.report.results import Result, title
from vdc.report.settings import settings_of

RUN = re.compile(r"(-seed\d+)?-[0-9a-f]{6,10}$")  # ends of the names of runs, and of steps of studies
SCORES = ("top1", "top5", "still_top1", "still_top5")


def pooled(results: Sequence[Result]) -> list[Result]:
    """Results with those that differ in nothing but the seed of condensation put together.

    Args:
        results: evaluations.

    Returns:
        Evaluations whose scores, seeds, steps and losses are of all runs of all starts, with the first one's file
        and the number of `starts`; single ones as they are, and those where two are of the same seed.
    """
    groups: dict[str, list[Result]] = defaultdict(list)
    for file, held in results:
        groups[repr(identity(file, held))].append((file, held))
    found = []
    for members in groups.values():
        seeds = [held.get("condensed_seed") for _, held in members]
        several = len(members) > 1 and None not in seeds and len(set(seeds)) == len(seeds)
        found += [together(members)] if several else members
    return found


def identity(file: str, held: dict[str, Any]) -> tuple[Any, ...]:
    """All that results of several starts share.

    What a set was learnt from is a set of its own start: of that one's name neither seed nor digest counts.
    """
    settings = settings_of(file, held)
    settings.pop("start", None)
    told = {name: RUN.sub("", str(value)) for name, value in settings.items() if name.endswith(".init")}
    tested = (held.get("test_data") or {}).get("videos")
    return (
        title(held),
        held["ipc"],
        student_of(held),
        held["classes"],
        tested,
        len(held["seeds"]),
        sorted((settings | told).items(), key=lambda item: item[0]),
    )


def together(members: Sequence[Result]) -> Result:
    """One result of several."""
    file, first = members[0]
    every = [held for _, held in members]
    merged = first | {"condensed_seed": None, "starts": len(members)}
    for name in ("seeds", "steps", "final_loss"):
        if all(held.get(name) for held in every):
            merged[name] = [value for held in every for value in held[name]]
    for name in SCORES:
        if all(name in held for held in every):
            merged[name] = spread([value for held in every for value in held[name]["values"]])
    best = [held["reference_best"] for held in every]
    if None not in best:
        merged["reference_best"] = best[0] | {
            "top1": spread([value for one in best for value in one["top1"]["values"]])
        }
    totals = [held["bytes"]["total"] for held in every]
    if None not in totals:
        merged["bytes"] = first["bytes"] | {"total": round(statistics.fmean(totals))}
    return file, merged
