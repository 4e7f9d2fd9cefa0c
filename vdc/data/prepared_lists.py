"""What became of the lists of a prepared set: of every line, whether its video is in the copy, or why not."""

import os
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdc.data.folders import Part, has_suffix
from vdc.data.formats import read_entries
from vdc.data.index import on_disk
from vdc.data.lists import Entry
from vdc.data.tables import Source
from vdc.system.files import atomic_write
from vdc.system.text import printable

LISTS = frozenset((".txt", ".csv", ".tsv", ".json", ".jsonl", ".list", ".lst"))
TABLES = ("classind.txt", "classes.txt", "labels.json")  # names of classes, not lists of videos
PARTS: tuple[Part, ...] = ("train", "val", "test")


def copies(lists: Sequence[Path], root: Path, out: Path) -> dict[Path, Path]:
    """Where list files are copied to: the same place below `out`, or its top where they come from elsewhere.

    Raises:
        ValueError: two would become one.
    """
    targets: dict[Path, Path] = {}
    for path in lists:
        target = out / (path.relative_to(root) if path.is_relative_to(root) else path.name)
        if targets.setdefault(target, path) != path:
            raise ValueError(f"--lists: {path} and {targets[target]} would both become {target}: rename one")
    return {path: target for target, path in targets.items()}


def copy_lists(targets: Mapping[Path, Path]) -> None:
    """Copy list files unchanged."""
    for path, target in targets.items():
        with atomic_write(target) as temporary:
            shutil.copyfile(path, temporary)


def account(copied: Sequence[Path], out: Path, failed: Mapping[str, str]) -> list[dict[str, Any]]:
    """What the copied lists name, and which of it is there.

    Args:
        copied: lists below `out`.
        out: folder of the prepared set.
        failed: why a video could not be written, by its path in `out`.

    Returns:
        Of each list its `path`; how many lines it has that name videos (`listed`), how many of these are `ready`,
        and `without_video`: where, path and reason of the others. Or why it was not read, as `not_read`.
    """
    return [{"path": os.path.relpath(path, out)} | _account(path, out, failed) for path in copied]


def _account(listing: Path, out: Path, failed: Mapping[str, str]) -> dict[str, Any]:
    """What one list names, and which of it is there."""
    if listing.name.casefold().endswith(TABLES):
        return {"not_read": "names of classes"}
    try:
        entries, source = _entries(listing, out)
    except (ValueError, OSError) as error:
        return {"not_read": str(error)}
    without, ready = list[dict[str, str]](), 0
    folders: dict[str, dict[str, str]] = {}
    inside = os.path.join(os.path.realpath(out), "")
    for entry in entries:
        path = on_disk(source, entry.path, folders)
        written = os.path.splitext(os.path.relpath(path, out))[0] + ".mp4"
        if not os.path.exists(path):
            reason = failed.get(written, "no such video")
        elif not os.path.realpath(path).startswith(inside):
            reason = "an absolute path: names the original, not its copy"
        else:
            ready += 1
            continue
        without.append({"where": entry.where, "path": entry.path, "reason": reason})
    if not ready and not any(has_suffix(entry.path) for entry in entries):
        return {"not_read": "names no videos"}
    return {"listed": len(entries), "ready": ready, "without_video": without}


def _entries(listing: Path, out: Path) -> tuple[list[Entry], Source]:
    """The videos that a list names, of all parts."""
    found: dict[str, Entry] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are given when the list is used
        for part in PARTS:
            source = Source(out, listing, part, unused=True, known=[""])  # classes do not matter here
            found |= {entry.where: entry for entry in read_entries(source)[0]}
    return list(found.values()), source


def describe(lists: Sequence[dict[str, Any]]) -> list[str]:
    """A line for people of each list that names videos which are not there, and of those not read."""
    told = []
    for entry in lists:
        if without := entry.get("without_video"):
            first = without[0]
            told.append(
                f"{entry['path']}: {len(without)} of {entry['listed']} listed videos are not in the copy, first "
                f"{first['where']}: {first['path']}: {first['reason']}"
            )
        elif "not_read" in entry and entry["not_read"] != "names of classes":
            told.append(f"{entry['path']}: copied, but no list of videos: {entry['not_read']}")
    return [printable(line) for line in told]
