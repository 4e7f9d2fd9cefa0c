"""Stored clips of condensed sets as short films, one per class, within a number of bytes."""

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from vdc.condensed.format import load
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.preview import GAP, enlarge, grid
from vdc.ops.pixels import to_frames
from vdc.system.mp4 import write_mp4

MOST = 16  # clips of a class
FPS = 8  # stored frames are a stride apart: real time would flash by
CRF = 26
SIDE = 96  # pixels that small frames are enlarged to: H.264 halves colour


@dataclass
class Film:
    """The stored clips of one class, side by side."""

    name: str
    data: str  # of a `data:` address, base64
    columns: int
    rows: int
    clips: int


@dataclass
class Shown:
    """What a page shows of a condensed set."""

    path: Path
    manifest: dict[str, Any]
    nbytes: dict[str, int]
    films: list[Film] = field(default_factory=list)
    note: str = ""  # what is left out

    @property
    def frames(self) -> str:
        """What a clip holds, in words."""
        spec = self.manifest["spec"]
        count = spec["stored_frames"] or spec["frames"]
        return (
            f"{count} frames of {spec['size']} x {spec['size']} pixels, {spec['stride']} source frames apart"
        )


def show(path: Path, budget: int) -> Shown:
    """Films of a set's classes, with as many clips each as fit.

    Args:
        path: folder of the set.
        budget: bytes of all films as text.

    Raises:
        ValueError: a file of the set has changed.
    """
    stored = load(path)
    shown = Shown(path, stored.manifest, stored.nbytes)
    per_class = stored.ipc * stored.per_item
    clips = min(per_class, MOST)
    first = film(stored, 0, clips)
    while clips > 1 and len(first.data) * stored.num_classes > budget:
        clips //= 2
        first = film(stored, 0, clips)
    used = 0
    for label in range(stored.num_classes):
        one = film(stored, label, clips) if label else first
        used += len(one.data)
        if used > budget:
            break
        shown.films.append(one)
    left_out = []
    if clips < per_class:
        left_out.append(f"the first {clips} of {per_class} clips of a class")
    if len(shown.films) < stored.num_classes:
        left_out.append(f"{len(shown.films)} of {stored.num_classes} classes")
    shown.note = (
        f"Shown: {' and '.join(left_out)}; the rest would make this page too large." if left_out else ""
    )
    return shown


@torch.no_grad()
def film(stored: CondensedSet, label: int, clips: int) -> Film:
    """The first clips of a class."""
    per_class = stored.ipc * stored.per_item
    memory = stored.memory()
    rows = torch.arange(label * per_class, label * per_class + clips)
    frames = to_frames(memory.render(rows)[0])  # (clips, T, H, W, C)
    columns = math.ceil(math.sqrt(clips))
    sheet = grid(enlarge(frames, max(SIDE, frames.shape[2])), columns)[:, :-GAP, :-GAP]
    return Film(stored.classes[label], as_base64(sheet), columns, math.ceil(clips / columns), clips)


def as_base64(frames: torch.Tensor) -> str:
    """Frames (T, H, W, C) uint8 as an mp4 file in base64."""
    with TemporaryDirectory() as work:
        path = Path(work) / "film.mp4"
        write_mp4(path, frames, FPS, CRF)
        return b64encode(path.read_bytes()).decode()


def show_all(paths: Sequence[Path], budget: int) -> list[Shown]:
    """Films of several sets that share a number of bytes; what one leaves, the next may use."""
    shown: list[Shown] = []
    left = budget
    for number, path in enumerate(paths):
        shown.append(show(path, left // (len(paths) - number)))
        left -= sum(len(one.data) for one in shown[-1].films)
    return shown
