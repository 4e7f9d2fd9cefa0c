"""Plain `vdc` commands, each known by a digest of what it does and of what it reads."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from vdc.data import RealData
from vdc.spec import ClipSpec
from vdc.study.study import Command, read_yaml
from vdc.system import shipped
from vdc.system.overlays import below

Flags = dict[str, Any]
READS_DATA = ("pretrain", "fit", "evaluate")
WRITES_SET = ("fit", "relabel", "join")
SEVERAL = ("ipc", "student", "sets")  # flags of several values, one word each
HARDWARE = (
    "data.num_workers",
    "progress",
    "trainer.enable_progress_bar",
    "trainer.accelerator",
    "checkpoint",
    "preview",
)
RESULT = "result"
PARAMETERS = inspect.signature(RealData).parameters.items()
DEFAULTS = {f"data.{name}": one.default for name, one in PARAMETERS if name not in ("root", "spec")}
DEFAULTS |= {f"data.spec.{one.name}": one.default for one in fields(ClipSpec)}  # of RealData


@dataclass(frozen=True)
class Planned:
    """A command whose inputs are known.

    Args:
        name: of its folder: command, config, and digest.
        command: of `vdc`.
        config: config files.
        flags: further flags; `@name` stands for what the step of that name writes.
        settings: what configs and flags say together, flat.
        needs: names of the steps whose results it reads.
        students: seeds of an evaluation.
    """

    name: str
    command: Command
    config: tuple[str, ...]
    flags: Flags
    settings: Flags
    needs: tuple[str, ...]
    students: int = 0

    def folder(self, root: Path) -> Path:
        """Where everything of this step lies."""
        return root / "steps" / self.name

    def args(self, root: Path) -> list[str]:
        """The words after `vdc`, with all folders below `root`."""
        folder = self.folder(root)
        own: Flags = {}
        if self.command == "fit":
            own = {"trainer.default_root_dir": str(folder), "resume": True}
        elif self.command == "evaluate":
            own = {"seeds": self.students, "name": RESULT, "out": str(folder)}
        else:
            own = {"out": output(self.name, root)}
        words: list[str] = [self.command]
        for name in self.config:
            words += ["--config", name]
        for key, value in {**self.flags, **own}.items():
            words += word(key, referred(value, lambda name: output(name, root)))
        return words


def output(name: str, root: Path) -> str:
    """What later steps read of a step."""
    folder = root / "steps" / name
    return str(folder / "condensed" if name.split("-")[0] in WRITES_SET else folder)


def word(key: str, value: Any) -> list[str]:
    """A flag and its value as words of a command line."""
    values = value if key in SEVERAL and isinstance(value, list) else [value]
    texts = [text if isinstance(text, str) else json.dumps(text) for text in values]
    if key == "sets":
        return texts
    return (
        [f"--{key}"]
        if value is True and key in ("resume", "full", "random_twin", "freeze")
        else [f"--{key}", *texts]
    )


def referred(value: Any, of: Callable[[str], Any]) -> Any:
    """`value` with every string `@name` in it replaced by `of(name)`."""
    if isinstance(value, str) and value.startswith("@"):
        return of(value[1:])
    if isinstance(value, list):
        return [referred(one, of) for one in value]
    if isinstance(value, dict):
        return {key: referred(one, of) for key, one in value.items()}
    return value


@cache
def read_config(name: str) -> dict[str, Any]:
    """Content of a config found by its name, without those it builds on.

    Raises:
        ValueError: there is none, or it is no YAML.
    """
    try:
        held = read_yaml(shipped.find(name))
    except FileNotFoundError as error:
        raise ValueError(str(error)) from error
    return {key: value for key, value in held.items() if key != "overlays"}


def layers(names: Sequence[str]) -> list[dict[str, Any]]:
    """Contents of configs, each after those it builds on."""
    return [read_config(one) for name in names for one in (*below(name, ()), name)]


def label_of(name: str) -> str:
    """What stands between command and digest in a step's name."""
    return "-".join(name.split("-")[1:-1])


def flat(layers: Sequence[Mapping[str, Any]]) -> Flags:
    """Settings of configs and flags, later ones over earlier, by dotted keys without `init_args` and `class_path`."""
    settings: Flags = {}
    for layer in layers:
        for key, value in _leaves(layer):
            settings[key] = value
    return settings


def _leaves(layer: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in layer.items():
        name = ".".join(
            part for part in f"{above}.{key}".split(".") if part not in ("", "init_args", "class_path")
        )
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, name)
        else:
            yield name, value


def digest(command: str, settings: Flags) -> str:
    """Ten digits that name what a command does.

    Args:
        command: of `vdc`.
        settings: what configs and flags say. What only decides where and how fast does not count, nor a default of
            the data that is said all the same.
    """
    usual = DEFAULTS if settings.get("data") == "RealData" else {}
    kept = {
        key: value
        for key, value in settings.items()
        if not any(key == name or key.startswith(f"{name}.") for name in HARDWARE)
        and (key not in usual or plain(value) != plain(usual[key]))
    }
    if "data.root" in kept:
        kept["data.root"] = str(Path(kept["data.root"]).resolve())
    text = json.dumps([command, plain(kept)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def plain(value: Any) -> Any:
    """`value` with every number and truth value as text, however YAML or a command line wrote it."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    try:
        return repr(float(value))
    except ValueError:
        return str(value)
