"""How published video sets list their videos: one parser per format, each giving entries and class names."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from lightning.pytorch.utilities import rank_zero_warn

from vdc.data.folders import class_folders, ignored, search
from vdc.data.lists import Entry, beside, distinct, parse_list, parse_rawframes, slashes
from vdc.data.metadata import names_files, parse_metadata
from vdc.data.shards import parse_shards, shards_of
from vdc.data.tables import Names, Source, placed
from vdc.data.text import fields, lines, number, read_json_list, read_text, shown

Format = Literal[
    "auto", "folders", "list", "rawframes", "ucf101", "hmdb51", "hmdb51_all", "kinetics", "ssv2", "huggingface",
    "webdataset",
]  # fmt: skip
LONGEST = 999_999  # seconds: six digits in names of Kinetics' files
SPLIT_FILES = "*_test_split1.txt"


def detect(source: Source) -> Format:
    """The format a listing is written in, by what it holds; UCF101's and HMDB51's by their names too."""
    listing = source.listing
    if "_test_split" in listing.name or (listing.is_dir() and _visible(listing, SPLIT_FILES)):
        return "hmdb51"
    if names_files(listing, source.root):
        return "huggingface"
    if shards_of(listing):
        return "webdataset"
    if listing.is_dir():
        return "folders"
    if _is_json(listing):
        return "ssv2"
    if "youtube_id" in source.table.header:
        return "kinetics"
    if _is_ucf101(source):
        return "ucf101"
    return "rawframes" if source.table.counts_frames() else "list"


def _is_json(listing: Path) -> bool:
    """Whether a file is JSON, or is called so; a path may begin with a bracket as well."""
    if listing.suffix.lower() == ".jsonl":
        return False
    text = read_text(listing).lstrip()
    if listing.suffix.lower() == ".json" or text[:1] not in ("[", "{"):
        return listing.suffix.lower() == ".json"
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_ucf101(source: Source) -> bool:
    """Whether a list counts classes from 1 in the order of `classInd.txt`, or is named as the official ones."""
    if beside(source, "classInd.txt") is None:
        return False
    if source.listing.name.startswith(("trainlist", "testlist")):
        return True
    numbers = {name: str(i) for i, name in enumerate(_class_numbers(source), 1)}
    rows = [placed(row.cells, source.table.separator) for row in source.table.rows]
    folders = [os.path.basename(os.path.dirname(slashes(source, path))) for path, _ in rows]
    return bool(rows) and all(
        folder in numbers and values in ([], [numbers[folder]])
        for folder, (_, values) in zip(folders, rows, strict=True)
    )


def _visible(folder: Path, pattern: str) -> list[Path]:
    """Files in a folder by a pattern, sorted; no hidden ones."""
    return sorted(path for path in folder.glob(pattern) if not ignored(path.name))


# -- the formats -----------------------------------------------------------------------------


def _folders(source: Source) -> tuple[list[Entry], Names]:
    """`<class>/<video>` files, or `<class>/<video>/` folders of images."""
    classes, out = class_folders(source.listing)
    if out:
        rank_zero_warn(f"{source.listing}: left out, as no videos of a class: {out}; a list can name them")
    return [Entry(str(p), str(p), name) for name, paths in classes.items() for p in paths], list(classes)


def _class_numbers(source: Source) -> list[str]:
    """The classes of UCF101's `classInd.txt`: lines `number class`, from 1."""
    if (table := beside(source, "classInd.txt")) is None:
        raise FileNotFoundError(f"classInd.txt: neither beside {source.listing} nor in {source.root}")
    found = list[tuple[str, str]]()
    for where, line in lines(table):
        count, name = fields(where, line, 2, "number class", left=True)
        if number(where, count, "a class number", 1) != len(found) + 1:
            raise ValueError(f"{where}: class number {count}, expected {len(found) + 1}")
        found.append((where, name))
    return distinct(found)


def _ucf101(source: Source) -> tuple[list[Entry], Names]:
    """Official UCF101: `trainlist01.txt` (path, label from 1), `testlist01.txt` (path), `classInd.txt`."""
    names, table, entries = _class_numbers(source), source.table, []
    for where, cells in table.rows:
        path, values = placed(cells, table.separator)
        path = slashes(source, path)
        if len(values) > 1:
            raise ValueError(f"{where}: expected 'path' or 'path label', found {shown(' '.join(cells))}")
        label = number(where, values[0], "a label", 1) if values else 0
        name = os.path.basename(os.path.dirname(path))
        if label > len(names):
            raise ValueError(
                f"{where}: label {label} is out of range: classInd.txt has classes 1..{len(names)}"
            )
        if name not in names or (label and names[label - 1] != name):
            raise ValueError(
                f"{where}: folder {shown(name)} is not class {label or 'of any number'} of classInd.txt"
            )
        entries.append(Entry(where, path, name))
    return entries, names


def _hmdb51(source: Source) -> tuple[list[Entry], Names]:
    """Official HMDB51: `<class>_test_split<n>.txt` with lines `file flag`; 1 trains, 2 tests, 0 is left out.

    S2D and others also train on the clips left out (5236 instead of 3570): `hmdb51_all`.
    """
    folder, pattern = source.listing.parent, source.listing.name
    if source.listing.is_dir():
        folder, pattern = source.listing, SPLIT_FILES
    if not (files := _visible(folder, pattern)):
        raise FileNotFoundError(f"{folder / pattern}: no split files of HMDB51")
    flags = {"train": ("0", "1") if source.unused else ("1",), "val": (), "test": ("2",)}[source.part]
    entries, names = list[Entry](), list[str]()
    for file in files:
        names.append(file.name.rpartition("_test_split")[0])
        for where, line in lines(file, lambda line: True):  # names of HMDB51 may begin with `#`
            video, flag = fields(where, line, 2, "file flag")
            if flag not in ("0", "1", "2"):
                raise ValueError(f"{where}: flag {shown(flag)}, expected 0, 1 or 2")
            if flag in flags:
                entries.append(Entry(where, f"{names[-1]}/{video}", names[-1]))
    return entries, sorted(names)


def _kinetics(source: Source) -> tuple[list[Entry], Names]:
    """Official Kinetics csv; `<id>_<start>_<end>` files anywhere below the root, times in six digits."""
    entries, table = [], source.table
    columns = ("label", "youtube_id", "time_start", "time_end")
    if missing := set(columns) - set(table.header):
        lacking, found = ", ".join(sorted(missing)), ", ".join(table.header)
        raise ValueError(f"{source.listing}:1: no column {lacking}; found {found}")
    places = [table.header.index(column) for column in columns]
    for where, cells in table.rows:
        label, name, *times = (cells[i].strip() if i < len(cells) else "" for i in places)
        if not label or not name:
            raise ValueError(f"{where}: no label or youtube_id; lists without labels cannot be used")
        start, end = (_seconds(where, time) for time in times)
        if end < start:
            raise ValueError(f"{where}: ends at {end} s, before it starts at {start} s")
        entries.append(Entry(where, f"{name}_{start:06d}_{end:06d}", label))
    return _located(source, entries), None


def _seconds(where: str, text: str) -> int:
    """Whole seconds of a time, which may have decimals."""
    whole, _, rest = text.partition(".")
    sound = whole if rest.isascii() and (rest.isdigit() or not rest) else text
    return number(where, sound, "a time in seconds", high=LONGEST)


def _ssv2(source: Source) -> tuple[list[Entry], Names]:
    """Official Something-Something v2 json; `<id>.webm` files anywhere below the root.

    Rows hold `id` and `template` (brackets aside, a name in `labels.json` beside the list), or a class index
    as `class` (S2D).
    """
    names, rows, entries = _label_table(source), read_json_list(source.listing), []
    if not isinstance(rows, list):
        raise ValueError(f"{source.listing}: expected a list of videos, found {type(rows).__name__}")
    for i, row in enumerate(rows):
        where = f"{source.listing}: entry {i}"
        label = row.get("class", row.get("template")) if isinstance(row, dict) else None
        if label is None or "id" not in row:
            raise ValueError(f"{where}: no id and template in {shown(row)} (the test list has no labels)")
        if isinstance(label, str):
            label = label.replace("[", "").replace("]", "")
            if names and label not in names:
                raise ValueError(f"{where}: template {shown(label)} is not in labels.json")
        else:
            label = number(where, label, "a class")
        video = row["id"] if isinstance(row["id"], str) else str(number(where, row["id"], "an id"))
        entries.append(Entry(where, video, label))
    if len({type(entry.label) for entry in entries}) > 1:
        raise ValueError(f"{source.listing}: some entries name their class, others number it")
    return _located(source, entries), sorted(names, key=lambda name: names[name]) or None


def _label_table(source: Source) -> dict[str, int]:
    """Class name -> label of a `labels.json` beside the list; empty where there is none."""
    if (path := beside(source, "*labels.json")) is None:
        return {}
    table = read_json_list(path)
    if not isinstance(table, dict):
        raise ValueError(
            f"{path}: expected names of classes with their numbers, found {type(table).__name__}"
        )
    names = {name: number(f"{path}: {shown(name)}", label, "a label") for name, label in table.items()}
    if sorted(names.values()) != list(range(len(names))):
        raise ValueError(f"{path}: expected the numbers 0 to {len(names) - 1}, each once")
    return names


def _located(source: Source, entries: list[Entry]) -> list[Entry]:
    """Entries named by the bare name of a video anywhere below the root, with the path it was found at."""
    found = search(source.root, {entry.path for entry in entries})
    return [entry._replace(path=found.get(entry.path, f"{entry.path}.mp4")) for entry in entries]


FORMATS: dict[str, Callable[[Source], tuple[list[Entry], Names]]] = {
    "folders": _folders,
    "list": parse_list,
    "rawframes": parse_rawframes,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "hmdb51_all": _hmdb51,
    "kinetics": _kinetics,
    "ssv2": _ssv2,
    "huggingface": parse_metadata,
    "webdataset": parse_shards,
}


def read_entries(source: Source, fmt: Format = "auto") -> tuple[list[Entry], Names]:
    """The videos of a listing as it names them, and the classes in label order, where it tells.

    Raises:
        ValueError: a line that makes no sense, with file and line.
    """
    return FORMATS[detect(source) if fmt == "auto" else fmt](source)
