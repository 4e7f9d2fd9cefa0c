"""`vdc study`: a table as one file, made step by step."""

import inspect
import logging
import shlex
from argparse import ArgumentError
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

import yaml
from lightning.pytorch.cli import LightningArgumentParser
from rich.console import Console
from rich.table import Table as Printed

from vdc.cli.commands import Command, Evaluate, Fit, Pretrain
from vdc.condensed.join import join
from vdc.evaluate.relabel import relabel
from vdc.report import report as reporting
from vdc.study import study as studies
from vdc.study.cluster import run_on_ray
from vdc.study.commands import Flags, Planned, output, referred, word
from vdc.study.forecast import forecast
from vdc.study.plan import Plan, plan, with_seeds
from vdc.study.plot import draw
from vdc.study.progress import Display
from vdc.study.run import run_local, visible_devices
from vdc.study.steps import Outcome, state
from vdc.study.table import Row, pivot, rows, write

FUNCTIONS: dict[str, Callable[..., Any]] = {"relabel": relabel, "join": join, "report": reporting.report}
POSITIONAL = {"join": "sets", "report": "dirs"}
CLASSES: dict[str, tuple[type[Command], list[str]]] = {
    "pretrain": (Pretrain, []),
    "fit": (Fit, ["--model", "Random"]),
    "evaluate": (Evaluate, []),
}
ENGINES = {"local": run_local, "ray": run_on_ray}
PREFIXES = ("data", "pretrain", "fit", "relabel", "evaluate")
PARTS = {"pretrain": ("pretrain",), "fit": ("fit", "relabel", "join"), "evaluate": ("evaluate",)}


def study(
    file: str,
    out: str = "runs/studies",
    variant: str | None = None,
    cells: str = "*",
    seeds: int | None = None,
    sets: int | None = None,
    only: Literal["pretrain", "fit", "evaluate"] | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    list: bool = False,
    dry_run: bool = False,
    extra: dict[str, Flags] | None = None,
) -> None:
    """Make the table of a study: every step that is missing, each once, then the table.

    A killed study is continued by starting it again. `--data.KEY VALUE` replaces data in all steps, and
    `--fit.KEY VALUE` (or pretrain, relabel, evaluate) sets a flag of all steps of that command.

    Args:
        file: study file, by path or by name.
        out: folder of all studies; what several share is made once.
        variant: other sizes, by the name that the file gives them.
        cells: make only cells whose name fits this pattern, e.g. `ucf101/rded/*`.
        seeds: students trained on every set.
        sets: condensed sets of every cell, from as many seeds.
        only: make only steps of these commands; fit includes labels and joined sets.
        jobs: steps at once; one per device unless given.
        engine: this machine, or a Ray cluster (RAY_ADDRESS), whose nodes share the folder.
        list: print all commands in order, each with its state, and make nothing.
        dry_run: print what is missing, and the time, disk and memory it will take by finished steps of the same kind
            (`unknown` counts steps without any), and make nothing.
        extra: flags of steps, as the command line has them.
    """
    path, root = studies.find(file), Path(out)
    held = with_seeds(studies.load(path), seeds, sets)
    held = held if variant is None else held.variant(variant)
    made = plan(held, cells, extra)
    wanted = [name for name, step in made.steps.items() if only is None or step.command in PARTS[only]]
    check(made, wanted)
    folder = root / path.stem / (variant or "")
    if list:
        print(
            "\n".join([*listed(made, root), shlex.join(["vdc", "report", *report_words(made, root, folder)])])
        )
        return
    outcomes: dict[str, Outcome] = {}
    count = jobs or max(1, len(visible_devices()))
    if dry_run:
        printed(held.title, forecast(made, wanted, root, count))
        return
    try:
        with Display(made, root, wanted, count) as display:
            outcomes = ENGINES[engine](made, root, wanted, jobs, display)
    finally:
        found = rows(made, root, outcomes)
        write(held, found, folder)
        draw(held, found, folder)
        link(made, root, folder / "cells")
        page(made, root, folder)
    show(made, found, outcomes, folder)


def listed(made: Plan, root: Path) -> list[str]:
    """Commands in the order in which they can be run, a comment above each."""
    users = Counter(name for cell in made.cells for name in made.needed(cell.runs))
    lines = []
    for name, step in made.steps.items():
        lines += [f"# {state(step, root)}: {name}, for {users[name]} of {len(made.cells)} cells"]
        lines += [shlex.join(["vdc", *step.args(root)])]
    return lines


def link(made: Plan, root: Path, folder: Path) -> None:
    """Links to the steps of every cell, under readable names."""
    for cell in made.cells:
        place = folder / cell.name
        for name in made.needed(cell.runs):
            target = made.steps[name].folder(root)
            if target.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                (place / name).unlink(missing_ok=True)
                (place / name).symlink_to(target.resolve(), target_is_directory=True)


def report_words(made: Plan, root: Path, folder: Path) -> list[str]:
    """What `vdc report` is given: all results, and what the study says of it."""
    places = [str(made.steps[name].folder(root)) for cell in made.cells for name in cell.runs]
    sets = [made.steps[cell.runs[0]].flags.get("condensed") for cell in made.cells if cell.runs]
    shown = dict.fromkeys(one for one in sets if one is not None)  # of the first start, to play on the page
    words = places + [referred(one, lambda name: output(name, root)) for one in shown]
    words += ["--study", str(folder)]
    words += ["--out", str(folder / "report"), "--html", str(folder / "page.html"), "--show", "false"]
    for key, value in made.report.items():
        words += word(key, referred(value, lambda name: output(name, root)))
    return words


def page(made: Plan, root: Path, folder: Path) -> None:
    """The report on all results that are there."""
    words = report_words(made, root, folder)
    first = words.index("--study")
    there = [place for place in words[:first] if Path(place).is_dir()]
    if not any(Path(place).is_relative_to(root / "steps") and "evaluate-" in place for place in there):
        return
    parser = parser_of("report")
    try:
        reporting.report(**parser.instantiate_classes(parser.parse_args([*there, *words[first:]])))
    except (ArgumentError, ValueError, OSError) as error:
        print(f"no report: {error}")


def show(made: Plan, found: list[Row], outcomes: dict[str, Outcome], folder: Path) -> None:
    """Print the table; a failed step ends with exit code 1."""
    console = printed(made.study.title, pivot(made.study, found))
    for row in found:
        if row.reason:
            console.print(f"{row.cell.name}: {row.reason}", markup=False, highlight=False)
    print(f"table, plot and page: {folder}, {folder / 'page.html'}")
    if any(outcome.state == "failed" for outcome in outcomes.values()):
        raise SystemExit(1)


def printed(title: str, cells: Sequence[Sequence[str]]) -> Console:
    """Print a table of a header and lines; returns where."""
    header, *lines = cells
    table = Printed(*header, title=title)
    for line in lines:
        table.add_row(*line)
    console = Console()
    console = console if console.is_terminal else Console(width=200)
    console.print(table)
    return console


# -- what the parsers of the commands say ------------------------------------------------------------------


def check(made: Plan, names: list[str]) -> None:
    """Parse one command of every kind, so that a wrong key is found before hours of work.

    Raises:
        ArgumentError: what the command itself would say.
    """
    seen = set()
    for name in names:
        step = made.steps[name]
        kind = (step.command, step.config, tuple(step.flags))
        if kind not in seen:
            seen.add(kind)
            parse(step, made)


def parse(step: Planned, made: Plan) -> Any:
    """What a step's command would read, its inputs being there or not."""
    words = step.args(Path("root"))[1:]
    if step.command == "evaluate" and "condensed" in step.flags:
        words = [
            "--data",
            class_of_data(step, made),
            "--data.root",
            ".",
            *words,
        ]  # which it reads from the set
    return parser_of(step.command).parse_args(words)


def class_of_data(step: Planned, made: Plan) -> str:
    """Class of the videos that a set was made from."""
    if "data" in step.settings:
        return str(step.settings["data"])
    sources = [made.steps[name] for name in step.needs]
    return next((class_of_data(one, made) for one in sources if one.command != "pretrain"), "RealData")


@cache
def parser_of(command: str) -> LightningArgumentParser:
    """The parser of a command."""
    if command in FUNCTIONS:
        function = FUNCTIONS[command]
        parser = LightningArgumentParser(prog=f"vdc {command}", exit_on_error=False, allow_abbrev=False)
        several = POSITIONAL.get(command)
        if several:
            parser.add_argument(several, nargs="+", type=str)
        parser.add_function_arguments(function, skip={several} if several else None, fail_untyped=False)
        return parser
    kind, args = CLASSES[command]

    class Only(kind):  # type: ignore[misc, valid-type]  # the command, without what it would make
        def before_instantiate_classes(self) -> None:
            """Nothing is made."""

        def instantiate_classes(self) -> None:
            """Nothing is made."""

    log = logging.getLogger("lightning.fabric")  # says that a seed was set
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        cli = Only([*args, "--data", "RealData", "--data.root", "."], f"vdc {command}", "")
    finally:
        log.setLevel(level)
    return cast(LightningArgumentParser, cli.parser)


def run(args: list[str]) -> None:
    """Make the table of a study: every step that is missing, each once, then the table."""
    own, extra = split(args)
    parser = LightningArgumentParser(
        prog="vdc study", description=inspect.getdoc(run) or "", exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("file", type=str, help="study file, by path or by name")
    parser.add_function_arguments(study, skip={"file", "extra", "list", "dry_run"}, fail_untyped=False)
    parser.add_argument("--list", action="store_true", help="Print all commands in order, and make nothing.")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Print what is missing, and the time, disk and memory it will take, and make nothing.",
    )
    study(**vars(parser.parse_args(own)), extra=extra)


def split(args: list[str]) -> tuple[list[str], dict[str, Flags]]:
    """Words of the study itself, and flags for its steps: `--data.root X`, `--fit.model.ipc 5`.

    Raises:
        ValueError: a flag for steps has no value.
    """
    own: list[str] = []
    extra: dict[str, Flags] = {}
    words = iter(args)
    for text in words:
        key, equals, value = text.removeprefix("--").partition("=")
        kind, _, rest = key.partition(".")
        if not text.startswith("--") or kind not in PREFIXES or (not rest and kind != "data"):
            own.append(text)
            continue
        value = value if equals else next(words, "")
        if not value:
            raise ValueError(f"--{key} needs a value")
        flags = extra.setdefault(kind, {})
        flags[key if kind == "data" else rest] = yaml.safe_load(value) if value[0] in "[{" else value
    return own, extra
