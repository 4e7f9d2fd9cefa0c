"""What a study says of itself, as its folder holds it: the opening of its page."""

from pathlib import Path

from vdc.system.schema import Fields, Size, read_fields

FILE = "table.json"


class Opening(Fields):
    """A study's words and its table."""

    title: str
    source: str  # publication and table
    fixed: str  # what all cells share
    claim: str  # what is expected to be seen
    texts: Size  # leading columns that hold words
    table: list[list[str]]  # header and lines, as the study prints them


def opening(folder: str) -> Opening:
    """Read what a study wrote of itself.

    Args:
        folder: that `vdc study` writes its table to.

    Raises:
        FileNotFoundError: no study wrote to it.
        ValueError: the file is not what a study writes.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise FileNotFoundError(f"--study {folder}: no {FILE} there: give the folder of a study's table")
    return Opening(**read_fields(file, Opening))
