"""WebDataset shards: tar files of samples `key.mp4`, `key.cls`, unpacked once beside themselves."""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from vdc.data.folders import SPLITS, Part, has_suffix, ignored
from vdc.data.lists import Entry, Labelled, entries_of
from vdc.data.tables import LABELS, NAMES, Names, Source
from vdc.data.text import shown
from vdc.system.files import fresh_dir, write_json
from vdc.system.locks import locked
from vdc.system.schema import Fields, Text, read_fields

INDEX = "samples.json"
ENDS = 2**20  # bytes at either end of a shard by which it is known again
LARGEST_NOTE = 2**20  # bytes of a label


class Sample(Fields):
    """A video and its label, as text."""

    file: Text
    label: Text


class Index(Fields):
    """`samples.json` of an unpacked shard."""

    shard: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    samples: list[Sample]


def expanded(pattern: str) -> list[str]:
    """`train-{000..002}.tar` as the names that it stands for; any other text as it is."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", pattern)
    if found is None:
        return [pattern]
    first, last = found.groups()
    numbers = [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return [name for number in numbers for name in expanded(pattern.replace(found[0], number, 1))]


def shards_of(listing: Path) -> list[Path]:
    """The tar files that a listing means: a folder of them, one, or a pattern with `*` or `{000..010}`."""
    if listing.is_dir():
        return sorted(path for path in listing.glob("*.tar") if path.is_file() and not ignored(path.name))
    if not listing.name.endswith((".tar", ".tar.gz", ".tgz")):
        return []
    names = expanded(listing.name)
    every = [
        [listing.with_name(name)] if len(names) > 1 else sorted(listing.parent.glob(name)) for name in names
    ]
    return [path for some in every for path in some]


def parts_of(root: Path) -> dict[Part, Path]:
    """The parts that names of shards in a folder tell (`train-000000.tar`), all by that folder; or none."""
    found = {part_of(path) for path in shards_of(root)}
    told: dict[Part, Path] = {part: root for part in found if part is not None}
    return told if None not in found and "train" in told else {}


def part_of(shard: Path) -> Part | None:
    """The part that the first word of a shard's name tells."""
    word = re.split(r"[^a-z]", shard.name.casefold())[0]
    return next((part for part, names in SPLITS.items() if word in names), None)


def parse_shards(source: Source) -> tuple[list[Entry], Names]:
    """Samples of shards: a video, and a label as `cls`, `txt`, or a field of `json`.

    Of a folder whose shards all name parts, those of the part that is wanted; `val` stands in for `test`.

    Raises:
        FileNotFoundError: a shard is missing, or there is none.
        ValueError: one is damaged, or a sample makes no sense.
    """
    shards = shards_of(source.listing)
    if not shards:
        raise FileNotFoundError(f"{source.listing}: no tar files")
    if source.listing.is_dir() and (parts := parts_of(source.listing)):
        wanted = "val" if source.part == "test" and "test" not in parts else source.part
        shards = [shard for shard in shards if part_of(shard) == wanted]
    rows = []
    for shard in shards:
        folder = unpacked(shard)
        rows += [
            Labelled(f"{shard}: {sample['file']}", str(folder / sample["file"]), sample["label"])
            for sample in read_fields(folder / INDEX, Index)["samples"]
        ]
    return entries_of(source, rows)


def unpacked(shard: Path) -> Path:
    """The folder of a shard's videos, hidden beside it: unpacked by the first process that asks, whole or not at all.

    Raises:
        FileNotFoundError: there is no such shard.
        ValueError: it is damaged, holds names that lead elsewhere, or is another one than was unpacked.
    """
    if not shard.is_file():
        raise FileNotFoundError(f"{shard}: no such shard")
    folder, digest = shard.with_name(f".{shard.name.partition('.tar')[0]}"), _identity(shard)
    if not (folder / INDEX).is_file():  # else it is whole, and the folder of shards may be read-only
        with locked(shard.with_name(f".{shard.name}.lock")):
            if not (folder / INDEX).is_file():
                _make(shard, folder, digest)
    if read_fields(folder / INDEX, Index)["shard"] != digest:
        raise ValueError(f"{folder} was unpacked from another {shard.name}: remove that folder")
    return folder


def _make(shard: Path, folder: Path, digest: str) -> None:
    """Unpack a shard, whole or not at all."""
    with fresh_dir(folder) as place:
        try:
            samples = [{"file": file, "label": label} for file, label in _unpack(shard, place)]
        except (tarfile.TarError, EOFError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{shard}: damaged, or no tar file of samples: {error}") from error
        write_json(place / INDEX, {"shard": digest, "samples": samples})


def _identity(shard: Path) -> str:
    """A hash of a shard's length and both of its ends."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(size - ENDS, 0))
        return hashlib.sha256(b"%d " % size + head + file.read(ENDS)).hexdigest()


def _unpack(shard: Path, folder: Path) -> Iterator[tuple[str, str]]:
    """Write every sample's video into a folder; name and label of each."""
    notes: dict[str, dict[str, str]] = {}
    videos: dict[str, str] = {}
    with tarfile.open(shard, "r:*") as tar:
        for member in tar:
            if not member.isfile() or ignored(member.name.rpartition("/")[2]):
                continue
            name = _safe(shard, member.name)
            stem, _, extension = name.rpartition("/")[2].partition(".")
            key = name[: len(name) - len(extension) - 1]
            data = tar.extractfile(member)
            assert data is not None
            if has_suffix(name):
                if key in videos or not stem:
                    raise ValueError(f"{shard}: sample {shown(key)} has two videos, or no name")
                videos[key] = name
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                with (folder / name).open("wb") as file:
                    while part := data.read(2**20):
                        file.write(part)
            elif extension in ("cls", "txt", "json"):
                notes.setdefault(key, {})[extension] = data.read(LARGEST_NOTE).decode()
    for key, name in videos.items():
        yield name, _label(shard, key, notes.get(key, {}))


def _safe(shard: Path, name: str) -> str:
    """A member's name, which stays below the folder it is unpacked to.

    Raises:
        ValueError: it leads elsewhere.
    """
    plain = name.removeprefix("./")
    if any(part in ("", ".", "..") for part in plain.split("/")) or "\\" in plain or not plain.isprintable():
        raise ValueError(f"{shard}: member {shown(name)} would be unpacked elsewhere: repack the shard")
    return plain


def _label(shard: Path, key: str, notes: Mapping[str, str]) -> str:
    """The label of a sample, as text."""
    if "json" in notes:
        held: Any = json.loads(notes["json"])
        fields = held if isinstance(held, dict) else {}
        told = next((fields[name] for name in ("cls", *NAMES, *LABELS) if name in fields), None)
    label = next((notes[kind].strip() for kind in ("cls", "txt") if kind in notes), None)
    found = str(told) if label is None and "json" in notes and told is not None else label
    if not found:
        raise ValueError(f"{shard}: sample {shown(key)} has no label: expected it as .cls, .txt, or in .json")
    return found
