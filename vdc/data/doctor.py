"""Look at a set of videos before anything is trained on it: what there is, and what would break or falsify a run."""

import statistics
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from vdc.data.folders import SPLITS, Part, entries
from vdc.data.formats import Format
from vdc.data.index import Index, Video
from vdc.data.prepared_lists import LISTS
from vdc.data.probe import Probe, copies, probe_all
from vdc.data.sources import sources_of
from vdc.data.splits import no_test_videos, read_lists
from vdc.system.text import printable

SAME = {"file": "one file", "bytes": "files of the same bytes", "frames": "files that show the same frames"}


@dataclass(frozen=True)
class Finding:
    """Something to know of a set.

    Args:
        kind: `list`, `missing`, `broken`, `leak`, `labels`, `classes`, `duplicate` or `note`.
        grave: whether it would break or falsify a run.
        message: one line.
        paths: of the videos that it is about.
    """

    kind: str
    grave: bool
    message: str
    paths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Diagnosis:
    """What a set of videos is.

    Args:
        root: its folder.
        lists: what each part was read from, by part; the root itself for class folders.
        classes: videos of each part, by class.
        frames: fewest, median and most frames of a video.
        seconds: the same in seconds, of those with a frame rate.
        rates: videos by frames per second.
        sizes: videos by `width x height`.
        bytes: of all videos.
        findings: the grave ones first.
        unreadable: paths of videos that are missing or cannot be decoded.
        copies: paths of videos that show the same, each group once.
    """

    root: str
    lists: dict[Part, str]
    classes: dict[str, dict[Part, int]]
    frames: tuple[float, ...]
    seconds: tuple[float, ...]
    rates: dict[str, int]
    sizes: dict[str, int]
    bytes: int
    findings: tuple[Finding, ...] = field(default=())
    unreadable: tuple[str, ...] = ()
    copies: tuple[tuple[str, ...], ...] = ()

    @property
    def clean(self) -> bool:
        """Whether nothing was found that would break or falsify a run."""
        return not any(finding.grave for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON holds it."""
        return {"clean": self.clean, **asdict(self)}

    def table(self) -> Group:
        """All of it for a terminal, with names of the data escaped."""
        parts = list(self.lists)
        classes = Table("class", *(f"{part} videos" for part in parts))
        for name, counts in self.classes.items():
            classes.add_row(shown(name), *(str(counts.get(part, 0)) for part in parts))
        classes.add_section()
        classes.add_row("all", *(str(sum(c.get(part, 0) for c in self.classes.values())) for part in parts))
        facts = Table("what", "found", show_header=False)
        facts.add_row("frames of a video", spread(self.frames))
        facts.add_row("seconds", spread(self.seconds))
        for name, counted in (("frames per second", self.rates), ("width x height", self.sizes)):
            facts.add_row(name, ", ".join(f"{key} ({count})" for key, count in list(counted.items())[:6]))
        facts.add_row("megabytes", f"{self.bytes / 1e6:.1f}")
        lines = [
            f"[{'red' if f.grave else 'yellow'}]{f.kind}[/]: {shown(f.message)}"
            + "".join(f"\n    {shown(path)}" for path in f.paths[:5])
            + (f"\n    and {len(f.paths) - 5} more" if len(f.paths) > 5 else "")
            for f in self.findings
        ]
        end = (
            "nothing found that would break or falsify a run"
            if self.clean
            else "[red]not fit for a run as it is[/]"
        )
        return Group(shown(self.root), *([classes, facts] if self.classes else []), *lines, end)


def shown(text: str) -> str:
    """Text of the data as rich prints it unchanged."""
    return escape(printable(text))


def spread(values: tuple[float, ...]) -> str:
    """Fewest, median and most as text."""
    if not values:
        return "unknown"
    least, median, most = values
    return f"{least:g} to {most:g}, median {median:g}"


def lists_in(root: Path) -> dict[Part, str]:
    """The lists of a folder that are named by their part, such as `train.txt` and `test.csv`; none without `train`."""
    found: dict[Part, str] = {}
    for path in entries(root):
        stem = path.stem.casefold().removesuffix("list").removesuffix("list01")
        part = next((part for part, names in SPLITS.items() if stem in names), None)
        if part and path.is_file() and path.suffix.lower() in LISTS:
            found.setdefault(part, path.name)
    return found if "train" in found else {}


def examine(
    root: str, train: str | None = None, test: str | None = None, fmt: Format = "auto", whole: bool = True
) -> Diagnosis:
    """Look at a set of videos.

    Args:
        root: folder of class folders, of `train`, `val` and `test` folders of them, or that the paths of lists start
            from; lists in it that are named by their part (`train.txt`, `test.csv`) are taken.
        train: list of training videos.
        test: list of test videos.
        fmt: of the lists.
        whole: decode every video to its end, as training may; otherwise a few frames of each.

    Raises:
        FileNotFoundError: no such folder or list.
    """
    listings: dict[Part, str] = {} if train else lists_in(Path(root)) if Path(root).is_dir() else {}
    train, test = train or listings.get("train"), test or listings.get("test") or listings.get("val")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            lists = read_lists(root, train, test, fmt, None)
        except ValueError as error:
            grave = Finding("list", True, str(error))
            return Diagnosis(root, {}, {}, (), (), {}, {}, 0, (grave,))
    findings = [Finding("note", False, str(warning.message)) for warning in caught]
    parts = [(part, video) for part, index in lists.items() for video in index.videos]
    probes = probe_all([video for _, video in parts], whole)
    classes = lists["train"].classes
    groups = copies(probes)
    findings += [*_unreadable(probes), *_same(parts, groups, classes), *_of_classes(root, lists, probes)]
    findings += [*_of_sources(parts, classes), *_of_rates(probes)]
    sound = [one for one in probes if not one.problem]
    counts = {part: Counter(video.label for video in index.videos) for part, index in lists.items()}
    return Diagnosis(
        root,
        {part: {"train": train, "test": test}.get(part) or root for part in lists},
        {name: {part: counts[part][label] for part in lists} for label, name in enumerate(classes)},
        _spread(one.frames for one in sound),
        _spread(round(one.frames / one.rate, 2) for one in sound if one.rate),
        _counted(f"{one.rate:.5g}" for one in sound if one.rate),
        _counted(f"{one.width} x {one.height}" for one in sound),
        sum(one.bytes for one in probes),
        tuple(sorted(findings, key=lambda finding: not finding.grave)),
        tuple(one.path for one in probes if one.problem),
        tuple(tuple(probes[i].path for i in rows) for _, rows in groups),
    )


def _spread(values: Iterable[float]) -> tuple[float, ...]:
    found = list(values)
    return (min(found), statistics.median(found), max(found)) if found else ()


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


# -- what is found ---------------------------------------------------------------------------


def _unreadable(probes: Sequence[Probe]) -> Iterable[Finding]:
    """Videos that are missing, and those that cannot be decoded."""
    missing = [one.path for one in probes if one.problem == "missing"]
    broken = [f"{one.path}: {one.problem}" for one in probes if one.problem not in ("", "missing")]
    remedy = "mend or remove them, or run with --data.on_bad_clip skip"
    if missing:
        yield Finding(
            "missing", True, f"{len(missing)} videos are listed and not there: {remedy}", tuple(missing)
        )
    if broken:
        yield Finding("broken", True, f"{len(broken)} videos cannot be read: {remedy}", tuple(broken))


def _same(
    parts: Sequence[tuple[Part, Video]], groups: Sequence[tuple[str, list[int]]], classes: Sequence[str]
) -> Iterable[Finding]:
    """Videos that are there more than once: in two parts, with two labels, or only to no use."""
    for how, rows in groups:
        labels = sorted({classes[parts[i][1].label] for i in rows})
        found = [part for part in ("train", "val", "test") if part in {parts[i][0] for i in rows}]
        paths = tuple(f"{parts[i][0]}: {parts[i][1].path}" for i in rows)
        if len(found) > 1:
            yield Finding(
                "leak", True, f"{SAME[how]} in {' and '.join(found)}: keep it in one of them", paths
            )
        if len(labels) > 1:
            yield Finding(
                "labels", True, f"{SAME[how]} with two labels, {' and '.join(labels)}: keep one", paths
            )
        if len(found) == len(labels) == 1:
            yield Finding("duplicate", False, f"{SAME[how]} {len(rows)} times in {found[0]}", paths)


def _of_classes(root: str, lists: dict[Part, Index], probes: Sequence[Probe]) -> Iterable[Finding]:
    """Classes that cannot be learnt or tested."""
    bad = {one.path for one in probes if one.problem}
    classes = lists["train"].classes
    for part, index in lists.items():
        held = {video.label for video in index.videos if video.path not in bad}
        if lacking := [name for label, name in enumerate(classes) if label not in held]:
            some = ", ".join(map(repr, lacking[:5])) + (" ..." if len(lacking) > 5 else "")
            message = (
                f"{len(lacking)} of {len(classes)} classes have no {part} video that can be read: {some}"
            )
            yield Finding("classes", part == "train", message)
    if len(classes) == 1:
        yield Finding("classes", True, f"a single class, {classes[0]!r}: nothing can be told apart")
    if "test" not in lists:
        yield Finding("note", False, no_test_videos(root))


def _of_sources(parts: Sequence[tuple[Part, Video]], classes: Sequence[str]) -> Iterable[Finding]:
    """Recordings that both train and test, by the names of their clips."""
    keys, told_by = sources_of([v.path for _, v in parts], [classes[v.label] for _, v in parts])
    tested = {key for key, (part, _) in zip(keys, parts, strict=True) if part == "test"}
    both = tested & {key for key, (part, _) in zip(keys, parts, strict=True) if part == "train"}
    if told_by and both:
        some = ", ".join(sorted(both)[:3])
        message = (
            f"{len(both)} of {len(tested)} tested sources are trained on too, told by {told_by}: {some} ..."
        )
        yield Finding("note", False, message)


def _of_rates(probes: Sequence[Probe]) -> Iterable[Finding]:
    """Rates so different that a stride in frames means other times."""
    rates = [one.rate for one in probes if one.rate]
    if rates and max(rates) > 1.5 * min(rates):
        message = f"{min(rates):.4g} to {max(rates):.4g} frames per second: strides count frames, not seconds"
        yield Finding("note", False, message)
