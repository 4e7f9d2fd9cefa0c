"""`vdc completion`: what a shell completes after `vdc`."""

import argparse
import inspect
from importlib import import_module

import shtab

from vdc.cli.listing import LISTED, summary
from vdc.cli.study import CLASSES, parser_of
from vdc.system.shipped import paths


def completion(shell: str) -> None:
    """Print what a shell completes: `vdc completion bash >> ~/.bashrc`, or `eval "$(vdc completion bash)"`.

    Args:
        shell: that reads it.

    Raises:
        ValueError: nobody knows how to.
    """
    if shell not in shtab.SUPPORTED_SHELLS:
        raise ValueError(f"vdc completion {shell}: one of {', '.join(shtab.SUPPORTED_SHELLS)} is needed")
    print(shtab.complete(tree(), shell))


def tree() -> argparse.ArgumentParser:
    """All commands with their options, without what these do."""
    parser = argparse.ArgumentParser("vdc")
    parser.add_argument("--version", action="store_true")
    commands = parser.add_subparsers()
    for name, command in LISTED.items():
        one = commands.add_parser(name, help=summary(command).replace("%", "%%"), add_help=False)
        one.add_argument("-h", "--help", action="store_true", help="what it does and takes")
        one.add_argument("-q", "--quiet", action="store_true", help="results, warnings and errors only")
        if name in CLASSES:
            for flag in flags_of(name):
                one.add_argument(flag, choices=stems("configs") if flag == "--config" else None)
            continue
        if name == "study":
            one.add_argument("file", choices=stems("studies"))
        function = getattr(import_module(command.module), "study" if name == "study" else command.function)
        for parameter in inspect.signature(function).parameters:
            if parameter not in ("file", "extra", (command.options or {}).get("positional")):
                one.add_argument(f"--{parameter}")
        if command.options and "positional" in command.options:
            one.add_argument("place", nargs="*").complete = shtab.FILE  # type: ignore[attr-defined]
    return parser


def flags_of(name: str) -> list[str]:
    """Long options of one of Lightning's commands, each once."""
    found = [flag for action in parser_of(name)._actions for flag in action.option_strings]
    return [
        flag
        for flag in dict.fromkeys(found)
        if flag.startswith("--") and flag[-1] != "+" and flag != "--help"
    ]


def stems(kind: str) -> list[str]:
    """Names that stand for shipped files."""
    return sorted({path.stem for path in paths(kind) if path.parent.name != "base"})
