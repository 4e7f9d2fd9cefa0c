"""Motion: which classes need it, who gains from it, and how much is left of it in condensed clips."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from vdc.condensed.format import load
from vdc.condensed.preview import contact_sheet
from vdc.data import RealData
from vdc.evaluate.results import student_of
from vdc.nets.interpolator import interpolator_of
from vdc.nets.teacher import load_teacher
from vdc.ops.pixels import to_frames
from vdc.ops.windows import apply_view
from vdc.report.results import find_sets
from vdc.report.tables import markdown
from vdc.system.files import atomic_write
from vdc.system.progress import track
from vdc.system.text import plain

Result = tuple[str, dict[str, Any]]  # file, and the evaluation it holds
VIDEOS = 16  # looked at per class, at most
CHUNK = 64  # stills per forward pass
KINDS = ("static", "dynamic")
SHOWN = 16  # classes in a picture of differences


# -- classes -------------------------------------------------------------------------------------------------


@torch.no_grad()
def feature_distance(net: Any, clips: Tensor) -> Tensor:
    """How far features move from one frame to the next, (N,): the mean distance of neighbours (Wang 2024, fig. 8).

    Every frame is seen as a still video of T frames, so that any video network gives features of frames.

    Args:
        net: with `features`, of clips (n, C, T, H, W).
        clips: (N, C, T, H, W) normalised; T at least 2.
    """
    n, _, frames = clips.shape[:3]
    single = clips.transpose(1, 2).flatten(0, 1)[:, :, None]  # (N * T, C, 1, H, W)
    found = [net.features(part.expand(-1, -1, frames, -1, -1)) for part in torch.split(single, CHUNK)]
    features = torch.cat(found).float().view(n, frames, -1)
    steps: Tensor = torch.linalg.vector_norm(features.diff(dim=1), dim=2)
    return steps.mean(1)


def class_distances(data: RealData, teacher: str, seed: int = 0) -> dict[str, float]:
    """Mean `feature_distance` of random training videos of every class, by class.

    Args:
        data: the real videos.
        teacher: folder of the network whose features are compared.
        seed: of the choice of videos.

    Raises:
        ValueError: clips of one frame, or a teacher of other classes or clips.
    """
    if data.spec.stored < 2:
        raise ValueError(f"--data.spec.stored_frames {data.spec.stored}: motion takes at least 2 frames")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    net = load_teacher(teacher, data.classes, data.spec).to(device)
    counts, found = torch.bincount(data.labels, minlength=data.num_classes).tolist(), {}
    for label, name in enumerate(track(data.classes, "motion of classes", unit="classes")):
        clips = data.sample(min(VIDEOS, counts[label]), seed, [label])[0]
        found[name] = round(float(feature_distance(net, clips.to(device)).mean()), 6)
    return found


def halves(distances: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Static and dynamic classes: those that move less than the others, and the rest (one more if odd)."""
    order = sorted(distances, key=lambda name: (distances[name], name))
    return order[: len(order) // 2], order[len(order) // 2 :]


def group_scores(held: Mapping[str, Any], groups: Sequence[Sequence[str]]) -> list[float | None]:
    """Mean accuracy of an evaluation over the classes of each group, in percent; `None` of untested ones."""
    scores = []
    for group in groups:
        known = [held["per_class"][name] for name in group if held["per_class"][name] is not None]
        scores.append(round(sum(known) / len(known), 4) if known else None)
    return scores


def name_of(held: Mapping[str, Any]) -> str:
    """Display name of an evaluation."""
    size = "" if held["ipc"] is None else f", ipc {held['ipc']}"
    return f"{held['method']}{size}, {held['protocol']['labels']}, {student_of(held)}"


class Groups:
    """Evaluations by static and dynamic classes.

    Args:
        results: evaluations; those of other classes are left out.
        distances: of every class.

    Raises:
        ValueError: none is of these classes.
    """

    def __init__(self, results: Sequence[Result], distances: Mapping[str, float]) -> None:
        self.distances, self.groups = distances, halves(distances)
        self.results = [
            r for r in results if set(r[1]["classes"]) == set(distances) and r[1].get("per_class")
        ]
        if not self.results:
            raise ValueError(
                "--data: no evaluation is of its classes, so none can be split into their groups"
            )

    def rows(self) -> list[list[str]]:
        """Cells of every evaluation: what it is of, then its top-1 on static and dynamic classes."""
        scores = [(name_of(held), group_scores(held, self.groups)) for _, held in self.results]
        return [[name, *("" if s is None else f"{s:.1f}" for s in found)] for name, found in scores]

    @property
    def headers(self) -> list[str]:
        """Of `rows`."""
        return ["", *(f"{len(g)} {kind} classes" for g, kind in zip(self.groups, KINDS, strict=True))]

    def table(self) -> Table:
        """For a terminal."""
        table = Table(*self.headers, title="top-1 % by motion of the class")
        for row in self.rows():
            table.add_row(*map(plain, row))
        return table

    def write(self, folder: Path) -> None:
        """`motion.csv`: a line per class. `motion.md`: a line per evaluation."""
        with atomic_write(folder / "motion.md") as temporary:
            temporary.write_text(markdown(self.headers, self.rows()), encoding="utf-8")
        with atomic_write(folder / "motion.csv") as temporary, temporary.open("w", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["class", "group", "distance", *(name for name, _ in self.results)])
            for kind, group in zip(KINDS, self.groups, strict=True):
                for name in group:
                    scores = [held["per_class"][name] for _, held in self.results]
                    writer.writerow([name, kind, self.distances[name], *scores])


# -- condensed clips -----------------------------------------------------------------------------------------


def differences(frames: Tensor) -> Tensor:
    """What changes from frame to frame, as bright as the largest change of all clips allows (Wang 2024, fig. 9).

    Args:
        frames: (N, T, H, W, C) uint8.

    Returns:
        The same shape; the first frame of every clip is black.
    """
    levels = frames.int()
    change = (levels[:, 1:] - levels[:, :-1]).abs()
    largest = change.amax().clamp_min(1) if change.numel() else 1
    return torch.cat([torch.zeros_like(levels[:, :1]), change * 255 // largest], 1).byte()


@torch.no_grad()
def draw_differences(condensed: Path, out: Path) -> None:
    """A picture of the first clip of every class as students see it, and below it what changes in it.

    Args:
        condensed: folder of the set.
        out: the PNG file.
    """
    stored = load(condensed)
    memory, spec = stored.memory(), stored.spec
    rows = memory.prefix(1)[:: memory.per_item][:SHOWN]
    clips = apply_view(memory.render(rows)[0], spec, None, interpolator_of(spec))
    frames = to_frames(clips)
    both = torch.stack([frames, differences(frames)], 1).flatten(0, 1)
    names = [text for name in stored.classes[: len(rows)] for text in (name, "change")]
    with atomic_write(out) as temporary:
        contact_sheet(both, names, columns=frames.shape[1]).save(temporary, "PNG")


def draw_all(dirs: Sequence[str], folder: Path) -> None:
    """`differences/<name>.png` of every condensed set in `dirs`, or in folders of these."""
    for path in find_sets(dirs):
        name = "-".join(part for part in path.parts if part not in ("/", "condensed", "runs", "evaluations"))
        draw_differences(path, folder / "differences" / f"{name}.png")
