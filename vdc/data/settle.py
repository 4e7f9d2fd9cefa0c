"""Which videos of a folder train and which test: as its owner sorted them, else by a split that is made and written."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from vdc.data.doctor import Diagnosis, lists_in
from vdc.data.folders import split_folders
from vdc.data.index import Index, Video
from vdc.data.splits import read_lists
from vdc.data.stratify import stratify
from vdc.data.text import shown
from vdc.system.files import atomic_write

LISTS = ("train.txt", "test.txt")


@dataclass(frozen=True)
class Settled:
    """The two parts of a set.

    Args:
        root: its folder.
        train: list or folder of the training videos.
        test: of the test videos.
        classes: names, in label order.
        counts: training videos of each class that can be read.
        tests: test videos that can be read.
        skips: whether some that are listed cannot be read.
        notes: what was done, for people.
    """

    root: str
    train: str
    test: str
    classes: list[str]
    counts: list[int]
    tests: int
    skips: bool
    notes: list[str]


def settle(found: Diagnosis, out: Path) -> Settled:
    """Take the split that a set has, or make one and write it.

    Args:
        found: what the set is.
        out: folder of the lists of a split that is made.

    Raises:
        ValueError: it cannot be learnt from: one class, no video in a class, one video where two are needed.
    """
    for finding in found.findings:
        if finding.kind == "list" or (finding.kind == "classes" and finding.grave):
            raise ValueError(f"{found.root}: {finding.message.removeprefix(f'{found.root}: ')}")
    root = Path(found.root).absolute()
    listed, folders = lists_in(root), split_folders(root)
    places = {part: str(root / name) for part, name in listed.items()} or {
        part: str(path.absolute()) for part, path in folders.items()
    }
    train, test = places.get("train"), places.get("test") or places.get("val")
    lists = read_lists(str(root), train, test, "auto", None)
    if train is None or test is None:
        return _made(str(root), lists["train"], found, out)
    bad = set(found.unreadable)
    train_videos, tests = (
        [video for video in lists[part].videos if video.path not in bad] for part in ("train", "test")
    )
    if not tests:
        raise ValueError(f"{test}: none of its videos can be read")
    classes = lists["train"].classes
    return Settled(
        str(root), train, test, classes, _counts(train_videos, classes), len(tests), bool(bad),
        [f"split: as it is in {root}: {Path(train).name} and {Path(test).name}"],
    )  # fmt: skip


def _counts(videos: list[Video], classes: list[str]) -> list[int]:
    held = Counter(video.label for video in videos)
    return [held[label] for label in range(len(classes))]


def _made(root: str, index: Index, found: Diagnosis, out: Path) -> Settled:
    """A stratified split of the videos that can be read, each once, written to `out`."""
    label_of = {video.path: video.label for video in index.videos}
    spare: set[str] = set()
    for group in found.copies:
        alike = len({label_of[path] for path in group}) == 1
        spare.update(group[1:] if alike else group)  # of two labels, one is wrong, and nothing tells which
    left_out = spare | set(found.unreadable)
    videos = [video for video in index.videos if video.path not in left_out]
    few = [name for name, n in zip(index.classes, _counts(videos, index.classes), strict=True) if n < 2]
    if few:
        some = ", ".join(map(shown, few[:5])) + (" ..." if len(few) > 5 else "")
        raise ValueError(
            f"{root}: {len(few)} of {len(index.classes)} classes have fewer than two different videos that can be read "
            f"({some}): every class needs one to train on and one to test on"
        )
    split = stratify(videos, index.classes)
    parts = {part: [videos[row] for row in rows] for part, rows in split.parts.items()}
    counts = _counts(parts["train"], index.classes)
    if 0 in counts:
        lacking = shown(index.classes[counts.index(0)])
        raise ValueError(
            f"{root}: no split keeps sources together and leaves class {lacking} a training video; "
            "write train.txt and test.txt (lines `path label`) into it"
        )
    paths = [out.absolute() / name for name in LISTS]
    for path, held in zip(paths, (parts["train"], parts["test"]), strict=True):
        lines = ["path\tclass_name", *(f"{v.path}\t{index.classes[v.label]}" for v in held)]
        with atomic_write(path) as temporary:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogateescape")
    notes = [f"split: made here, {paths[0]} and {paths[1]}", *split.notes]
    if spare:
        some = ", ".join(sorted(map(shown, spare))[:5]) + (" ..." if len(spare) > 5 else "")
        notes.append(f"left out of the split {len(spare)} videos that show what others show: {some}")
    return Settled(
        root, str(paths[0]), str(paths[1]), index.classes, counts, len(parts["test"]), False, notes
    )
