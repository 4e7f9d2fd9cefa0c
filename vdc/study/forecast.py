"""What the missing steps of a study will take, from what finished steps of the same kind took."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from vdc.study.commands import RESULT, Planned, label_of
from vdc.study.plan import Plan
from vdc.study.steps import RECORD, finished
from vdc.system.files import read_json

HEADER = ["cell", "steps", "missing", "unknown", "time", "disk MiB", "memory MiB"]


@dataclass(frozen=True)
class Cost:
    """What a step took, or will take.

    Args:
        seconds: of its process.
        disk: bytes of its folder.
        memory: most bytes of its process on the host.
    """

    seconds: float
    disk: int
    memory: int


def measured(root: Path) -> dict[str, Cost]:
    """Cost of every finished step below a folder, of whichever study, by name."""
    found = {}
    for path in sorted((root / "steps").glob(f"*/{RECORD}")):
        record = read_json(path)
        if record["state"] == "done":
            disk = sum(one.stat().st_size for one in path.parent.rglob("*") if one.is_file())
            found[path.parent.name] = Cost(
                seconds_of(path.parent, record["seconds"]), disk, record.get("memory", 0)
            )
    return found


def seconds_of(folder: Path, process: float) -> float:
    """Of an evaluation those of one student, of others those of the process."""
    result = folder / f"{RESULT}.json"
    if not result.is_file():
        return process
    held = read_json(result)
    mean = held.get("seconds", {}).get("mean")  # the process may have added few students to many
    return process / len(held["seeds"]) if mean is None else float(mean)


def expected(step: Planned, known: Mapping[str, Cost]) -> Cost | None:
    """Median of finished steps of that command and config, else of that command; `None` where there are none."""
    same = [name for name in known if name.split("-")[0] == step.command]
    alike = [known[name] for name in same if label_of(name) == label_of(step.name)]
    costs = alike or [known[name] for name in same]
    if not costs:
        return None
    times = step.students or 1
    return Cost(
        statistics.median(one.seconds for one in costs) * times,
        int(statistics.median(one.disk for one in costs)),
        max(one.memory for one in costs),
    )


def forecast(plan: Plan, wanted: Iterable[str], root: Path, jobs: int) -> list[list[str]]:
    """Header, a line per cell, one of all. Steps that cells share count in each, and once in all.

    Args:
        plan: cells and steps.
        wanted: names of the steps to make.
        root: folder of all steps.
        jobs: steps at once, which all share the time and add up in memory.
    """
    kept, known = set(wanted), measured(root)
    missing = {
        name: expected(plan.steps[name], known) for name in kept if not finished(plan.steps[name], root)
    }
    lines = [line(cell.name, sorted(plan.needed(cell.runs) & kept), missing, 1) for cell in plan.cells]
    return [HEADER, *lines, line("all", sorted(kept), missing, jobs)]


def line(title: str, names: Sequence[str], missing: Mapping[str, Cost | None], jobs: int) -> list[str]:
    """Of some steps together; what no finished step tells is counted as unknown, and is not in the sums."""
    left = [name for name in names if name in missing]
    costs = [cost for name in left if (cost := missing[name]) is not None]
    memory = sum(sorted((cost.memory for cost in costs), reverse=True)[:jobs])
    figures = [len(names), len(left), len(left) - len(costs)]
    return [
        title,
        *map(str, figures),
        str(timedelta(seconds=round(sum(cost.seconds for cost in costs) / jobs))),
        f"{sum(cost.disk for cost in costs) / 2**20:.1f}",
        f"{memory / 2**20:.0f}",
    ]
