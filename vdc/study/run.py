"""Making the steps of a study on this machine, as many at once as there are devices."""

import os
import signal
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from graphlib import TopologicalSorter
from pathlib import Path

import torch

from vdc.study.plan import Plan
from vdc.study.progress import Display
from vdc.study.steps import PAUSE, Outcome, Running, needed


def run_local(
    plan: Plan, root: Path, wanted: Collection[str], jobs: int | None, display: Display
) -> dict[str, Outcome]:
    """Make steps in processes of this machine.

    Args:
        plan: the steps.
        root: folder of all steps.
        wanted: names of those to make; what they need and is not among them must be there.
        jobs: at once; `None` is one per device.
        display: what is shown meanwhile.

    Returns:
        How every wanted step ended.
    """
    devices = visible_devices()
    local = _Local(plan, root, jobs or max(1, len(devices)), devices, display)
    try:
        return local.run(wanted)
    finally:
        local.stop()


@contextmanager
def later(*signals: signal.Signals) -> Iterator[None]:
    """What comes meanwhile is handled at the end."""
    came: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: came.append(number)) for number in signals}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for caught in came:
        signal.raise_signal(caught)


def visible_devices() -> list[str]:
    """CUDA devices of this process, as `CUDA_VISIBLE_DEVICES` names them."""
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(i) for i in range(torch.cuda.device_count())]


class _Local:
    """Steps at work, each in one of the slots."""

    def __init__(self, plan: Plan, root: Path, jobs: int, devices: list[str], display: Display) -> None:
        self.plan = plan
        self.root = root
        self.devices = devices
        self.display = display
        self.slots: list[Running | None] = [None] * jobs
        self.outcomes: dict[str, Outcome] = {}

    def run(self, wanted: Collection[str]) -> dict[str, Outcome]:
        """Until all are done, failed or blocked."""
        needs = {name: [n for n in self.plan.steps[name].needs if n in wanted] for name in wanted}
        sorter = TopologicalSorter(needs)
        sorter.prepare()
        ready: list[str] = []
        while sorter.is_active():
            ready += sorter.get_ready()
            ended = self.ended() + [name for name in ready if self.settled(name) or self.start(name)]
            ready = [name for name in ready if name not in ended]
            sorter.done(*(name for name in ended if name in self.outcomes))
            self.display.show([one for one in self.slots if one is not None], self.outcomes)
            if not ended:
                time.sleep(PAUSE)
        return self.outcomes

    def settled(self, name: str) -> bool:
        """Whether nothing is to be done for a step: it is there, or one that it needs is not."""
        outcome = needed(self.plan.steps, name, self.root, self.outcomes)
        if outcome is not None:
            self.outcomes[name] = outcome
        return outcome is not None

    def start(self, name: str) -> bool:
        """Begin a step, if a slot is free and no other study is at it."""
        if None not in self.slots:
            return False
        slot = self.slots.index(None)
        device = (
            {"CUDA_VISIBLE_DEVICES": self.devices[slot % len(self.devices)]} if len(self.devices) > 1 else {}
        )
        with later(signal.SIGINT, signal.SIGTERM):  # a process that has begun is known, and can be stopped
            self.slots[slot] = Running.start(self.plan.steps[name], self.root, device)
        return self.slots[slot] is not None

    def ended(self) -> list[str]:
        """Names of the steps whose processes have ended since the last look."""
        names = []
        for slot, running in enumerate(self.slots):
            outcome = None if running is None else running.outcome()
            if running is not None and outcome is not None:
                self.outcomes[running.step.name] = outcome
                names.append(running.step.name)
                self.slots[slot] = None
        return names

    def stop(self) -> None:
        """End what still runs."""
        for running in self.slots:
            if running is not None:
                running.stop()
