"""The command line: a dispatcher that imports what a command needs once it is known to be one."""

import gc
import logging
import os
import sys
import warnings
from argparse import ArgumentError
from importlib import import_module
from itertools import pairwise, takewhile
from typing import Any

import vdc
from vdc.cli.listing import LISTED, Command, summary
from vdc.cli.signals import Stopped, stop_at_signals
from vdc.system.files import disk_error
from vdc.system.progress import be_quiet, is_quiet
from vdc.system.shipped import find
from vdc.system.text import nearest

COMMANDS = LISTED | {"completion": Command("vdc.cli.completion", "completion", {"positional": "shell"})}
IGNORED = (
    "You passed in a `val_dataloader` but have no `validation_step`",  # condensing validates nothing
    "`LightningModule.configure_optimizers` returned `None`",  # selection learns nothing
    "in eval mode at the start of training",  # teachers
    "The number of training batches",  # sets are tiny
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside Lightning 2.6
    r"``ArgumentParser.add_instantiator`` was deprecated",  # of Lightning, by jsonargparse
    "`max_epochs` was not set",  # methods say how many steps they take
)
UNSAID = (
    "GPU available: False",
    "TPU available: False",
    "💡 Tip",
    "Seed set to",
    "`Trainer.fit` stopped",
)  # by Lightning


def usage() -> str:
    """All commands, each with the first line of its docstring."""
    lines = [f"  {name:<11} {summary(command)}" for name, command in COMMANDS.items()]
    configs = "Configs are found by path, in ./configs, or among those shipped: --config rded_toy.yaml"
    codes = (
        "Exit codes: 0 done, 1 the machine could not (a full disk) or a bug, 2 wrong input, 130 and 143 stopped by\n"
        "SIGINT and SIGTERM. What is there stays whole; `vdc fit --resume` and the other commands, given again, go on."
    )
    head = (
        "usage: vdc COMMAND [options]; options: vdc COMMAND --help, or vdc help COMMAND; vdc --version\n"
        "       -q, --quiet with any command: results, warnings and errors only"
    )
    return "\n".join([head, "", *lines, "", configs, codes])


def check_files(args: list[str], positional: bool) -> None:
    """Refuse configs, sets and folders that are not there before anything slow is imported.

    Args:
        args: of a command.
        positional: whether it takes folders before its options.

    Raises:
        FileNotFoundError: what is missing; of a config, with the nearest names.
    """
    for flag, value in pairwise(args):
        if flag in ("-c", "--config") and not value.startswith(("{", "-")):
            find(value)
        elif flag == "--condensed" and not os.path.lexists(value):
            raise FileNotFoundError(f"--condensed {value}: no such folder, so no condensed set")
    for folder in takewhile(lambda arg: not arg.startswith("-"), args) if positional else ():
        if not os.path.lexists(folder):
            raise FileNotFoundError(f"{folder}: no such file or folder")


def load(command: Command) -> Any:
    """Import a command's function, without a collection of garbage at every turn: imports make none."""
    gc.disable()
    try:
        function = getattr(import_module(command.module), command.function)
    finally:
        gc.freeze()  # what is imported stays
        gc.enable()
    return function


def run(name: str, args: list[str]) -> None:
    """Run a command.

    Raises:
        ValueError: there is no such command.
    """
    if name not in COMMANDS:
        raise ValueError(f"no command {name!r}{nearest(name, COMMANDS)}")
    command = COMMANDS[name]
    check_files(args, positional=name != "completion" and "positional" in (command.options or {}))
    if command.options is None:
        load(command)(args)
        return
    function = load(command)
    import_module("vdc.cli.signatures").call(function, args, **command.options)


def quiet() -> None:
    """Keep what tells nobody anything from the terminal."""
    for message in IGNORED:
        warnings.filterwarnings("ignore", f".*{message}")
    for place in ("pytorch", "fabric"):
        logging.getLogger(f"lightning.{place}.utilities.rank_zero").addFilter(worth_saying)


def worth_saying(record: logging.LogRecord) -> bool:
    """Whether a message is no advertisement, nor what every run would say."""
    return not record.getMessage().startswith(UNSAID) and not (
        is_quiet() and record.levelno < logging.WARNING
    )


def main(args: list[str] | None = None) -> None:
    """Run one command; what stops it is one line, and its kind the exit code (see `usage`).

    Args:
        args: command and its options; `None` takes them from the command line, and stops at signals.
    """
    if args is None:
        stop_at_signals()
    given = (sys.argv[1:] if args is None else args) or ["--help"]
    asked = [word for word in given if word in ("-q", "--quiet")]
    name, *rest = [word for word in given if word not in asked] or ["--help"]
    if name == "help" and rest:
        name, *rest = rest[0], "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return
    if name == "--version":
        print(f"vdc {vdc.__version__}")
        return
    quiet()
    be_quiet(bool(asked))
    if "" not in sys.path:  # classes of one's own, `--model mine.MeanColour`, lie where the command is called
        sys.path.append("")
    try:
        run(name, rest)
    except Stopped as stop:
        again = "the same command with --resume" if name == "fit" else "the same command"
        print(f"stopped by {stop.name}; {again} goes on from what is done", file=sys.stderr)
        raise
    except Exception as error:
        ours = isinstance(error, (ArgumentError, ValueError, OSError))
        # the latter is Lightning's, which may not be imported yet
        short = memory_short(error)
        if not (ours or short) and type(error).__name__ != "MisconfigurationException":
            raise
        if os.environ.get("JSONARGPARSE_DEBUG"):  # the parser's own switch for tracebacks
            raise
        print(f"error: {short or said(error, rest)}", file=sys.stderr)
        raise SystemExit(1 if short or disk_error(error) is not None else 2) from None


def memory_short(error: Exception) -> str | None:
    """What to say where memory is short; it takes torch to tell, and without it none was used up."""
    if "torch" not in sys.modules:
        return None
    from vdc.system.memory import memory_error

    return memory_error(error)


def said(error: Exception, args: list[str]) -> str:
    """One line of an error; the nearest right names of classes and keys need them imported."""
    if "vdc.cli.commands" not in sys.modules and not isinstance(error, ArgumentError):
        return " ".join(str(error).split())
    from vdc.cli.configs import place_of
    from vdc.cli.messages import explain

    plain = [one for one in COMMANDS.values() if one.options is not None and one.module in sys.modules]
    functions = [getattr(sys.modules[one.module], one.function) for one in plain]
    return explain(error, lambda key: place_of(key, args), functions)
