"""One folder is one run: what a run is called, where it writes, and what of an earlier one it leaves alone."""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from vdc.methods.base.learner import Learner
from vdc.system.files import digest, disk_error, move_aside, read_json, sweep, write_json, write_link
from vdc.system.processes import first_process
from vdc.train.checkpoints import REACHED
from vdc.train.run import processes_of

RUNS = Path("runs")
ABOUT = "run.json"  # what a run is, in its folder
CHECKPOINTS, SET = "checkpoints", "condensed"
OWN = (
    CHECKPOINTS,
    ABOUT,
    "config.yaml",
    "hparams.yaml",
    "events.out.tfevents.*",
)  # what a run writes, but for its set
TRAINER = (
    "max_steps", "max_epochs", "max_time", "min_steps", "min_epochs", "precision", "accumulate_grad_batches",
    "gradient_clip_val", "gradient_clip_algorithm", "limit_train_batches", "overfit_batches", "fast_dev_run",
)  # fmt: skip
ELSEWHERE = (
    "data.num_workers", "data.cache", "data.cache_gb", "model.out", "progress", "checkpoint_every", "out", "dry_run",
)  # fmt: skip


def deciding(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a configuration decides what is computed, by its shortest keys; paths without links.

    Args:
        config: as JSON has it.
    """
    plain = {key: _real(value) for key, value in _flat(config)}
    return {
        key: value
        for key, value in plain.items()
        if key not in ELSEWHERE
        and key.split(".")[0] not in ("checkpoint", "preview")
        and (key.split(".")[0] != "trainer" or key.split(".")[1] in TRAINER)
    }


def _flat(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Values by dotted key; those of a class as if its arguments stood directly below it."""
    if not isinstance(config, Mapping) or not config:
        yield key, config
        return
    for name, value in config.items():
        plain = key if name in ("class_path", "init_args") else f"{key}.{name}" if key else name
        if name == "class_path":
            value = str(value).rsplit(".", 1)[-1]
        yield from _flat(value, plain)


def _real(value: Any) -> Any:
    """A path that is there, absolute and without links; lists of such; anything else as it is."""
    if isinstance(value, list):
        return [_real(one) for one in value]
    return (
        os.path.realpath(value)
        if isinstance(value, str) and os.sep in value and os.path.exists(value)
        else value
    )


def averaged(method: str, trainer: Any) -> dict[str, Any]:
    """What several processes change in what a method learns, for the keys of its run; says that they do.

    Methods that own classes, or choose clips, come to the same result on any number of processes; others average
    over what each process draws.

    Args:
        method: class path.
        trainer: its configuration.
    """
    cls = locate(method)
    if not (isinstance(cls, type) and issubclass(cls, Learner)) or cls.separable:
        return {}
    several = processes(trainer)
    if several:
        rank_zero_warn(
            f"{cls.__name__} on {several['processes']} processes averages over what each of them draws: its result "
            "differs from that of one process, and has a folder of its own"
        )
    return several


def selects(method: str) -> bool:
    """Whether a method, by its class path, chooses real clips in one pass."""
    return bool(getattr(locate(method), "selects", False))


def processes(trainer: Any) -> dict[str, Any]:
    """How many processes a trainer of some configuration runs on, for the keys of a run; nothing for one."""
    hardware = {key: trainer[key] for key in ("accelerator", "devices", "num_nodes")}
    world, _ = processes_of(partial(Trainer, **hardware))
    return {} if world == 1 else {"processes": world}


def short(name: str) -> str:
    """A part of a folder's name."""
    return re.sub(r"[^\w.+]+", "_", name).strip("._") or "x"


def data_name(data: Mapping[str, Any]) -> str:
    """What a run calls its data: the folder's name."""
    kind, root = data["class_path"].rsplit(".", 1)[-1], data["init_args"].get("root")
    return "toy" if kind == "ToyData" else kind if root is None else os.path.basename(os.path.realpath(root))


def steps_of(keys: Mapping[str, Any]) -> list[int]:
    """How long a run was to be, in steps and epochs."""
    found = [keys.get(key) for key in REACHED]
    return [value if isinstance(value, int) else 0 for value in found]


def keys_of(about: Path) -> dict[str, Any]:
    """What the run in a folder was of; nothing where its file is none of ours."""
    try:
        held = read_json(about)
    except (OSError, ValueError):
        return {}
    keys = held.get("keys") if isinstance(held, dict) else None
    return keys if isinstance(keys, dict) else {}


@dataclass(frozen=True)
class Run:
    """A run and its folder.

    Args:
        keys: all that decides what it computes.
        folder: everything that it writes is in there.
        link: name in `runs/` that leads to the newest run of its configuration; `None` for none.
    """

    keys: dict[str, Any]
    folder: Path
    link: str | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any], words: list[str], folder: str | None, link: str | None) -> "Run":
        """The run of a configuration.

        Args:
            config: as JSON has it.
            words: that name its folder, before the digest of all that decides.
            folder: given by hand; `None` makes a name in `runs/`.
            link: see the class; none where the folder was given.
        """
        keys = deciding(config)
        name = "-".join([*map(short, words), digest(keys, 6)])
        return cls(keys, RUNS / name, link) if folder is None else cls(keys, Path(folder))

    @property
    def last(self) -> Path:
        """The checkpoint that a killed run goes on from."""
        return self.folder / CHECKPOINTS / "last.ckpt"

    def shorter(self) -> Path | None:
        """The last checkpoint of the longest of the runs that differ from this one only in being shorter."""
        found = []
        for about in RUNS.glob(f"{self.folder.name.rsplit('-', 1)[0]}-*/{ABOUT}"):
            keys, last = keys_of(about), about.parent / CHECKPOINTS / "last.ckpt"
            odd = {key for key in {*keys, *self.keys} if keys.get(key) != self.keys.get(key)}
            if last.is_file() and odd <= REACHED.keys():
                found.append((max(steps_of(keys)), last))
        limit = max(steps_of(self.keys))
        return max((one for one in found if one[0] <= limit), default=(0, None))[1]

    @contextmanager
    def opened(self, goes_on: bool) -> Iterator[None]:
        """Hold the folder while the run writes in it; what an earlier start left there moves aside, but for its set.

        Args:
            goes_on: the run continues the one that is there.

        Raises:
            ValueError: another process holds it.
        """
        if not first_process():
            yield
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(f"{self.folder} is being written by another process of this run") from error
            for place in (self.folder, self.folder / CHECKPOINTS):
                sweep(place)
            if not goes_on:
                move_aside(*(path for pattern in OWN for path in sorted(self.folder.glob(pattern))))
            write_json(self.folder / ABOUT, {"keys": self.keys})
            try:
                yield
            except OSError as error:
                if error.filename is not None or (number := disk_error(error)) is None:
                    raise
                raise OSError(
                    number, os.strerror(number), str(self.folder)
                ) from error  # TensorBoard names no file

    def enter(self) -> None:
        """Say in the folder what run it is of; where it was another's, that one's configuration moves aside."""
        if not first_process():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        sweep(self.folder)
        about = self.folder / ABOUT
        if about.is_file() and keys_of(about) != self.keys:
            move_aside(*(path for path in (about, self.folder / "config.yaml") if path.is_file()))
        write_json(about, {"keys": self.keys})

    @property
    def shown(self) -> Path:
        """What to call the run in a command: its link where it has one."""
        link = self.folder if self.link is None else RUNS / self.link
        return link if link.resolve() == self.folder.resolve() else self.folder

    def point(self) -> None:
        """Have `runs/<config>` lead to this run."""
        if not first_process():
            return
        if self.link is None or self.link == self.folder.name:
            return
        link = RUNS / self.link
        if link.exists() and not link.is_symlink():
            print(f"{link} is no link and stays as it is; this run is {self.folder}")
            return
        write_link(link, self.folder.name)


class Linked(Callback):
    """Have `runs/<config>` lead to a run once it has begun to learn, not when it is refused.

    Args:
        run: which.
    """

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """It has begun."""
        self.run.point()
