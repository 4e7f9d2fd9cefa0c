"""Which videos, which labels."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from vdc.data.formats import FORMATS, Entry, Format, Names, Source, detect


@dataclass(frozen=True)
class Video:
    """One labelled video.

    Args:
        path: absolute; a file, or a folder of images.
        label: class index.
        frames: of a folder, as its list says; `None` counts the images.
    """

    path: str
    label: int
    frames: int | None = None


@dataclass(frozen=True)
class Index:
    """The videos of one part, and the names of all classes in label order."""

    videos: list[Video]
    classes: list[str]


def read_index(
    root: str,
    listing: str | None,
    fmt: Format = "auto",
    classes: list[str] | None = None,
    known: list[str] | None = None,
    part: Literal["train", "test"] = "train",
) -> Index:
    """Read the videos of one part of a set.

    Args:
        root: folder that the paths in lists start from.
        listing: list file, or folder of class folders, in `root` or by its own path; `None` is `root` itself.
            For HMDB51 the folder of split files (split 1), or a pattern such as `splits/*_test_split2.txt`.
        fmt: how to read it; `auto` looks.
        classes: keep only these, relabelled in alphabetical order.
        known: classes in label order, for a part that must share those of the training part.
        part: which half of a file that lists both (HMDB51).

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a line, label or class that makes no sense, by file and line.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"--data.root {root}: no such folder")
    source = Source(Path(root).absolute(), _find(Path(root).absolute(), listing), part, fmt == "hmdb51_all")
    found = detect(source.root, source.listing) if fmt == "auto" else fmt
    entries, names = FORMATS[found](source)
    index = _resolve(entries, known or names, source)
    return index if classes is None else subset(index, classes)


def subset(index: Index, classes: Iterable[str]) -> Index:
    """Only the videos of some classes, relabelled in alphabetical order.

    Raises:
        ValueError: a name that is no class, with the nearest one.
    """
    kept = sorted(set(classes))
    for name in kept:
        if name not in index.classes:
            near = get_close_matches(name, index.classes, 1)
            hint = (
                f"; did you mean {near[0]!r}?" if near else f"; there are {', '.join(index.classes[:5])} ..."
            )
            raise ValueError(f"--data.classes: no class {name!r}{hint}")
    new = {index.classes.index(name): label for label, name in enumerate(kept)}
    return Index([replace(v, label=new[v.label]) for v in index.videos if v.label in new], kept)


def _find(root: Path, listing: str | None) -> Path:
    """Where a listing is: in the root, or by its own path."""
    if listing is None:
        return root
    for path in (root / listing, Path(listing).absolute()):
        if path.exists() or glob.glob(str(path)):
            return path
    raise FileNotFoundError(f"{listing}: no such list or folder, neither in {root} nor here")


def _resolve(entries: list[Entry], names: Names, source: Source) -> Index:
    """Entries with class indices and absolute paths; prepared copies (.mp4) stand in for their originals."""
    if not entries:
        raise ValueError(f"{source.listing}: lists no {source.part} videos")
    if names is None:
        names = sorted({str(entry.label) for entry in entries}, key=lambda n: (n.isdigit() and int(n), n))
    numbers, videos = {name: label for label, name in enumerate(names)}, []
    for entry in entries:
        label = numbers.get(entry.label, -1) if isinstance(entry.label, str) else entry.label
        if not 0 <= label < len(names):
            some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
            raise ValueError(
                f"{entry.where}: label {entry.label!r} is out of range: {len(names)} classes ({some})"
            )
        path = os.path.join(source.root, entry.path)
        prepared = os.path.splitext(path)[0] + ".mp4"
        if not os.path.exists(path) and os.path.exists(prepared):
            path = prepared
        videos.append(Video(path, label, entry.frames))
    return Index(videos, names)
