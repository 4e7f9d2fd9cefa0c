"""Folders of Hugging Face `datasets`: videos beside a `metadata.csv` or `metadata.jsonl` that names and labels them."""

from dataclasses import replace
from pathlib import Path

from vdc.data.folders import METADATA, SPLITS, Part
from vdc.data.lists import Entry, class_table, parse_list
from vdc.data.tables import Names, Source

PART_OF: dict[str, Part] = {name: part for part, names in SPLITS.items() for name in names}


def metadata_of(listing: Path) -> Path | None:
    """The metadata of a folder, or that a listing is itself."""
    files = [listing / name for name in METADATA] if listing.is_dir() else [listing]
    return next((path for path in files if path.name in METADATA and path.is_file()), None)


def names_files(listing: Path, root: Path) -> bool:
    """Whether a listing is metadata as `datasets` has it: with a column `file_name`."""
    found = metadata_of(listing)
    return found is not None and "file_name" in Source(root, found, "train").table.header


def parse_metadata(source: Source) -> tuple[list[Entry], Names]:
    """Rows of `file_name` and a label; files are named from the folder that the metadata lies in.

    In metadata of a whole set, a column `split`, or else the first folder of every name, tells the part.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a row that makes no sense, by file and line.
    """
    listing = metadata_of(source.listing)
    if listing is None:
        raise FileNotFoundError(f"{source.listing}: holds neither {' nor '.join(METADATA)}")
    folder = listing.parent
    entries, names = parse_list(replace(source, root=folder, listing=listing))
    parts = [_part_of(entry.path) for entry in entries]
    if None not in parts:
        wanted = "val" if source.part == "test" and "test" not in parts else source.part
        entries = [entry for entry, part in zip(entries, parts, strict=True) if part == wanted]
    placed = [entry._replace(path=str(folder / entry.path)) for entry in entries]
    return placed, names or class_table(replace(source, listing=listing))


def parts_of(root: Path) -> dict[Part, Path]:
    """The parts that metadata of a whole set tells of, all by the same file; none where it tells of none."""
    listing = metadata_of(root)
    if listing is None or not names_files(root, root):
        return {}
    table = Source(root, listing, "train").table
    column, place = table.column(("split", "subset", "partition")), table.header.index("file_name")
    found: set[Part | None] = set()
    for row in table.rows:
        cell = row.cells[place if column is None else column]
        found.add(_part_of(cell) if column is None else PART_OF.get(cell.casefold()))
    told: dict[Part, Path] = {part: listing for part in found if part is not None}
    return told if None not in found and "train" in told else {}


def _part_of(name: str) -> Part | None:
    """The part that the first folder of a file's name tells."""
    first, slash, _ = name.partition("/")
    return PART_OF.get(first.casefold()) if slash else None
