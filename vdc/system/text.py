"""Names from data in what people and programs read: nothing in a name is taken for a command."""

from rich.text import Text


def printable(text: str) -> str:
    """A name from data as it can be printed: control characters and bytes that are no UTF-8 are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def plain(text: str) -> Text:
    """A name for a table in the terminal, where brackets would be taken for markup."""
    return Text(printable(text))
