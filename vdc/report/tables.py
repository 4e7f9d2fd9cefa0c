"""Tables for terminals, in which no number is ever cut, and as markdown."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from vdc.system.text import plain, printable

PIPED = 150  # columns of what is no terminal: files have room
WHAT = 22  # columns, at least, of the names of a table that is too wide for its terminal
FRAME = 3  # columns of a border and the spaces beside it


def console() -> Console:
    """The terminal, or a wide page where output goes to a file."""
    return Console(width=None if sys.stdout.isatty() else PIPED)


def fitted(
    headers: Sequence[str], lines: Sequence[Sequence[str]], texts: int, width: int, title: str = ""
) -> list[Table]:
    """A table as wide as a terminal, or several that say the same: words wrap, numbers stay whole.

    Args:
        headers: of the columns.
        lines: cells.
        texts: leading columns that hold words.
        width: columns of the terminal.
        title: above the first.
    """
    lines = [[printable(cell) for cell in line] for line in lines]
    columns = [[header, *cells] for header, *cells in zip(headers, *lines, strict=True)]
    words, numbers = columns[:texts], columns[texts:]
    longest = [[word for cell in column for word in cell.split()] for column in words]
    if sum(map(taken, [*longest, *numbers])) < width:
        return [build(words, numbers, width, title)]
    what = ["", *(", ".join(cell for cell in cells if cell) for cells in list(zip(*words, strict=True))[1:])]
    parts: list[list[list[str]]] = [[]]
    for column in numbers:
        if parts[-1] and WHAT + sum(map(taken, [*parts[-1], column])) > width:
            parts.append([])
        parts[-1].append(column)
    return [build([what], part, width, "" if n else title) for n, part in enumerate(parts)]


def narrowest(column: Sequence[str]) -> int:
    """Width of the longest word of a header, and of the widest number."""
    header, *cells = column
    return max(map(len, [*header.split(), *cells, ""]))


def taken(column: Sequence[str]) -> int:
    """Columns of a terminal that a column takes at least, with its frame."""
    return narrowest(column) + FRAME


def build(words: Sequence[Sequence[str]], numbers: Sequence[Sequence[str]], width: int, title: str) -> Table:
    """One table of columns, each a header and its cells; words get what numbers leave."""
    table = Table(title=title or None, title_justify="left")
    room = width - 1 - sum(map(taken, numbers)) - FRAME * len(words)
    wanted = [max(map(len, [*column, ""])) for column in words]
    while sum(wanted) > max(room, len(words)):
        wanted[wanted.index(max(wanted))] -= 1
    for column, given in zip(words, wanted, strict=True):
        table.add_column(plain(column[0]), overflow="fold", width=given)
    for column in numbers:
        table.add_column(column[0], justify="right", width=narrowest(column))
    for line in zip(*(column[1:] for column in (*words, *numbers)), strict=True):
        table.add_row(*map(plain, line))
    return table


def markdown(headers: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table as markdown."""
    cells = [[printable(cell).replace("|", "\\|") for cell in line] for line in lines]
    every = [headers, ["---"] * len(headers), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in every)


def size(count: float | None) -> str:
    """Bytes as people read them: `553 kB`, `3.1 MB`; nothing of an unknown number."""
    if count is None:
        return ""
    for limit, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}" if count < 1000 * limit else f"{count / limit:,.0f} {unit}"
    return f"{count:.0f} B"
