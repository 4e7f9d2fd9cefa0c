"""What a study shows while it runs: steps done, a bar for each that runs, and when all will be done."""

import statistics
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from vdc.study.commands import label_of
from vdc.study.plan import Plan
from vdc.study.steps import RECORD, Outcome, Running
from vdc.system.files import read_json
from vdc.system.progress import is_quiet


class Display:
    """One bar for all steps, and one for each that runs; a line per step where the output is no terminal.

    Args:
        plan: the steps.
        root: folder of all steps.
        left: names of those to make.
        jobs: at once, for the expected end.
    """

    def __init__(self, plan: Plan, root: Path, left: Sequence[str], jobs: int) -> None:
        self.plan = plan
        self.root = root
        self.left = list(left)
        self.jobs = jobs
        self.console = Console(quiet=is_quiet())
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.whole = self.bars.add_task("steps", total=len(left), note="")
        self.tasks: dict[str, TaskID] = {}
        self.told: set[str] = set()

    def __enter__(self) -> "Display":
        """Start drawing."""
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture."""
        self.bars.stop()

    def show(self, running: Sequence[Running], outcomes: Mapping[str, Outcome]) -> None:
        """Draw the state of all steps."""
        for name in outcomes.keys() - self.told:
            self.told.add(name)
            outcome = outcomes[name]
            if outcome.seconds or outcome.state != "done":
                text = f"{outcome.state} {name}" + (f": {outcome.reason}" if outcome.reason else "")
                self.console.print(
                    f"{text} ({timedelta(seconds=round(outcome.seconds))})", markup=False, highlight=False
                )
            if name in self.tasks:
                self.bars.remove_task(self.tasks.pop(name))
        for one in running:
            name = one.step.name
            if name not in self.tasks:
                self.tasks[name] = self.bars.add_task(f"  {name}", total=100, note="")
                if not self.console.is_terminal:
                    self.console.print(f"started {name}", markup=False, highlight=False)
            self.bars.update(self.tasks[name], completed=round(100 * one.share()))
        self.bars.update(self.whole, completed=len(outcomes), note=self.expected(outcomes, running))

    def expected(self, outcomes: Mapping[str, Outcome], running: Sequence[Running]) -> str:
        """When all will be done, from what steps of the same kind took; nothing while too little is known."""
        spent = {one.step.name: time.monotonic() - one.started for one in running}
        known = [seconds_of(self.plan, self.root, name) for name in self.left if name not in outcomes]
        if not known or None in known:
            return ""
        left = (sum(one for one in known if one is not None) - sum(spent.values())) / self.jobs
        return f"about {timedelta(seconds=max(0, round(left)))} left"


def seconds_of(plan: Plan, root: Path, name: str) -> float | None:
    """What a step takes, as the median of finished ones with its command and config; `None` if there are none."""
    kind = (plan.steps[name].command, label_of(name))
    records = [
        step.folder(root) / RECORD
        for step in plan.steps.values()
        if (step.command, label_of(step.name)) == kind
    ]
    found = [read_json(record) for record in records if record.is_file()]
    seconds = [record["seconds"] for record in found if record["state"] == "done" and record["seconds"]]
    return statistics.median(seconds) if seconds else None
