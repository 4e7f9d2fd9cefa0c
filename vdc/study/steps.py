"""One step: whether it is done, its lock, and its process."""

import fcntl
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from vdc.condensed import code
from vdc.condensed.manifest import MANIFEST
from vdc.nets import interpolator, stored
from vdc.nets.experts import info_file
from vdc.study.commands import RESULT, Planned, output
from vdc.system.files import read_json, write_json
from vdc.system.memory import RSS_UNIT

State = Literal["done", "running", "missing", "failed", "blocked"]
LOG, LOCK, RECORD = "log.txt", ".study.lock", "step.json"  # a run holds a lock of its own, `.lock`
PROGRESS = re.compile(r": (\d+)/(\d+) \w+,")  # lines of bars, see `vdc.system.progress`
PAUSE = 0.3  # seconds between two looks at a process
TAIL = 4096  # bytes of a log that are looked at
PROGRAM = (sys.executable, "-m", "vdc")
BARS = {"TQDM_MININTERVAL": "2"}  # seconds between two lines of a bar in a log


@dataclass(frozen=True)
class Outcome:
    """How a step ended.

    Args:
        state: `done`, `failed`, or `blocked` by one that it needs.
        reason: what went wrong, in one line.
        seconds: of its process; 0 where nothing had to be done.
        finished: time stamp.
        memory: most bytes that its process, or one that it started, held at once on the host.
    """

    state: State
    reason: str = ""
    seconds: float = 0.0
    finished: float = 0.0
    memory: int = 0


def finished(step: Planned, root: Path) -> bool:
    """Whether everything that a step writes is there. Every command writes it whole, and last."""
    folder, settings = step.folder(root), step.settings
    if step.command == "evaluate":
        result = folder / f"{RESULT}.json"
        return result.is_file() and {*range(step.students)} <= {*read_json(result)["seeds"]}
    if step.command != "pretrain":
        return (Path(output(step.name, root)) / MANIFEST).is_file()
    if settings.get("experts"):
        first, count = int(settings.get("first", 0)), int(settings["experts"])
        return all(info_file(folder, number).is_file() for number in range(first, first + count))
    info = {"interpolator": interpolator.INFO, "code": code.INFO}.get(settings.get("net", ""), stored.INFO)
    return (folder / info).is_file()


def locked(step: Planned, root: Path) -> bool:
    """Whether a process is at work on a step."""
    path = step.folder(root) / LOCK
    if not path.is_file():
        return False
    handle = take_lock(path)
    if handle is None:
        return True
    os.close(handle)
    return False


def state(step: Planned, root: Path) -> State:
    """Done, running, failed at the last try, or missing."""
    if finished(step, root):
        return "done"
    if locked(step, root):
        return "running"
    record = step.folder(root) / RECORD
    return "failed" if record.is_file() and read_json(record)["state"] == "failed" else "missing"


def take_lock(path: Path) -> int | None:
    """An open file that holds the lock, or `None` while another process does. It is free once all have closed it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def needed(
    steps: Mapping[str, Planned], name: str, root: Path, outcomes: Mapping[str, Outcome] | None = None
) -> Outcome | None:
    """How a step has ended before it began: it is there already, or one that it needs is not; else `None`.

    Args:
        steps: all of them.
        name: of this one.
        root: folder of all steps.
        outcomes: how others ended, for the reason.
    """
    if finished(steps[name], root):
        return Outcome("done")
    lacking = [need for need in steps[name].needs if not finished(steps[need], root)]
    if not lacking:
        return None
    told = (outcomes or {}).get(lacking[0])
    return Outcome("blocked", f"needs {lacking[0]}" + (f": {told.reason}" if told and told.reason else ""))


class Running:
    """A step at work in a process of its own, which holds the step's lock as long as it lives.

    Args:
        step: what to do.
        root: folder of all steps.
        environment: variables beside those of this process.
    """

    def __init__(self, step: Planned, root: Path, environment: Mapping[str, str], lock: int) -> None:
        self.step = step
        self.root = root
        self.started = time.monotonic()
        self.log = step.folder(root) / LOG
        words = step.args(root)
        if step.command == "fit":
            words += ["--trainer.callbacks+=TQDMProgressBar"]  # a bar that logs can hold
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **BARS, **environment},
                pass_fds=(lock,),
                start_new_session=True,  # an interrupt is for the study, which stops its steps in order
            )
        os.close(lock)  # the process has it now: it outlives a study that is killed

    @classmethod
    def start(cls, step: Planned, root: Path, environment: Mapping[str, str]) -> "Running | None":
        """A step at work, or `None` while another study works on it, or where it has just finished it."""
        lock = take_lock(step.folder(root) / LOCK)
        if lock is not None and finished(step, root):
            os.close(lock)
            return None
        return None if lock is None else cls(step, root, environment, lock)

    def tail(self) -> str:
        """The end of the log."""
        with self.log.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL))
            return log.read().decode("utf-8", "replace")

    def share(self) -> float:
        """How much of its current run is done, by the last bar in the log."""
        found = PROGRESS.findall(self.tail())
        done, total = map(int, found[-1]) if found else (0, 1)
        return min(1.0, done / max(1, total))

    def outcome(self) -> Outcome | None:
        """How it ended, also written beside its log; `None` while it runs."""
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)  # `poll` does not tell the memory
        if not pid:
            return None
        code = self.process.returncode = os.waitstatus_to_exitcode(status)
        seconds = round(time.monotonic() - self.started, 2)
        memory = used.ru_maxrss * RSS_UNIT
        if finished(self.step, self.root):
            outcome = Outcome("done", "", seconds, time.time(), memory)
        else:
            outcome = Outcome("failed", why(self.tail(), code), seconds, time.time(), memory)
        write_json(self.step.folder(self.root) / RECORD, asdict(outcome))
        return outcome

    def stop(self) -> None:
        """End the process and those it started."""
        try:
            os.killpg(self.process.pid, 15)
        except ProcessLookupError:
            return
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, 9)
            self.process.wait()


def why(log: str, code: int) -> str:
    """What a log says went wrong, in one line."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", log) if line.strip()]
    told = [line for line in lines if line.startswith("error: ")] or lines[-1:]
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return told[-1].removeprefix("error: ") if told and code > 0 else " ".join([how, *told[-1:]])
