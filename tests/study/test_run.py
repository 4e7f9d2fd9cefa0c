"""Making steps: each once, whatever is killed; failures stop only what needs them."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vdc.study.plan import plan
from vdc.study.progress import Display
from vdc.study.run import run_local
from vdc.study.steps import LOCK, PROGRESS, state, take_lock, why
from vdc.study.study import load
from vdc.study.table import as_csv, rows
from vdc.system import progress

DRIVER = """
import sys
from pathlib import Path
from vdc.study import steps
from vdc.study.plan import plan
from vdc.study.progress import Display
from vdc.study.run import run_local
from vdc.study.study import load
steps.PROGRAM = (sys.executable, sys.argv[1])
from vdc.cli.signals import stop_at_signals
stop_at_signals()
made = plan(load(Path(sys.argv[2])))
with Display(made, Path(sys.argv[3]), list(made.steps), 2) as display:
    run_local(made, Path(sys.argv[3]), list(made.steps), 2, display)
"""
LATER = """
import pathlib, sys, time
time.sleep(1.5)
folder = pathlib.Path(sys.argv[1])
folder.mkdir()
(folder / "manifest.json").write_text("{}")
"""


def run(made, root, wanted=None):
    wanted = list(made.steps) if wanted is None else wanted
    with Display(made, root, wanted, 2) as display:
        return run_local(made, root, wanted, 2, display)


def times_made(root):
    return {path.parent.name: len(path.read_text().splitlines()) for path in root.glob("steps/*/made.txt")}


@pytest.mark.usefixtures("fake")
def test_every_step_is_made_once_and_seen_again(write, held, tmp_path):
    made = plan(load(write(held)))
    root = tmp_path / "out"
    assert {state(step, root) for step in made.steps.values()} == {"missing"}
    outcomes = run(made, root)
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert times_made(root) == dict.fromkeys(made.steps, 1)
    assert all(outcome.seconds for outcome in outcomes.values())
    again = run(made, root)
    assert not any(outcome.seconds for outcome in again.values())
    assert times_made(root) == dict.fromkeys(made.steps, 1)
    assert {state(step, root) for step in made.steps.values()} == {"done"}


@pytest.mark.usefixtures("fake")
def test_studies_share_steps_and_students_are_added(write, held, tmp_path):
    root = tmp_path / "out"
    run(plan(load(write(held))), root)
    held["axes"]["ipc"] = [5, 10]
    held["seeds"] = {"students": 4}
    run(plan(load(write(held, "other.yaml"))), root)
    counts = times_made(root)
    assert len(counts) == 9 + 2 * 2  # two methods at another size
    assert sorted(counts.values()) == [1] * 11 + [2] * 2  # and at 5 further students in the same folder


@pytest.mark.usefixtures("fake")
def test_a_failure_stops_only_what_needs_it(write, held, tmp_path):
    made, root = plan(load(write(held))), tmp_path / "out"
    (root / "steps/fail-a").mkdir(parents=True)
    outcomes = run(made, root)
    states = {
        (step.command, step.settings.get("model.name")): outcomes[n].state for n, step in made.steps.items()
    }
    assert states["fit", "a"] == "failed"
    assert states["fit", "b"] == "done"
    found = {row.cell.name: row for row in rows(made, root, outcomes)}
    assert found["a/1"].mean is None
    assert "no clip of class 3" in found["a/1"].reason
    assert found["b/5"].mean is not None
    assert not found["b/5"].reason
    failed = next(n for n in made.steps if outcomes[n].state == "failed")
    assert state(made.steps[failed], root) == "failed"
    assert "no clip of class 3" in rows(made, root, {})[0].reason  # another day
    (root / "steps/fail-a").rmdir()
    assert {outcome.state for outcome in run(made, root).values()} == {"done"}


@pytest.mark.usefixtures("fake")
def test_only_some_commands(write, held, tmp_path):
    made, root = plan(load(write(held))), tmp_path / "out"
    outcomes = run(made, root, [n for n in made.steps if n.startswith("evaluate")])
    assert {outcome.state for outcome in outcomes.values()} == {"blocked"}
    run(made, root, [n for n in made.steps if not n.startswith("evaluate")])
    assert sorted({name.split("-")[0] for name in times_made(root)}) == ["fit", "pretrain"]


@pytest.mark.usefixtures("fake")
def test_a_step_of_another_study_is_waited_for(write, held, tmp_path):
    held["axes"] = {"method": ["a"], "ipc": [1]}
    held["rules"] = []
    made, root = plan(load(write(held))), tmp_path / "out"
    fit = next(step for step in made.steps.values() if step.command == "fit")
    lock = take_lock(fit.folder(root) / LOCK)
    assert state(fit, root) == "running"
    command = [sys.executable, "-c", LATER, str(fit.folder(root) / "condensed")]
    other = subprocess.Popen(command, pass_fds=(lock,))
    os.close(lock)  # that process has it now
    outcomes = run(made, root)
    assert other.wait() == 0
    assert {outcome.state for outcome in outcomes.values()} == {"done"}
    assert fit.name not in times_made(root)


def start(study, root, seconds=0.4, **streams):
    fake = Path(__file__).with_name("fake.py")
    command = [sys.executable, "-c", DRIVER, str(fake), str(study), str(root)]
    environment = {**os.environ, "FAKE_SECONDS": str(seconds)}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, **streams)


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def begun(root):
    return len(list(root.glob("steps/*")))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the processes of steps in /proc")
def test_a_signal_ends_the_steps_and_is_the_exit_code(write, held, tmp_path):
    process = start(write(held), tmp_path / "out", seconds=60, stderr=subprocess.PIPE)
    steps = []
    while process.poll() is None and not steps:  # imports have children too
        time.sleep(0.05)
        steps = children(process.pid) if list(tmp_path.glob("out/steps/*/log.txt")) else []
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert b"Traceback" not in said
    assert not any(Path(f"/proc/{step}").exists() for step in steps)
    assert not times_made(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for the processes of steps in /proc")
@pytest.mark.timeout(900)
def test_kills_at_random_moments_lose_nothing(write, held, tmp_path):
    held["axes"]["ipc"] = [1, 5, 10, 20, 50]
    study, root = write(held), tmp_path / "out"
    made, draw = plan(load(study)), random.Random(0)
    for number in range(10):
        process, before = start(study, root), begun(root)
        while process.poll() is None and begun(root) == before < len(made.steps):
            time.sleep(0.05)  # Python's start takes seconds
        time.sleep(draw.uniform(0, 0.6))
        for victim in children(process.pid) if number % 2 and process.poll() is None else []:
            os.kill(victim, signal.SIGKILL)
        process.kill()
        process.wait()
    two = [start(study, root) for _ in range(2)]  # at once, in one folder
    assert [process.wait(300) for process in two] == [0, 0]
    assert times_made(root) == dict.fromkeys(made.steps, 1)
    assert start(study, tmp_path / "calm").wait(300) == 0
    tables = {as_csv(made.study, rows(made, folder, {})) for folder in (root, tmp_path / "calm")}
    assert len(tables) == 1


def test_the_last_error_of_a_log_is_the_reason():
    assert why("10%|#\r20%|##\nerror: no such file\nbye", 2) == "no such file"
    assert why("Traceback\nValueError: x\n", 1) == "ValueError: x"
    assert why("", -9) == "killed by signal 9"


def test_what_a_bar_prints_is_the_share_of_a_step(capsys, monkeypatch):
    monkeypatch.setattr(progress, "LINE", 0.0)
    list(progress.track(range(4), "Random, seed 0 (1 of 3)", 10, 6, "epochs"))
    assert PROGRESS.findall(capsys.readouterr().err)[-1] == ("10", "10")
