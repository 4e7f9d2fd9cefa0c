"""Lists as tables: rows of cells, the separator and the header told by the content."""

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from vdc.data.folders import VIDEOS, Part, has_suffix
from vdc.data.text import cells_by, lines, numeric

PATHS = (
    "path", "video_path", "filepath", "file_path", "clip_path", "file", "filename", "file_name", "video",
    "video_file_name", "video_file", "clip", "clip_name", "video_name", "name", "video_id", "id",
)  # fmt: skip
LABELS = (
    "label", "class", "label_id", "class_id", "label_idx", "class_idx", "label_index", "class_index", "target",
    "category", "action", "activity", "tag", "y",
)  # fmt: skip
NAMES = ("class_name", "classname", "label_name", "action_name", "category_name", "label_text")
FRAMES = ("frames", "num_frames", "n_frames", "nframes", "total_frames", "frame_count")
PARTS = ("split", "subset", "partition")
SEPARATORS = (",", ";", "\t", " ")
SAMPLE = 200  # lines by which the separator is told
AFTER_VIDEO = re.compile(
    rf"(.*\.(?:{'|'.join(sorted(suffix[1:] for suffix in VIDEOS))}))[ \t]+([^ \t].*)", re.IGNORECASE
)

Names = list[str] | None  # classes in label order, where the format tells


@dataclass(frozen=True)
class Source:
    """What a format is read from.

    Args:
        root: folder that paths start from.
        listing: file or folder.
        part: which videos of a listing that holds several parts.
        unused: `hmdb51_all`: clips that the official split leaves out belong to the training part.
        known: classes in label order, where another part tells them.
    """

    root: Path
    listing: Path
    part: Part
    unused: bool = False
    known: Names = None

    def holds(self, path: str) -> bool:
        """Whether there is such a file or folder."""
        return os.path.exists(os.path.join(self.root, path))

    @cached_property
    def table(self) -> "Table":
        """The listing as a table."""
        return read_table(self)


class Row(NamedTuple):
    """A line of a table."""

    where: str
    cells: list[str]


@dataclass(frozen=True)
class Table:
    """A list as rows of cells.

    Args:
        source: it was read from.
        rows: without the header.
        separator: comma, semicolon, tab, space; empty for paths alone.
        header: names of the columns, or none.
    """

    source: Source
    rows: list[Row]
    separator: str
    header: list[str]

    def column(self, names: tuple[str, ...]) -> int | None:
        """Where the header has one of these columns: the first of them that it has."""
        return next((self.header.index(name) for name in names if name in self.header), None)

    def counts_frames(self) -> bool:
        """Whether most rows are `folder frames label`."""
        rows = [placed(row.cells, self.separator) for row in self.rows]
        counted = sum(
            len(values) == 2 and all(map(numeric, values)) for path, values in rows if not has_suffix(path)
        )
        return not self.header and 2 * counted > len(rows)


def read_table(source: Source) -> Table:
    """The rows of a list; what separates the cells, and whether there is a header, is told by the content."""
    if source.listing.suffix.lower() == ".jsonl":
        return _json_lines(source)

    def is_entry(line: str) -> bool:
        return any(_strength(source, _cells(source, sep, "", line), sep) == 2 for sep in (*SEPARATORS, ""))

    found = list(lines(source.listing, is_entry))
    separator = _separator(source, found[:SAMPLE])
    rows = [Row(where, _cells(source, separator, where, line)) for where, line in found]
    header: list[str] = []
    first = found[0][1].split() if rows and separator == " " else rows[0].cells if rows else []
    if _is_header(source, first, separator):
        header = [_column(cell) for cell in first]
    return Table(source, rows[bool(header) :], separator, header)


def _json_lines(source: Source) -> Table:
    """A list of one JSON object a line, whose keys are the columns.

    Raises:
        ValueError: a line is no object.
    """
    found: list[tuple[str, dict[str, Any]]] = []
    for where, line in lines(source.listing):
        try:
            held = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where}: not valid JSON: {error}") from error
        if not isinstance(held, dict):
            raise ValueError(f'{where}: expected an object such as {{"file_name": ..., "label": ...}}')
        found.append((where, {_column(key): value for key, value in held.items()}))
    header = list(dict.fromkeys(key for _, held in found for key in held))
    cells = [[held.get(key) for key in header] for _, held in found]
    rows = [["" if value is None else str(value) for value in row] for row in cells]
    return Table(source, [Row(where, row) for (where, _), row in zip(found, rows, strict=True)], ",", header)


def _is_header(source: Source, cells: list[str], separator: str) -> bool:
    """Whether a first row names columns, and no video or label."""
    return (
        bool(cells and _known(cells))
        and not _strength(source, cells, separator)
        and not any(map(numeric, cells))
    )


def _separator(source: Source, found: list[tuple[str, str]]) -> str:
    """By which most lines become a path and a label; empty where they are paths alone."""
    best, chosen = (0, 0, 0), ""
    for separator in (*SEPARATORS, ""):
        rows = [_cells(source, separator, "", line) for _, line in found]
        if rows and separator and len(_known(rows[0])) > 1:
            return separator
        rows = [row for row in rows if len(row) > 1 or not separator]
        strength = sum(_strength(source, row, separator) for row in rows)
        score = (strength, sum(numeric(row[-1]) for row in rows if len(row) > 1), len(rows) * bool(separator))
        if score > best:
            best, chosen = score, separator
    return chosen


def _strength(source: Source, cells: list[str], separator: str) -> int:
    """How much a row looks like one of a video: 2 if the file is there, 1 by its suffix, else 0."""
    path = placed(cells, separator)[0]
    return 2 if path and source.holds(path) else int(has_suffix(path))


def _cells(source: Source, separator: str, where: str, line: str) -> list[str]:
    """The cells of a line. Without `where` a broken quote makes no error, but no cells."""
    if not separator:
        return [line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line]
    if separator == " " and line[0] != '"':
        return _by_spaces(source, line)
    try:
        found = cells_by(separator, where, line)
    except ValueError:
        if where:
            raise
        return [""]
    return [cell for cell in found if cell] or [""] if separator == " " else found


def _by_spaces(source: Source, line: str) -> list[str]:
    """A path, which may hold spaces and end in a number, and the numbers or the name behind it."""
    if match := AFTER_VIDEO.fullmatch(line):
        path, rest = match.groups()
        values = re.split(r"[ \t]+", rest)
        if not all(map(numeric, values)):
            return [path, rest]
    else:
        first, *words = re.split(r"[ \t]+", line)
        if not words:
            return [first]
        numbers = next((i for i, word in enumerate(reversed(words)) if not numeric(word)), len(words))
        values = words[-max(numbers, 1) :]
        path = _without_last(line, len(values))
    longer = _without_last(line, 1)
    return [longer, values[-1]] if len(values) > 1 and source.holds(longer) else [path, *values]


def _without_last(line: str, count: int) -> str:
    """A line without its last words; spaces between the others stay as they are."""
    return re.sub(rf"([ \t]+[^ \t]+){{{count}}}$", "", line)


def placed(cells: list[str], separator: str) -> tuple[str, list[str]]:
    """The path among cells, with commas that no quotes protect, and the other cells: the label may come first."""
    videos = [i for i, cell in enumerate(cells) if has_suffix(cell.strip())]
    last = len(cells) - 1
    if separator == " " or not videos:
        path, values = cells[0], cells[1:]
    elif videos[0] == last == 1:
        path, values = cells[1], cells[:1]
    else:
        path, values = separator.join(cells[: videos[0] + 1]), cells[videos[0] + 1 :]
    return path.strip(), [value.strip() for value in values]


def _column(cell: str) -> str:
    """Name of a column as it is compared."""
    return re.sub(r"[ \t-]+", "_", cell.strip().casefold())


def _known(cells: list[str]) -> set[str]:
    """The columns among these cells that we know."""
    return {_column(cell) for cell in cells} & {*PATHS, *LABELS, *NAMES, *FRAMES, *PARTS, "youtube_id"}
