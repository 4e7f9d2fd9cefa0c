"""Plain lists, one video a line: by spaces, comma, semicolon or tab, with or without a header."""

import os
import re
from pathlib import Path
from typing import NamedTuple

from vdc.data.folders import SPLITS, has_suffix, ignored, search
from vdc.data.tables import FRAMES, LABELS, NAMES, PARTS, PATHS, Names, Row, Source, Table, placed
from vdc.data.text import lines, number, numeric, shown

MOST_CLASSES = 10**6
SEVERAL = re.compile(r"[0-9]+(?:[,;| \t]+[0-9]+)+")


class Entry(NamedTuple):
    """A video as a list names it."""

    where: str  # for messages: file and line
    path: str
    label: int | str  # index, or name of the class
    frames: int | None = None  # of a folder of images


class Labelled(NamedTuple):
    """A row with its label as it is written."""

    where: str
    path: str
    label: str
    named: bool = False  # a name, even if it looks like a number
    frames: int | None = None


def parse_list(source: Source) -> tuple[list[Entry], Names]:
    """Lines `path label`, or paths alone in folders that name their classes; with a header, its columns."""
    table = source.table
    if not table.header:
        return entries_of(source, [_headless(source, table, row) for row in table.rows])
    rows = [_by_header(source, table, row) for row in _of_part(table)]
    return entries_of(source, rows, _named_numbers(table, rows))


def parse_rawframes(source: Source) -> tuple[list[Entry], Names]:
    """Lines `folder frames label`."""
    table, rows = source.table, []
    for row in table.rows:
        path, values = placed(row.cells, table.separator)
        if len(values) != 2:
            raise ValueError(
                f"{row.where}: expected 'folder frames label', found {shown(' '.join(row.cells))}"
            )
        count = number(row.where, values[0], "a frame count", 1)
        rows.append(Labelled(row.where, slashes(source, path), values[1], frames=count))
    return entries_of(source, rows)


def _headless(source: Source, table: Table, row: Row) -> Labelled:
    """A row without a header: a path and a label, or a path alone."""
    path, values = placed(row.cells, table.separator)
    if len(values) == 2 and table.separator == " " and not (has_suffix(path) and source.holds(path)):
        path, values = f"{path} {values[0]}", values[1:]  # a name that ends in a number
    if len(values) > 1 and all(map(numeric, values)):
        raise ValueError(
            f"{row.where}: {len(values)} numbers after {shown(path)}: expected one label per video. Sets with "
            "several labels per video cannot be condensed by class: keep one of them; frame counts belong to "
            "folders of images ('folder frames label')"
        )
    if len(values) > 1:
        raise ValueError(
            f"{row.where}: {len(row.cells)} columns and no header: expected 'path label', or a first line "
            "that names the columns, such as 'path,label'"
        )
    path = slashes(source, path)
    if table.separator and not (values and values[0]):
        raise ValueError(f"{row.where}: expected 'path label', found {shown(' '.join(row.cells))}")
    return Labelled(row.where, path, values[0]) if values else _by_folder(row.where, path)


def _by_folder(where: str, path: str) -> Labelled:
    """A path alone: its folder is the class."""
    if not (name := os.path.basename(os.path.dirname(path))):
        raise ValueError(f"{where}: {shown(path)} has neither a label nor a class folder")
    return Labelled(where, path, name, named=True)


def _by_header(source: Source, table: Table, row: Row) -> Labelled:
    """A row whose columns a header names."""
    where = row.where
    at = {"path": table.column(PATHS), "label": table.column(LABELS), "name": table.column(NAMES)}
    told = f"among {', '.join(table.header)}; expected one of"
    if at["path"] is None:
        raise ValueError(f"{where}: no column of paths {told} {', '.join(PATHS)}")
    if at["label"] is None and at["name"] is None and len(table.header) > 1:
        raise ValueError(f"{where}: no column of labels {told} {', '.join((*LABELS, *NAMES))}")
    if len(row.cells) > len(table.header):
        raise ValueError(
            f"{where}: {len(row.cells)} cells, expected {len(table.header)}: {', '.join(table.header)}"
        )
    found = {
        key: row.cells[i].strip() if i is not None and i < len(row.cells) else "" for key, i in at.items()
    }
    path = slashes(source, found["path"])
    if not path:
        raise ValueError(f"{where}: no path")
    if at["label"] is None and at["name"] is None:
        return _by_folder(where, path)
    frames, counted = None, table.column(FRAMES)
    if counted is not None and not has_suffix(path):
        frames = number(where, row.cells[counted], "a frame count", 1)
    label = found["label"] or found["name"]
    if not label:
        raise ValueError(f"{where}: no label; lists without labels cannot be used")
    return Labelled(where, path, label, at["label"] is None, frames)


def _of_part(table: Table) -> list[Row]:
    """The rows of the part that is wanted, where a column tells parts apart; `val` stands in for `test`."""
    column = table.column(PARTS)
    known = {name: part for part, names in SPLITS.items() for name in names}
    words = ["" if column is None or column >= len(r.cells) else r.cells[column].strip() for r in table.rows]
    parts = [known.get(word.casefold()) for word in words]
    if len({*parts} - {None}) < 2:
        return table.rows
    if None in parts:
        i = parts.index(None)
        raise ValueError(f"{table.rows[i].where}: {shown(words[i])} is no part (train, val or test)")
    wanted = "val" if table.source.part == "test" and "test" not in parts else table.source.part
    return [row for row, part in zip(table.rows, parts, strict=True) if part == wanted]


def _named_numbers(table: Table, rows: list[Labelled]) -> dict[int, str]:
    """What the header's column of class names says of the numbers in its column of labels."""
    column, names, where = table.column(NAMES), dict[int, str](), dict[int, str]()
    if column is None or table.column(LABELS) is None or not all(numeric(row.label) for row in rows):
        return {}
    cells = {row.where: row.cells for row in table.rows}
    for row in rows:
        label = number(row.where, row.label, "a label")
        name = cells[row.where][column].strip() if column < len(cells[row.where]) else ""
        if names.setdefault(label, name) != name:
            raise ValueError(
                f"{row.where}: label {label} is {shown(name)} here, and {shown(names[label])} at {where[label]}"
            )
        where.setdefault(label, row.where)
    return names


def entries_of(
    source: Source, rows: list[Labelled], names: dict[int, str] | None = None
) -> tuple[list[Entry], Names]:
    """Entries with labels all numbers or all names, and the classes where they are known by number."""
    for row in rows:
        if SEVERAL.fullmatch(row.label) and not row.named:
            raise ValueError(
                f"{row.where}: several labels {shown(row.label)}: expected one per video; keep one"
            )
    numbered = 2 * sum(numeric(row.label) and not row.named for row in rows) >= len(rows)
    entries = list[Entry]()
    for row in rows:
        if not numbered and numeric(row.label) and not row.named:
            raise ValueError(f"{row.where}: {shown(row.label)} is a number where other lines name the class")
        label = number(row.where, row.label, "a label") if numbered else row.label
        entries.append(Entry(row.where, row.path, label, row.frames))
    bare = not any(os.path.dirname(entry.path) or source.holds(entry.path) for entry in entries)
    if bare and not any(has_suffix(entry.path) for entry in entries):  # ids, as of Something-Something
        places = search(source.root, {entry.path for entry in entries})
        entries = [entry._replace(path=places.get(entry.path, entry.path)) for entry in entries]
    return entries, _numbered(source, entries, names or {}) if numbered else class_table(source)


def slashes(source: Source, path: str) -> str:
    """A path as this system writes it: backslashes of Windows become slashes, unless there is such a file."""
    return path if "\\" not in path or source.holds(path) else path.replace("\\", "/")


# -- names of classes ------------------------------------------------------------------------


def beside(source: Source, pattern: str) -> Path | None:
    """The first file of that name beside a listing, or in the root."""
    folders = (source.listing.parent, source.root)
    return next((p for folder in folders for p in sorted(folder.glob(pattern)) if not ignored(p.name)), None)


def class_table(source: Source) -> Names:
    """The classes in label order, as a file `classes.txt` tells them: a name a line, perhaps numbered.

    Raises:
        ValueError: a name is there twice.
    """
    if (table := beside(source, "classes.txt")) is None:
        return None
    found = list(lines(table))
    split = [line.split(maxsplit=1) for _, line in found]
    for first in (0, 1):
        if found and all(len(s) == 2 and s[0] == str(i) for i, s in enumerate(split, first)):
            found = [(where, name) for (where, _), (_, name) in zip(found, split, strict=True)]
    return distinct(found)


def distinct(found: list[tuple[str, str]]) -> list[str]:
    """Names of classes, each with its place.

    Raises:
        ValueError: a name is there twice.
    """
    first: dict[str, str] = {}
    for where, name in found:
        if name in first:
            raise ValueError(f"{where}: class {shown(name)} is there before, at {first[name]}")
        first[name] = where
    return list(first)


def _numbered(source: Source, entries: list[Entry], named: dict[int, str]) -> Names:
    """Classes of a numbered list: those known, from `classes.txt`, a column, or folders that match the labels."""
    if known := source.known or class_table(source):
        return known
    folders: dict[int, set[str]] = {}
    first: dict[int, str] = {}
    for entry in entries:
        label = int(entry.label)
        folders.setdefault(label, set()).add(os.path.basename(os.path.dirname(entry.path)))
        first.setdefault(label, entry.where)
    count = max(folders, default=-1) + 1
    if count > MOST_CLASSES:
        raise ValueError(f"{first[count - 1]}: label {count - 1} is out of range: no set has so many classes")
    if source.part == "train" and len(folders) < count:
        missing = next(label for label in range(count) if label not in folders)
        raise ValueError(
            f"{first[count - 1]}: label {count - 1}, but no video has label {missing}; labels count from 0: "
            "number the classes 0, 1, 2 ..., or give their names as labels or in classes.txt"
        )
    if named:
        return distinct([(first.get(k, str(source.listing)), named.get(k) or str(k)) for k in range(count)])
    names = [min(folders.get(label, {""})) for label in range(count)]
    apart = len(set(names)) == count and all(len(f) == 1 and f != {""} for f in folders.values())
    apart = apart and not any(map(ignored, names))  # of unpacked shards
    return names if apart else [str(label) for label in range(count)]
