"""Making the steps of a study on a Ray cluster: dependencies, devices, retries and nodes are Ray's work."""

import time
from collections.abc import Collection
from importlib import import_module
from pathlib import Path
from typing import Any

from vdc.study.commands import Planned
from vdc.study.plan import Plan
from vdc.study.progress import Display
from vdc.study.steps import PAUSE, Outcome, Running, finished, needed

RETRIES = 3  # of a step whose worker or node is lost


def run_on_ray(
    plan: Plan, root: Path, wanted: Collection[str], jobs: int | None, display: Display
) -> dict[str, Outcome]:
    """Make steps as Ray tasks; the folder must be storage that all nodes share.

    Args:
        plan: the steps.
        root: folder of all steps.
        wanted: names of those to make; what they need and is not among them must be there.
        jobs: steps at once; `None` is as many as the cluster has room for.
        display: what is shown meanwhile.

    Returns:
        How every wanted step ended.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        ray: Any = import_module("ray")  # an extra
    except ImportError as error:
        raise ValueError("--engine ray needs Ray: pip install 'vdcondense[ray]'") from error
    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=jobs, log_to_driver=False)  # RAY_ADDRESS names a cluster that is there
    gpus = 1 if ray.cluster_resources().get("GPU", 0) >= 1 else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(make)
    try:
        waiting: dict[str, Any] = {}
        for name in plan.steps:  # earlier ones first
            if name in wanted:
                near = {one: plan.steps[one] for one in (name, *plan.steps[name].needs)}
                before = [waiting[need] for need in plan.steps[name].needs if need in waiting]
                waiting[name] = task.options(name=name).remote(near, name, root.resolve(), *before)
        outcomes: dict[str, Outcome] = {}
        left = {reference: name for name, reference in waiting.items()}
        while left:
            done, _ = ray.wait(list(left), timeout=PAUSE)
            for reference in done:
                outcomes[left.pop(reference)] = ended(ray, reference)
            display.show([], outcomes)
        return outcomes
    finally:
        if started:
            ray.shutdown()


def ended(ray: Any, reference: Any) -> Outcome:
    """What a task returned, or why it returned nothing."""
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        return Outcome("failed", str(error).strip().splitlines()[-1])
    return outcome


def make(steps: dict[str, Planned], name: str, root: Path, *before: Outcome) -> Outcome:
    """Make one step in a process of its own, on whatever node this runs; those before it have ended.

    Args:
        steps: all of them.
        name: of this one.
        root: folder of all steps.
        before: how the steps that it needs ended.
    """
    step = steps[name]
    outcome = needed(steps, name, root, dict(zip(steps[name].needs, before, strict=False)))
    while outcome is None:
        running = Running.start(step, root, {})
        while running is not None and (outcome := running.outcome()) is None:
            time.sleep(PAUSE)
        if running is None:  # another study, or the process of a worker that was lost, is at it
            time.sleep(PAUSE)
            outcome = Outcome("done") if finished(step, root) else None
    return outcome
