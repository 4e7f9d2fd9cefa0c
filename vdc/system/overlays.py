"""Configs that build on others: `overlays: [data_grid]` in a file stands for those files, applied before it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from vdc.system.shipped import find

FLAGS = ("-c", "--config")


def with_overlays(args: Sequence[str]) -> list[str]:
    """A command line whose every `--config X` comes after the configs that X names as its `overlays`.

    What is wrong with a file is left to the parser to say.
    """
    expanded = list[str]()
    rest = iter(args)
    for arg in rest:
        flag, equals, value = arg.partition("=")
        if flag not in FLAGS or not (equals or (value := next(rest, ""))):
            expanded.append(arg)
            continue
        for name in (*below(value, ()), value):
            expanded += ["--config", name]
    return expanded


def below(name: str, above: tuple[str, ...]) -> Iterator[str]:
    """The overlays of a config, those of theirs first.

    Args:
        name: of the config, or the JSON text of one.
        above: configs that led here.

    Raises:
        ValueError: a config is its own overlay.
    """
    if name in above:
        raise ValueError(f"config {name} is its own overlay, by {' -> '.join((*above, name))}")
    for overlay in overlays_of(name):
        yield from below(overlay, (*above, name))
        yield overlay


def overlays_of(name: str) -> list[str]:
    """What a config names as its overlays; nothing where it cannot be read."""
    if name.startswith("{"):
        return []
    try:
        held: Any = yaml.safe_load(find(name).read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError):
        return []
    found = held.get("overlays", []) if isinstance(held, dict) else []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def first_asked(configs: Sequence[str]) -> str | None:
    """The first of a run's configs that is no overlay of another: it names the run."""
    under = {find(overlay).resolve() for name in configs for overlay in overlays_of(name)}
    return next((name for name in configs if Path(name).resolve() not in under), None)
