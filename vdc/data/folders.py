"""Folders of videos: what counts as a video, a class or a split, by one rule for every list and command."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from vdc.data.reader import IMAGES
from vdc.system.text import printable

VIDEOS = frozenset(
    (".mp4", ".avi", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts")
)
SYSTEM = frozenset(
    (
        "__macosx",
        "thumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "@eadir",
        "lost+found",
    )
)  # what operating systems and disk stations leave behind
ANNOTATIONS = frozenset(("annotation", "annotations"))
NOTES = frozenset(  # what folders beside the classes hold
    (".txt", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".md", ".pdf", ".html", ".npy", ".npz",
     ".pkl", ".mat", ".h5", ".zip", ".gz", ".tar", ".rar")
)  # fmt: skip
METADATA = ("metadata.csv", "metadata.jsonl")  # of folders that Hugging Face's `datasets` reads
Part = Literal["train", "val", "test"]
SPLITS: dict[Part, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or made by the system: never a video, class or list."""
    return name.startswith(".") or name.casefold() in SYSTEM


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted, without what is ignored."""
    return sorted(path for path in folder.iterdir() if not ignored(path.name))


def has_suffix(name: str) -> bool:
    """Whether a name ends as video files do."""
    return os.path.splitext(name)[1].lower() in VIDEOS


def is_video(path: Path) -> bool:
    """Whether it is a video file, or a folder of images."""
    if ignored(path.name) or path.name.casefold() in ANNOTATIONS:
        return False
    if path.is_dir():
        return any(Path(name).suffix.lower() in IMAGES and not ignored(name) for name in os.listdir(path))
    return has_suffix(path.name)


def walk(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Every folder below a root with the names in it, sorted, without what is ignored; links are followed.

    As `os.walk`: a name that the caller takes from the list of folders is not entered. A link to a folder
    that it lies in is not followed.
    """
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [
            name
            for name in sorted(folders)
            if not ignored(name) and not _leads_up(os.path.join(folder, name), real)
        ]
        yield Path(folder), folders, [name for name in sorted(files) if not ignored(name)]


def _leads_up(path: str, folder: str) -> bool:
    """Whether a path in a folder is a link to that folder, or to one that it lies in."""
    if not os.path.islink(path):
        return False
    target = os.path.realpath(path)
    return folder == target or folder.startswith(os.path.join(target, ""))


class LeftOut:
    """What is not read, counted by kind, with an example of each."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, path: Path, kind: str | None = None) -> None:
        """Note a file or folder; a file's kind is its suffix."""
        found = self._found.setdefault(kind or path.suffix.lower() or "no suffix", [])
        found.append(str(path))

    def __len__(self) -> int:
        """Files and folders noted."""
        return sum(map(len, self._found.values()))

    def __str__(self) -> str:
        """How many of which kind, each with the first."""
        kinds = sorted(self._found.items(), key=lambda item: (-len(item[1]), item[0]))
        return ", ".join(f"{len(paths)} {kind} ({printable(paths[0])})" for kind, paths in kinds)

    def counts(self) -> dict[str, dict[str, int | list[str]]]:
        """Kind -> how many, and the first ten; as JSON holds it."""
        return {k: {"count": len(paths), "first": paths[:10]} for k, paths in sorted(self._found.items())}


def class_folders(root: Path) -> tuple[dict[str, list[Path]], LeftOut]:
    """The videos of each class folder below `root`: files, or folders of images.

    Folders that hold only notes (lists, annotations, archives) are no classes.

    Returns:
        Class name -> videos, sorted; and what is left out.

    Raises:
        ValueError: there is no class, or one without videos.
    """
    classes: dict[str, list[Path]] = {}
    out = LeftOut()
    for path in entries(root):
        if not path.is_dir():
            out.add(path)
        elif path.name.casefold() in ANNOTATIONS:
            out.add(path, "folder of annotations")
        else:
            held = entries(path)
            videos = [p for p in held if is_video(p)]
            if not videos and _holds_notes(held):
                out.add(path, "folder of annotations")
                continue
            if not videos:
                raise ValueError(_no_videos(path, held))
            classes[path.name] = videos
            for other in held:
                if not is_video(other):
                    out.add(other, "subfolder" if other.is_dir() else None)
    if not classes:
        flat = sum(is_video(path) for path in entries(root))
        lying = f"; {flat} videos lie in it itself: name them with labels in a list, or" if flat else ":"
        raise ValueError(f"{root}: holds no class folders{lying} sort the videos into one folder per class")
    return classes, out


def _holds_notes(held: list[Path]) -> bool:
    """Whether these are all notes about videos, and there are some."""
    return bool(held) and all(path.is_file() and path.suffix.lower() in NOTES for path in held)


def _no_videos(folder: Path, held: list[Path]) -> str:
    """Why a class folder is refused."""
    out = LeftOut()
    for path in held:
        out.add(path, "subfolder" if path.is_dir() else None)
    found = f" (left out: {out})" if held else " (it is empty)"
    return (
        f"{folder}: holds no videos{found}; expected one folder per class in {folder.parent}, with the videos "
        "in it: name them in a list, or remove the folder (train and test folders are named by --data.train "
        "and --data.test)"
    )


def split_folders(root: Path) -> dict[Part, Path]:
    """The folders `train`, `val` and `test` of a set whose class folders are sorted so, by part; or none.

    `training`, `valid`, `validation` and `testing` are read too, in any case. A class may be called `train`:
    it holds videos itself, a split holds folders of them.

    Raises:
        ValueError: a part has two folders.
    """
    found: dict[Part, Path] = {}
    for path in entries(root):
        part = next((part for part, names in SPLITS.items() if path.name.casefold() in names), None)
        if part is None or not path.is_dir() or not _holds_classes(path):
            continue
        if part in found:
            raise ValueError(
                f"{root}: holds two {part} folders, {found[part].name} and {path.name}: name one"
            )
        found[part] = path
    return found if "train" in found else {}


def _holds_classes(folder: Path) -> bool:
    """Whether a folder holds folders with videos in them, and none itself; or metadata, or shards."""
    held = entries(folder)
    if any(path.name in METADATA or path.suffix == ".tar" for path in held):
        return True
    if any(path.is_file() and is_video(path) for path in held):
        return False
    return any(path.is_dir() and any(map(is_video, entries(path))) for path in held)


def search(root: Path, names: set[str]) -> dict[str, str]:
    """Where videos lie anywhere below a root, files or folders, by name with or without suffix."""
    found: dict[str, str] = {}
    for folder, folders, files in walk(root):
        folders[:] = [name for name in folders if name.casefold() not in ANNOTATIONS]
        for name in sorted((*files, *folders)):
            stem = name if name in names else os.path.splitext(name)[0]
            if stem in names and (name == stem or has_suffix(name)):
                found.setdefault(stem, str(folder / name))
        folders[:] = [name for name in folders if name not in names]  # folders of images are not searched
    return found
