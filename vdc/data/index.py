"""Which videos, which labels."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from vdc.data.folders import VIDEOS, Part, has_suffix, ignored
from vdc.data.formats import Format, read_entries
from vdc.data.lists import Entry, class_table
from vdc.data.reader import Decoder, Reader, open_video
from vdc.data.shards import expanded
from vdc.data.tables import Names, Source
from vdc.data.text import shown


@dataclass(frozen=True)
class Video:
    """One labelled video.

    Args:
        path: absolute; a file, or a folder of images.
        label: class index.
        frames: of a folder, as its list says; `None` counts the images.
        decoder: that reads it.
    """

    path: str
    label: int
    frames: int | None = None
    decoder: Decoder = "pyav"

    def open(self) -> Reader:
        """A reader of its frames."""
        return open_video(self.path, self.frames, self.decoder)


@dataclass(frozen=True)
class Index:
    """The videos of one part, and the names of all classes in label order.

    Args:
        videos: of the part.
        classes: names, in label order.
        numbered: whether the list gave labels as numbers.
    """

    videos: list[Video]
    classes: list[str]
    numbered: bool = False


def read_index(
    root: str,
    listing: str | None,
    fmt: Format = "auto",
    classes: list[str] | None = None,
    known: list[str] | None = None,
    part: Part = "train",
) -> Index:
    """Read the videos of one part of a set.

    Args:
        root: folder that the paths in lists start from.
        listing: list file, or folder of class folders, in `root` or by its own path; `None` is `root` itself.
            For HMDB51 the folder of split files (split 1), or a pattern such as `splits/*_test_split2.txt`.
        fmt: how to read it; `auto` looks.
        classes: keep only these, relabelled in alphabetical order.
        known: classes in label order, for a part that must share those of the training part.
        part: which videos of a listing that holds several parts (HMDB51, a column `split`).

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a line, label or class that makes no sense, by file and line.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"--data.root {root}: no such folder")
    place = Path(root).absolute()
    source = Source(place, _find(place, listing), part, fmt == "hmdb51_all", known)
    entries, names = read_entries(source, fmt)
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
    videos = [replace(v, label=new[v.label]) for v in index.videos if v.label in new]
    return Index(videos, kept, index.numbered)


def orders_classes(root: str, listing: str | None) -> bool:
    """Whether a `classes.txt` tells which class a number is."""
    place = Path(root).absolute()
    return class_table(Source(place, _find(place, listing), "train")) is not None


def _find(root: Path, listing: str | None) -> Path:
    """Where a listing is: in the root, or by its own path; its name may be a pattern."""
    if listing is None:
        return root
    for path in (root / listing, Path(listing).absolute()):
        if path.exists() or any(any(path.parent.glob(name)) for name in expanded(path.name)):
            return path
    raise FileNotFoundError(f"{listing}: no such list or folder, neither in {root} nor here")


def _resolve(entries: list[Entry], names: Names, source: Source) -> Index:
    """Entries with class indices and absolute paths; what makes no sense is refused, what is odd warned of."""
    if not entries:
        raise ValueError(f"{source.listing}: lists no {source.part} videos")
    if names is None:
        names = sorted({str(entry.label) for entry in entries}, key=lambda n: (n.isdecimal() and int(n), n))
    numbers = {name: label for label, name in enumerate(names)}
    folders: dict[str, dict[str, str]] = {}
    videos = []
    for entry in entries:
        label = numbers.get(entry.label, -1) if isinstance(entry.label, str) else entry.label
        if not 0 <= label < len(names):
            raise ValueError(_out_of_range(entry, names))
        videos.append(Video(on_disk(source, entry.path, folders), label, entry.frames))
    numbered = not isinstance(entries[0].label, str)
    if numbered and not all(name.isdecimal() for name in names):
        _compare_folders(entries, videos, names)
    _warn_of_names(names, source)
    _warn_of_repeats(entries, videos, names)
    return Index(videos, names, numbered)


def _out_of_range(entry: Entry, names: list[str]) -> str:
    """Why a label is refused, with the nearest class."""
    some = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
    hint = ""
    if isinstance(entry.label, str):
        folded = {name.casefold(): name for name in names}
        near = get_close_matches(entry.label.casefold(), folded, 1)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
    elif entry.label == len(names):
        hint = "; labels count from 0"
    return f"{entry.where}: label {entry.label!r} is out of range: {len(names)} classes ({some}){hint}"


def on_disk(source: Source, path: str, folders: dict[str, dict[str, str]]) -> str:
    """The absolute path that a list means, there or not.

    Where there is no such file, one of the same name with another suffix stands in: the .mp4 of a prepared copy
    first; lists may name videos without suffix. A path from `/` may be meant from the root.

    Args:
        source: the list.
        path: as listed.
        folders: what earlier calls found in folders.
    """
    for found in (os.path.join(source.root, path), f"{source.root}{os.sep}{path.lstrip('/')}"):
        if os.path.exists(found):
            return found
        folder, name = os.path.split(found)
        if folder not in folders:
            held = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []
            suffixed = [name for name in held if has_suffix(name) and not ignored(name)]
            suffixed.sort(key=lambda name: name.lower().endswith(".mp4"))
            folders[folder] = {os.path.splitext(name)[0]: name for name in suffixed}
        stem, suffix = os.path.splitext(name)
        if other := folders[folder].get(stem if suffix.lower() in VIDEOS else name):
            return os.path.join(folder, other)
    return os.path.join(source.root, path)


# -- what is odd -----------------------------------------------------------------------------


def identity(path: str) -> tuple[int, int] | str:
    """What file a path names, whatever its spelling: links and, where the disk folds it, case aside."""
    try:
        stat = os.stat(path)
    except OSError:
        return os.path.normcase(os.path.normpath(path))
    return (stat.st_dev, stat.st_ino)


def bytes_of(path: str) -> int:
    """Bytes of a video, file or folder."""
    if os.path.isdir(path):
        return sum(entry.stat().st_size for entry in os.scandir(path))
    return os.path.getsize(path)


def _warn_of_repeats(entries: list[Entry], videos: list[Video], names: list[str]) -> None:
    """Warn of videos that are listed more than once, and of those that have two labels."""
    first: dict[tuple[int, int] | str, int] = {}
    again, apart = list[tuple[int, int]](), list[tuple[int, int]]()
    for i, video in enumerate(videos):
        before = first.setdefault(identity(video.path), i)
        if before != i:
            (again if videos[before].label == video.label else apart).append((before, i))
    if again:
        i, j = again[0]
        rank_zero_warn(
            f"{entries[j].where}: {shown(entries[j].path)} is listed before, at {entries[i].where}; "
            f"{len(again)} videos are listed more than once and count so often"
        )
    if apart:
        i, j = apart[0]
        rank_zero_warn(
            f"{entries[j].where}: {shown(entries[j].path)} has the label {shown(names[videos[j].label])} here and "
            f"{shown(names[videos[i].label])} at {entries[i].where}; {len(apart)} videos have two labels"
        )


def _warn_of_names(names: list[str], source: Source) -> None:
    """Warn of classes whose names differ by case and spaces alone."""
    if source.known:
        return
    seen: dict[str, str] = {}
    for name in names:
        before = seen.setdefault("".join(name.casefold().split()), name)
        if before != name:
            rank_zero_warn(
                f"{source.listing}: classes {shown(before)} and {shown(name)} differ by case or spaces alone: are "
                "they one?"
            )


def _compare_folders(entries: list[Entry], videos: list[Video], names: list[str]) -> None:
    """Compare numbered labels with folders that are named as classes.

    Raises:
        ValueError: most videos lie in the folder of another class than their number says.
    """
    known = set(names)
    held = [os.path.basename(os.path.dirname(entry.path)) for entry in entries]
    named = [i for i, folder in enumerate(held) if folder in known]
    wrong = [i for i in named if held[i] != names[videos[i].label]]
    if not wrong:
        return
    i = wrong[0]
    message = (
        f"{entries[i].where}: label {videos[i].label} is class {shown(names[videos[i].label])}, but the video lies "
        f"in folder {shown(held[i])}; so do {len(wrong)} of {len(named)} videos"
    )
    if 2 * len(wrong) > len(named):
        raise ValueError(f"{message}: labels count from 0, in the order of the training list or classes.txt")
    rank_zero_warn(message)
