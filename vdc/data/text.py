"""Lists as people write them: text of any encoding, fields by any separator, numbers that are checked."""

import codecs
import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")
WHOLE = re.compile(r"([0-9]{1,18})(?:\.0*)?")  # `3.0` too: how pandas writes a column with gaps
NO_VALUE = frozenset(("nan", "inf", "infinity", "none", "null", "na", "n/a"))
LARGEST = 10**9
SPACES = " \t"


def read_text(file: Path) -> str:
    """The text of a list: UTF-8 or UTF-16, other bytes of file names kept as Python keeps them in paths.

    Raises:
        ValueError: it is not text.
    """
    data = file.read_bytes()
    encoding, skip = next(((name, len(bom)) for bom, name in BOMS if data.startswith(bom)), ("utf-8", 0))
    if not skip and b"\0" in data[:200]:  # UTF-16 without a mark: every second byte of plain names is zero
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data[skip:].decode(encoding, "surrogateescape" if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not a text file, so no list of videos") from error
    if CONTROL.search(text):
        raise ValueError(f"{file}: not a text file, so no list of videos")
    return text


def read_json_list(file: Path) -> Any:
    """What a list in JSON holds, read as other lists are.

    Raises:
        ValueError: it is not JSON, with its name and line.
    """
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: line {error.lineno}: {error.msg}") from error
    except (ValueError, RecursionError) as error:  # a number of more than 4300 digits, brackets without end
        raise ValueError(f"{file} is not valid JSON: {error}") from error


def lines(file: Path, is_entry: Callable[[str], bool] = lambda line: False) -> Iterator[tuple[str, str]]:
    """The lines of a text file, each with its place for messages, without empty ones and comments.

    Args:
        file: to read.
        is_entry: whether a line that begins with `#` is no comment: names of HMDB51 begin so.
    """
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(file)), 1):
        text = line.strip(SPACES)
        if text and (text[0] != "#" or is_entry(text)):
            yield f"{file}:{number}", text


def cells_by(separator: str, where: str, line: str) -> list[str]:
    """The cells of a line, with quotes as csv has them; empty ones at its end are left out.

    Raises:
        ValueError: a quote that is not closed.
    """
    try:  # without quotes spaces stay: they may belong to a path that holds the separator
        reader = csv.reader([line], delimiter=separator, strict=True, skipinitialspace='"' in line)
        cells = next(reader)
    except csv.Error as error:
        raise ValueError(f"{where}: {error} in {shown(line)}") from error
    while len(cells) > 2 and not cells[-1].strip():
        cells.pop()
    return cells


def fields(where: str, line: str, count: int, form: str, left: bool = False) -> list[str]:
    """So many fields of a line by spaces; the first may hold spaces itself, or the last with `left`.

    Raises:
        ValueError: there are fewer, with what was expected.
    """
    parts = line.split(maxsplit=count - 1) if left else line.rsplit(maxsplit=count - 1)
    if len(parts) != count:
        raise ValueError(f"{where}: expected '{form}', found {shown(line)}")
    return parts


def numeric(text: str) -> bool:
    """Whether a text is meant as a number, be it a sound one or not: `3`, `-1`, `+2`, `1e5`, `nan`, `²`."""
    bare = re.sub(r"(?<=\d)[eE][+-]?\d+$", "", text.strip().lstrip("+-"))
    digits = any(c.isdigit() for c in bare) and all(c.isdigit() or c in ".,_" for c in bare)
    return digits or bare.casefold() in NO_VALUE


def number(where: str, value: object, what: str, low: int = 0, high: int = LARGEST) -> int:
    """A whole number of a list, from text or JSON.

    Args:
        where: file and line, for the message.
        value: as it was read.
        what: it is, for the message: `a label`.
        low: the least it may be.
        high: the most.

    Raises:
        ValueError: it is none, or out of range.
    """
    found = None
    if isinstance(value, str) and (match := WHOLE.fullmatch(value.strip())):
        found = int(match[1])
    elif isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        found = int(value)
    if found is None or not low <= found <= high:
        raise ValueError(f"{where}: {shown(value)} is not {what} (a whole number from {low} to {high})")
    return found


def shown(value: object, most: int = 60) -> str:
    """A value from data as a message quotes it: one short line that any terminal can print."""
    text = value if isinstance(value, str) else str(value)
    quoted = repr(text if len(text) <= most else text[:most] + "...")
    return quoted if isinstance(value, str) else quoted[1:-1]
