"""Configs of a command line: found by name, their keys by file and line."""

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # exported at run time

from vdc.system.overlays import with_overlays
from vdc.system.shipped import find

SEVERAL = ("student", "ipc")  # options of several values, of which a config may give one


def key_lines(path: str | Path) -> dict[str, int]:
    """The line of every key of a YAML file, by the key's name.

    Raises:
        TypeError: the file is no mapping of keys, or has one twice; what the parser takes for wrong input.
    """
    try:
        root = yaml.compose(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise TypeError(f"{path} is not UTF-8 text") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        raise TypeError(f"{path}{line}: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise TypeError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(root, yaml.MappingNode):
        raise TypeError(f"{path}: a config is a mapping of keys to values, and this is none")
    lines: dict[str, int] = {}
    nodes: list[yaml.Node] = [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            names = [str(key.value) for key, _ in node.value]
            for key, value in node.value:
                name, line = str(key.value), key.start_mark.line + 1
                if names.count(name) > 1:
                    raise TypeError(f"{path}, line {line}: {name} is there twice")
                lines.setdefault(name, line)
                nodes.append(value)
    return lines


def place_of(key: str, args: list[str]) -> str:
    """Where a key of a command line's configs is, `file, line n: `; nothing where a flag says it, or none does."""
    name = key.split(".")[-1]
    if any(arg.startswith("--") and arg.partition("=")[0].split(".")[-1].lstrip("-") == name for arg in args):
        return ""
    flags = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("-c", "--config", action="append", default=[])
    for config in flags.parse_known_args(with_overlays(args))[0].config:
        try:
            path = find_config(config)
            lines = key_lines(path)
        except (TypeError, OSError):
            continue
        if name in lines:
            return f"{path}, line {lines[name]}: "
    return ""


def find_config(name: str) -> Path:
    """A configuration file by its path, else by its name in `./configs`, else the copy shipped with vdc.

    Raises:
        TypeError: there is none, with the nearest names; what the parser takes for wrong input.
    """
    try:
        return find(name)
    except FileNotFoundError as error:
        raise TypeError(str(error)) from error


class ConfigByName(ActionConfigFile):
    """`--config rded_toy.yaml` finds it in configs/ when it is not a path."""

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        """Read the file, or the JSON text that a command itself passes."""
        if not value.startswith("{"):
            value = str(find_config(value))
            if key_lines(value).keys() & set(SEVERAL):  # which also refuses what is no mapping of keys
                held = yaml.safe_load(Path(value).read_text(encoding="utf-8"))
                one = {key: [held[key]] for key in SEVERAL if not isinstance(held.get(key, []), list)}
                value = json.dumps(held | one) if one else value  # `student: minic3d`, as one would write it
        ActionConfigFile.apply_config(parser, cfg, dest, value)
