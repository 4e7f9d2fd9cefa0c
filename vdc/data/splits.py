"""From lists to splits: which videos are there, can be decoded, and are held out for validation."""

import hashlib
import os
from typing import Any, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn

from vdc.data.cache import undecodable
from vdc.data.formats import Format
from vdc.data.index import Index, Video, read_index, subset
from vdc.ops.rng import generator

Part = Literal["train", "test"]
Split = Literal["train", "val", "test"]
BadClip = Literal["error", "skip"]


def read_lists(
    root: str, train: str | None, test: str | None, fmt: Format, classes: list[str] | None
) -> dict[Part, Index]:
    """The training videos as listed, and the test videos if there are any, with the same classes.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a line, label or class that makes no sense, or no videos at all.
    """
    lists: dict[Part, Index] = {"train": read_index(root, train, fmt)}
    if test is not None:
        lists["test"] = read_index(root, test, fmt, known=lists["train"].classes, part="test")
    if classes is not None:
        lists = {part: subset(index, classes) for part, index in lists.items()}
    for part, index in lists.items():
        if not index.videos:
            raise ValueError(f"--data.{part}: no {part} videos of the classes {', '.join(index.classes)}")
    return lists


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


def divide(train: list[Video], test: list[Video], share: float, seed: int) -> dict[Split, list[Video]]:
    """All splits, with a validation split of `share` of every class: at least one video, never all.

    Args:
        train: training videos.
        test: test videos; a warning tells if some of them are training videos.
        share: in [0, 1).
        seed: of the choice.
    """
    if both := {video.path for video in train} & {video.path for video in test}:
        rank_zero_warn(f"{len(both)} test videos are also training videos, for example {min(both)}")
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
    digest = hashlib.sha256(lines.encode()).hexdigest()
    return {"videos": len(videos), "bytes": sum(_bytes(video.path) for video in videos), "sha256": digest}


def _bytes(path: str) -> int:
    """Bytes of a video, file or folder."""
    if os.path.isdir(path):
        return sum(entry.stat().st_size for entry in os.scandir(path))
    return os.path.getsize(path)
