"""Loggers of commands that train several networks: each gets one of its own, in its own folder."""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc import locate
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import Logger, TensorBoardLogger


def trainers(options: Mapping[str, Any], given: Any) -> Callable[..., Trainer]:
    """What makes the trainer of every network.

    Args:
        options: of all trainers.
        given: `--trainer.logger`: nothing or `true` keeps TensorBoard's, `false` logs nothing; else a class with its
            arguments, or several.
    """

    def make(**own: Any) -> Trainer:
        usual = own.get("logger")
        if given not in (None, True) and isinstance(usual, TensorBoardLogger):
            folder = Path(usual.root_dir)
            several = given if isinstance(given, list) else [given] if given else []
            own["logger"] = [logger_of(one, folder) for one in several] or False
        return Trainer(**{**options, **own})

    return make


def logger_of(given: Any, folder: Path) -> Logger:
    """A logger of one network.

    Args:
        given: class and arguments, as the command line has them; what they do not say is filled in.
        folder: of the network: where local files go, and, by its last two parts, what the run is called.
    """
    made: Any = locate(given["class_path"])
    known = inspect.signature(made).parameters
    arguments = {key: value for key, value in (given.get("init_args") or {}).items() if value is not None}
    said = {key: value for key, value in arguments.items() if value != known[key].default}
    title = "/".join(folder.parts[-2:])
    if "run_name" in known:  # MLflow: one store for all
        own: dict[str, Any] = {"run_name": title}
    elif "project" in known:  # Weights & Biases, Comet
        own = {"name": title, "project": "vdc"} | ({"save_dir": str(folder)} if "save_dir" in known else {})
    else:  # files
        own = {"save_dir": str(folder), "name": title if "save_dir" in said else "", "version": ""}
    logger: Logger = made(**arguments | own | said)
    return logger
