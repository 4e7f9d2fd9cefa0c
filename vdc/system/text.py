"""Names in what people read: nothing in one of data is taken for a command, and a wrong one is answered."""

from collections.abc import Iterable
from difflib import get_close_matches

from rich.text import Text


def printable(text: str) -> str:
    """A name from data as it can be printed: control characters and bytes that are no UTF-8 are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(text: str) -> Text:
    """A name for a table in the terminal, where brackets would be taken for markup."""
    return Text(printable(text))


def nearest(word: str, names: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing when no name comes close."""
    close = get_close_matches(word, sorted({*names} - {word}), n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
