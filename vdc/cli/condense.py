"""`vdc condense`: from a folder of videos to condensed sets, their scores and a page, without a config."""

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console

from vdc.cli.study import study
from vdc.data.doctor import Diagnosis, examine
from vdc.data.settle import LISTS, settle
from vdc.data.splits import no_test_videos
from vdc.report.page import write_page
from vdc.study.quick import METHOD, Choice, choose, clip_spec, items, student_seconds, study_text
from vdc.system.files import atomic_write, free_bytes, read_json, write_json
from vdc.system.progress import is_quiet

ASKED = "condense.json"
STUDY = "study.yaml"
PROGRAM = 1.2  # GB that a step takes before it holds videos: 1.18 resident were measured at an evaluation
ROOM = 150_000_000  # bytes of two pages, results and networks
COPIES = 20  # of a set in a run: two sets, and the optimiser's state of float32 in checkpoints


def condense(
    folder: str,
    out: str | None = None,
    ipc: int | None = None,
    budget: str | None = None,
    minutes: float = 15.0,
) -> None:
    """Condense a folder of videos without a config: look, split, choose sizes, learn, compare, and write a page.

    A killed run is continued by starting it again; everything it does is in `study.yaml` of its folder.

    Args:
        folder: class folders, `train`, `val` and `test` folders of them, or with lists `train.txt` and `test.txt`.
        out: folder of everything that is written; `runs/condense_NAME` unless given.
        ipc: items per class.
        budget: bytes of the condensed set instead, such as 5MB.
        minutes: that it may take.

    Raises:
        ValueError: nothing can be learnt from the videos, or the options cannot be met.
        FileNotFoundError: no such folder.
    """
    if Path(folder).is_file():
        raise ValueError(
            f"{folder} is a file: give the folder of the class folders, or that of the lists train.txt and test.txt"
        )
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such file or folder")
    if minutes <= 0:
        raise ValueError(f"--minutes must be positive, got {minutes:g}")
    if ipc is not None and budget is not None:
        raise ValueError("give either --ipc or --budget")
    allowed = None if budget is None else to_bytes(budget)
    place = Path(out or f"runs/condense_{Path(folder).resolve().name}")
    asked = {"folder": str(Path(folder).resolve()), "ipc": ipc, "budget": allowed, "minutes": minutes}
    claim(place, asked)
    console = Console(soft_wrap=True, highlight=False, quiet=is_quiet())
    if (place / STUDY).is_file():
        console.print(f"going on with {place / STUDY}", markup=False)
    else:
        prepare(folder, place, ipc, allowed, minutes, asked, console)
    study(str(place / STUDY), str(place))
    command = shlex.join(["vdc", "condense", *words(folder, out, ipc, budget, minutes)])
    heading = f"{Path(folder).resolve().name}, condensed"
    page = write_page([str(place / "steps")], place / "page.html", heading=heading, command=command)
    print(f"page: {page}")


def words(*options: Any) -> list[str]:
    """The command's words, without options that were not given."""
    folder, *rest = options
    named = zip(("out", "ipc", "budget", "minutes"), rest, strict=True)
    given = [
        (f"--{name}", f"{value:g}" if name == "minutes" else str(value)) for name, value in named if value
    ]
    return [folder, *(word for pair in given for word in pair)]


def to_bytes(text: str) -> int:
    """Bytes as people write them: `5MB`, `512KiB`, `100000`.

    Raises:
        ValueError: it is something else.
    """
    try:
        return int(TypeAdapter(ByteSize).validate_python(text))
    except ValidationError:
        raise ValueError(f"--budget {text}: expected bytes, such as 5MB or 500kB") from None


def claim(place: Path, asked: dict[str, Any]) -> None:
    """Refuse a folder that something else was written to.

    Raises:
        ValueError: it holds a run of other options, or files of one of our names that no run wrote.
    """
    if (place / ASKED).is_file():
        before = read_json(place / ASKED)
        if before != asked:
            key = next(key for key in asked if before.get(key) != asked[key])
            raise ValueError(
                f"{place} holds a run with {key} {before.get(key)}, not {asked[key]}: give another --out, or edit "
                f"{place / STUDY} and run vdc study"
            )
        return
    for name in (*LISTS, STUDY):
        if (place / name).exists():
            raise ValueError(f"{place / name} is there already, and not of vdc condense: give another --out")


def prepare(
    folder: str,
    place: Path,
    ipc: int | None,
    budget: int | None,
    minutes: float,
    asked: dict[str, Any],
    console: Console,
) -> None:
    """Look at the videos, decide, say what it will take, and write split and study.

    Raises:
        ValueError: see `condense`.
        OSError: no space.
    """
    started = time.perf_counter()
    found = examine(folder)
    looking = time.perf_counter() - started
    console.print(replace(found, findings=told(found)).table())
    if (free := free_bytes(place)) < ROOM:
        raise OSError(f"{place}: {free / 1e6:.0f} MB are free, and {ROOM / 1e6:.0f} MB are needed")
    write_json(place / ASKED, asked)
    try:
        settled = settle(found, place)
        spec = clip_spec(found)
        number = items(settled, spec, ipc, budget)
        per_clip = student_seconds(spec, len(settled.classes))
        chosen = choose(found, settled, spec, number, minutes, per_clip, looking)
        while ipc is None and budget is None and number > 1 and not chosen.learns:
            number -= 1  # fewer items that are learnt are worth more than many that are not
            chosen = choose(found, settled, spec, number, minutes, per_clip, looking)
        needed = ROOM + COPIES * chosen.set_bytes
        if free < needed:
            raise OSError(f"{place}: {free / 1e6:.0f} MB are free, and {needed / 1e6:.0f} MB are needed")
    except (ValueError, OSError):
        for name in (*LISTS, ASKED):
            (place / name).unlink(missing_ok=True)
        raise
    if found.unreadable:
        console.print(
            f"left out {len(found.unreadable)} videos that cannot be read, named above", markup=False
        )
    for line in [*settled.notes, *plan_lines(chosen, per_clip, minutes)]:
        console.print(line, markup=False)
    comments = [
        f"Written by vdc condense for {asked['folder']}; edit it and run it again:",
        f"  vdc study {shlex.quote(str(place / STUDY))} --out {shlex.quote(str(place))}",
    ]
    name = f"{Path(folder).resolve().name}, {number} per class"
    with atomic_write(place / STUDY) as temporary:
        temporary.write_text(study_text(settled, chosen, name, comments), encoding="utf-8")


def told(found: Diagnosis) -> tuple[Any, ...]:
    """The findings without the advice to make a split, which is done here."""
    return tuple(one for one in found.findings if one.message != no_test_videos(found.root))


def plan_lines(chosen: Choice, per_clip: float, minutes: float) -> list[str]:
    """What was chosen, and what it takes."""
    spec, own = chosen.spec, chosen.seconds / 60
    lines = [
        f"clips: {spec.frames} frames of {spec.size} px, stride {spec.stride}; {chosen.ipc} items per class, "
        f"{chosen.set_bytes / 1e6:.2f} MB"
        + (
            f", each of {chosen.factor**2} clips of a {chosen.factor**2}th of the pixels"
            if chosen.factor > 1
            else ""
        ),
        f"{METHOD.upper()}: {chosen.steps} steps; {chosen.students} students on each set, {chosen.epochs} epochs, on "
        f"all videos {chosen.full_epochs}",
        f"expected: {own:.1f} minutes ({1000 * per_clip:.1f} ms a clip, measured now on "
        f"{torch.get_num_threads()} threads), up to {PROGRAM + chosen.memory / 1e9:.1f} GB of memory",
    ]
    if own > minutes:
        lines.append(f"this is the least that can be done, and more than the {minutes:g} minutes asked for")
    return lines
