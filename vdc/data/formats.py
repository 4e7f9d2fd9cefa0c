"""How published video sets list their videos: one parser per format, each giving entries and class names."""

import csv
import glob
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from vdc.data.reader import IMAGES
from vdc.system.files import read_json

Format = Literal["auto", "folders", "list", "rawframes", "ucf101", "hmdb51", "hmdb51_all", "kinetics", "ssv2"]
VIDEOS = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts")
)


class Entry(NamedTuple):
    """A video as a list names it."""

    where: str  # for messages: file and line
    path: str
    label: int | str  # index, or name of the class
    frames: int | None = None  # of a folder of images


class Source(NamedTuple):
    """What a format is read from."""

    root: Path
    listing: Path
    part: Literal["train", "test"]
    unused: bool = False  # hmdb51_all: clips that the official split leaves out belong to the training part


Names = list[str] | None  # classes in label order, where the format tells


def detect(root: Path, listing: Path) -> Format:
    """The format a listing is written in."""
    if "_test_split" in listing.name or (listing.is_dir() and any(listing.glob("*_test_split1.txt"))):
        return "hmdb51"
    if listing.is_dir():
        return "folders"
    if listing.suffix == ".csv":
        return "kinetics"
    if listing.suffix == ".json":
        return "ssv2"
    if listing.name.startswith(("trainlist", "testlist")) and _beside(root, listing, "classInd.txt"):
        return "ucf101"
    _, first = next(_lines(listing), ("", ""))
    fields = first.rsplit(maxsplit=2)
    counted = len(fields) == 3 and fields[1].isdigit() and fields[2].isdigit()
    return "rawframes" if counted and Path(fields[0]).suffix.lower() not in VIDEOS else "list"


# -- the formats -----------------------------------------------------------------------------


def _folders(source: Source) -> tuple[list[Entry], Names]:
    """`<class>/<video>` files, or `<class>/<video>/` folders of images."""
    entries = []
    names = sorted(d.name for d in source.listing.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not names:
        raise ValueError(f"{source.listing}: holds no class folders")
    for name in names:
        found = [p for p in sorted((source.listing / name).iterdir()) if _is_video(p)]
        if not found:
            raise ValueError(
                f"{source.listing / name}: holds no videos; expected one folder per class in "
                f"{source.listing} (train and test folders in it are named by --data.train and --data.test)"
            )
        entries += [Entry(str(p), str(p), name) for p in found]
    return entries, names


def _list(source: Source) -> tuple[list[Entry], Names]:
    """Lines `path label`; a path may hold spaces, and may be a folder of images."""
    entries = []
    for where, line in _lines(source.listing):
        path, label = _split(where, line, 2, "path label")
        entries.append(Entry(where, path, _number(where, label, "a label")))
    return entries, _listed_names(source, entries)


def _rawframes(source: Source) -> tuple[list[Entry], Names]:
    """Lines `folder frames label`."""
    entries = []
    for where, line in _lines(source.listing):
        path, frames, label = _split(where, line, 3, "folder frames label")
        count = _number(where, frames, "a frame count", 1)
        entries.append(Entry(where, path, _number(where, label, "a label"), count))
    return entries, _listed_names(source, entries)


def _ucf101(source: Source) -> tuple[list[Entry], Names]:
    """Official UCF101: `trainlist01.txt` (path, label from 1), `testlist01.txt` (path), `classInd.txt`."""
    table = _beside(source.root, source.listing, "classInd.txt")
    if table is None:
        raise FileNotFoundError(f"classInd.txt: neither beside {source.listing} nor in {source.root}")
    names: list[str] = []
    for where, line in _lines(table):
        number, name = _split(where, line, 2, "number class", left=True)
        if _number(where, number, "a class number", 1) != len(names) + 1:
            raise ValueError(f"{where}: class number {number}, expected {len(names) + 1}")
        names.append(name)
    entries = []
    for where, line in _lines(source.listing):
        *start, last = line.rsplit(maxsplit=1)
        path, label = (start[0], last) if start and last.isdigit() else (line, "")
        name = Path(path).parent.name
        if label and not 1 <= int(label) <= len(names):
            raise ValueError(f"{where}: label {label} is out of range: {table} has classes 1..{len(names)}")
        if name not in names or (label and names[int(label) - 1] != name):
            raise ValueError(f"{where}: folder {name!r} is not class {label or 'of any number'} of {table}")
        entries.append(Entry(where, path, name))
    return entries, names


def _hmdb51(source: Source) -> tuple[list[Entry], Names]:
    """Official HMDB51: `<class>_test_split<n>.txt` with lines `file flag`; 1 trains, 2 tests, 0 is left out.

    S2D and others also train on the clips left out (5236 instead of 3570): `hmdb51_all`.
    """
    pattern = source.listing / "*_test_split1.txt" if source.listing.is_dir() else source.listing
    files = sorted(map(Path, glob.glob(str(pattern))))
    if not files:
        raise FileNotFoundError(f"{pattern}: no split files of HMDB51")
    wanted = {"train": {"0", "1"} if source.unused else {"1"}, "test": {"2"}}[source.part]
    entries, names = list[Entry](), list[str]()
    for file in files:
        names.append(file.name.rpartition("_test_split")[0])
        for where, line in _lines(file):
            video, flag = _split(where, line, 2, "file flag")
            if flag not in ("0", "1", "2"):
                raise ValueError(f"{where}: flag {flag!r}, expected 0, 1 or 2")
            if flag in wanted:
                entries.append(Entry(where, f"{names[-1]}/{video}", names[-1]))
    return entries, sorted(names)


def _kinetics(source: Source) -> tuple[list[Entry], Names]:
    """Official Kinetics csv; `<id>_<start>_<end>` files anywhere below the root, times in six digits."""
    entries = []
    with source.listing.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        columns = ("label", "youtube_id", "time_start", "time_end")
        if missing := set(columns) - set(reader.fieldnames or ()):
            lacking = ", ".join(sorted(missing))
            raise ValueError(f"{source.listing}:1: no column {lacking}; found {reader.fieldnames}")
        for row in reader:
            where = f"{source.listing}:{reader.line_num}"
            label, name, start, end = (row[column] or "" for column in columns)
            if not label or not name:
                raise ValueError(f"{where}: no label or youtube_id; lists without labels cannot be used")
            times = [_number(where, time.partition(".")[0], "a time in seconds") for time in (start, end)]
            entries.append(Entry(where, f"{name}_{times[0]:06d}_{times[1]:06d}", label))
    return _search(source.root, entries), None


def _ssv2(source: Source) -> tuple[list[Entry], Names]:
    """Official Something-Something v2 json; `<id>.webm` files anywhere below the root.

    Rows hold `id` and `template` (brackets aside, a name in `labels.json` beside the list), or a class index
    as `class` (S2D).
    """
    table = _beside(source.root, source.listing, "*labels.json")
    numbers = read_json(table) if table else {}
    rows, entries = read_json(source.listing), []
    if not isinstance(rows, list):
        raise ValueError(f"{source.listing}: expected a list of videos, found {type(rows).__name__}")
    for i, row in enumerate(rows):
        where = f"{source.listing}: entry {i}"
        label = row.get("class", row.get("template")) if isinstance(row, dict) else None
        if label is None or "id" not in row:
            raise ValueError(
                f"{where}: no id and template in {str(row)[:60]!r} (the test list has no labels)"
            )
        if isinstance(label, str):
            label = label.replace("[", "").replace("]", "")
            if numbers and label not in numbers:
                raise ValueError(f"{where}: template {label!r} is not in {table}")
        entries.append(Entry(where, str(row["id"]), label))
    return _search(source.root, entries), sorted(numbers, key=lambda name: int(numbers[name])) or None


FORMATS: dict[str, Callable[[Source], tuple[list[Entry], Names]]] = {
    "folders": _folders,
    "list": _list,
    "rawframes": _rawframes,
    "ucf101": _ucf101,
    "hmdb51": _hmdb51,
    "hmdb51_all": _hmdb51,
    "kinetics": _kinetics,
    "ssv2": _ssv2,
}

# -- what they share -------------------------------------------------------------------------


def _beside(root: Path, listing: Path, pattern: str) -> Path | None:
    """The first file of that name beside a listing, or in the root."""
    return next((path for folder in (listing.parent, root) for path in sorted(folder.glob(pattern))), None)


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    """The lines of a text file that are not empty, each with its place for messages."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file, so no list of videos") from error
    return ((f"{file}:{n}", line.strip()) for n, line in enumerate(text.splitlines(), 1) if line.strip())


def _split(where: str, line: str, count: int, form: str, left: bool = False) -> list[str]:
    """The fields of a line; the first may hold spaces, or the last with `left`."""
    fields = line.split(maxsplit=count - 1) if left else line.rsplit(maxsplit=count - 1)
    if len(fields) != count:
        raise ValueError(f"{where}: expected '{form}', found {line[:80]!r}")
    return fields


def _number(where: str, text: str, what: str, least: int = 0) -> int:
    if not text.lstrip("-").isdigit() or int(text) < least:
        raise ValueError(f"{where}: {text!r} is not {what} (a whole number from {least} on)")
    return int(text)


def _is_video(path: Path) -> bool:
    """Whether it is a video file, or a folder of images."""
    if path.is_dir():
        return any(entry.suffix.lower() in IMAGES for entry in path.iterdir())
    return path.suffix.lower() in VIDEOS


def _search(root: Path, entries: list[Entry]) -> list[Entry]:
    """Entries named by the bare name of a video anywhere below the root, with the path it was found at."""
    names, found = {entry.path for entry in entries}, dict[str, str]()
    for folder, folders, files in os.walk(root):
        for name in sorted((*files, *folders)):
            stem = name if name in names else Path(name).stem
            if stem in names and (name == stem or Path(name).suffix.lower() in VIDEOS):
                found.setdefault(stem, os.path.join(folder, name))
        folders[:] = sorted(set(folders) - names)  # folders of images are not searched
    return [entry._replace(path=found.get(entry.path, f"{entry.path}.mp4")) for entry in entries]


def _listed_names(source: Source, entries: list[Entry]) -> Names:
    """Classes of a numbered list: from `classes.txt`, else from folders that match the labels one to one."""
    if table := _beside(source.root, source.listing, "classes.txt"):
        return [line for _, line in _lines(table)]
    folders: dict[int, set[str]] = {}
    for entry in entries:
        folders.setdefault(int(entry.label), set()).add(Path(entry.path).parent.name)
    count = max(folders, default=-1) + 1
    missing = next((label for label in range(count) if label not in folders), None)
    if missing is not None and source.part == "train":
        last = next(entry.where for entry in entries if entry.label == count - 1)
        raise ValueError(f"{last}: label {count - 1}, but no video has label {missing}; labels count from 0")
    names = [min(folders.get(label, {""})) for label in range(count)]
    apart = len(set(names)) == count and all(len(f) == 1 and f != {""} for f in folders.values())
    return names if apart else [str(label) for label in range(count)]
