"""From lists to splits: which videos are there, can be decoded, and are held out for validation."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn

from vdc.data import metadata, shards
from vdc.data.cache import undecodable
from vdc.data.folders import Part, split_folders
from vdc.data.formats import Format
from vdc.data.index import Index, Video, bytes_of, identity, orders_classes, read_index, subset
from vdc.data.reader import Decoder
from vdc.data.text import shown
from vdc.ops.rng import generator

Split = Literal["train", "val", "test"]
BadClip = Literal["error", "skip"]


def read_lists(
    root: str,
    train: str | None,
    test: str | None,
    fmt: Format,
    classes: list[str] | None,
    decoder: Decoder = "pyav",
) -> dict[Part, Index]:
    """The training videos as listed, and the validation and test videos if there are any, with the same classes.

    A root whose class folders lie in `train`, `val` and `test` folders is read as these, unless the lists are
    named; `val` stands in for a missing `test`.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a line, label or class that makes no sense, or no videos at all.
    """
    listings: dict[Part, str | None] = {"train": train}
    if train is None and fmt in ("auto", "folders", "huggingface", "webdataset") and Path(root).is_dir():
        listings |= _folders_of(root)
    if test is not None:
        listings["test"] = test
    lists: dict[Part, Index] = {"train": read_index(root, listings["train"], fmt)}
    for part in listings:
        if part != "train":
            lists[part] = read_index(root, listings[part], fmt, known=lists["train"].classes, part=part)
        if lists[part].numbered and not lists["train"].numbered and not orders_classes(root, listings[part]):
            some = ", ".join(map(shown, lists["train"].classes[:5]))
            rank_zero_warn(
                f"--data.{part}: labels are numbers; taken for the training classes in order: {some} ..."
            )
    if classes is not None:
        lists = {part: subset(index, classes) for part, index in lists.items()}
    for part, index in lists.items():
        if not index.videos:
            raise ValueError(f"--data.{part}: no {part} videos of the classes {', '.join(index.classes)}")
    return {
        part: replace(index, videos=[replace(video, decoder=decoder) for video in index.videos])
        for part, index in lists.items()
    }


def _folders_of(root: str) -> dict[Part, str | None]:
    """The `train`, `val`, `test` folders in `root`, or parts that its metadata or shards tell; `val` may be `test`."""
    place = Path(root).absolute()
    parts = split_folders(place) or metadata.parts_of(place) or shards.parts_of(place)
    found: dict[Part, str | None] = {part: str(path) for part, path in parts.items()}
    if "test" not in found and "val" in found:
        rank_zero_warn(f"{root}: no test folder; the videos in {found['val']} are the test videos")
        found["test"] = found.pop("val")
    return found


def no_test_videos(root: str) -> str:
    """What to do where test videos are needed and there are none."""
    return (
        f"no test videos: set --data.test to a list (lines `path label`) or a folder of class folders, or sort the "
        f"classes of {root} into train and test folders, clips of one source in the same"
    )


def bad_videos(
    part: Part, videos: list[Video], on_bad: BadClip, ranks: tuple[int, int], local: tuple[int, int]
) -> dict[int, str]:
    """Which videos to leave out.

    Args:
        part: for messages.
        videos: as listed.
        on_bad: `error` looks only whether the files are there, `skip` decodes all of them.
        ranks: which process this is, and how many share the work.
        local: the same on this machine.

    Returns:
        Position -> why.

    Raises:
        FileNotFoundError: `error`, and a file is missing.
        ValueError: none is left.
    """
    bad = {i: "missing" for i, video in enumerate(videos) if not os.path.exists(video.path)}
    if on_bad == "error":
        if bad:
            raise FileNotFoundError(
                f"{videos[min(bad)].path}: no such video; {len(bad)} of {len(videos)} {part} videos are "
                "missing: check --data.root, or leave them out with --data.on_bad_clip skip"
            )
        return {}
    rank, world = ranks
    mine = [i for i in range(rank, len(videos), world) if i not in bad]
    found = {mine[i]: why for i, why in undecodable([videos[i] for i in mine], local).items()}
    if world > 1:
        shares: list[dict[int, str]] = [{}] * world
        torch.distributed.all_gather_object(shares, found)
        found = {i: why for share in shares for i, why in share.items()}
    bad |= found
    if len(bad) == len(videos):
        raise ValueError(f"none of the {len(videos)} {part} videos can be decoded; the first: {bad[0]}")
    if bad:
        first = videos[min(bad)].path
        rank_zero_warn(f"left out {len(bad)} of {len(videos)} {part} videos, for example {first}")
    return bad


def divide(
    train: list[Video], test: list[Video], share: float, seed: int, val: list[Video] | None = None
) -> dict[Split, list[Video]]:
    """All splits; without validation videos, `share` of every class is held out: at least one, never all.

    Args:
        train: training videos.
        test: test videos; a warning tells if some of them are training videos.
        share: in [0, 1).
        seed: of the choice.
        val: validation videos of their own.

    Raises:
        ValueError: a share is asked for beside validation videos.
    """
    own = {identity(video.path): video.path for video in train}
    for part, videos in (("test", test), ("validation", val or [])):
        if both := [video.path for video in videos if identity(video.path) in own]:
            first, listed = min(both), own[identity(min(both))]
            spelled = "" if first == listed else f", there as {listed}"
            rank_zero_warn(
                f"{len(both)} {part} videos are also training videos, for example {first}{spelled}"
            )
    if val and share:
        raise ValueError(f"--data.val_share {share}: there is a folder of validation videos; set it to 0")
    if val:
        return {"train": train, "val": val, "test": test}
    held: set[int] = set()
    rows: dict[int, list[int]] = {}
    for row, video in enumerate(train):
        rows.setdefault(video.label, []).append(row)
    for label, mine in rows.items() if share else ():
        count = min(max(round(share * len(mine)), 1), len(mine) - 1)
        order = torch.randperm(len(mine), generator=generator(seed, "val", label)).tolist()
        held |= {mine[i] for i in order[:count]}
    return {
        "train": [video for row, video in enumerate(train) if row not in held],
        "val": [train[row] for row in sorted(held)],
        "test": test,
    }


def fingerprint(videos: list[Video], root: str) -> dict[str, Any]:
    """What a split is, wherever it lies: videos, bytes, and a hash of the relative paths and labels."""
    lines = "".join(f"{os.path.relpath(video.path, root)}\t{video.label}\n" for video in videos)
    digest = hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()
    return {"videos": len(videos), "bytes": sum(bytes_of(video.path) for video in videos), "sha256": digest}
