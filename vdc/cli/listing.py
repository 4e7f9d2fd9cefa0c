"""Commands, and where their functions are: known without importing what they need."""

import ast
from pathlib import Path
from typing import NamedTuple

import vdc


class Command(NamedTuple):
    """Where a command's function is.

    Args:
        module: that holds it.
        function: takes the arguments; or any function, whose parameters are the options.
        options: of `signatures.call` for the latter.
    """

    module: str
    function: str
    options: dict[str, str] | None = None


LISTED = {
    "condense": Command("vdc.cli.condense", "condense", {"positional": "folder"}),
    "pretrain": Command("vdc.cli.training", "pretrain"),
    "fit": Command("vdc.cli.training", "fit"),
    "evaluate": Command("vdc.cli.training", "evaluate"),
    "study": Command("vdc.cli.study", "run"),
    "relabel": Command("vdc.evaluate.relabel", "relabel", {}),
    "report": Command("vdc.report.report", "report", {"positional": "dirs", "nargs": "*", "pair": "paired"}),
    "leaderboard": Command("vdc.report.leaderboard", "leaderboard", {"positional": "dirs", "nargs": "+"}),
    "prepare": Command("vdc.data.prepare", "prepare", {}),
    "doctor": Command("vdc.cli.doctor", "doctor", {"positional": "path"}),
    "show": Command("vdc.condensed.describe", "show", {"positional": "condensed"}),
    "export": Command("vdc.condensed.describe", "export", {"positional": "condensed"}),
    "join": Command("vdc.condensed.join", "join", {"positional": "sets", "nargs": "+"}),
}


def summary(command: Command) -> str:
    """First line of a command's docstring, read without importing what it needs."""
    path = Path(vdc.__file__).parents[1].joinpath(*command.module.split(".")).with_suffix(".py")
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == command.function:
            return (ast.get_docstring(node) or "").partition("\n")[0]
    raise LookupError(f"{command.module} has no {command.function}")
