"""Tables and plots of evaluations: who scores what, at how many bytes, and how far from the full data."""

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from vdc.data import RealData
from vdc.evaluate.results import FORMAT, student_of
from vdc.nets import settings
from vdc.nets.teacher import INFO
from vdc.report.motion import Groups, class_distances, draw_all
from vdc.report.sizes import as_table as as_size_table
from vdc.report.sizes import curves, title
from vdc.report.sizes import write as write_sizes
from vdc.spec import ClipSpec
from vdc.system.files import atomic_write, read_json


@dataclass(frozen=True)
class Row:
    """One line of the table; scores in percent, `None` where unknown."""

    method: str
    ipc: int | None
    labels: str
    student: str
    protocol: str
    seeds: int
    top1: float | None
    top1_std: float | None
    top5: float | None
    top5_std: float | None
    reference_best: float | None  # top-1 of the published habit: the best of the last checks on the test set
    single_frame: float | None  # top-1 when every test clip is its middle frame, repeated
    bytes: int | None  # clips + labels + decoder + teacher where a live one is needed
    bytes_ratio: float | None  # over those of one clip per training video
    accuracy_ratio: float | None  # top-1 over that of the same student on the full data
    source: str  # file, or table of a publication


HEADERS = {
    "method": "method",
    "ipc": "ipc",
    "labels": "labels",
    "student": "student",
    "top1": "top-1 %",
    "top5": "top-5 %",
    "reference_best": "reference best",
    "single_frame": "single frame",
    "bytes": "bytes",
    "bytes_ratio": "bytes / full",
    "accuracy_ratio": "top-1 / full",
}


def report(
    dirs: Sequence[str],
    out: str | None = None,
    published: str | None = None,
    dataset: str | None = None,
    show: bool = True,
    data: RealData | None = None,
    teacher: str | None = None,
) -> list[Row]:
    """Collect evaluations, print them as a table, and write CSV, markdown and a plot.

    Args:
        dirs: condensed sets, result folders, teachers (a run of the full-data bound), folders of such, files.
        out: folder for `report.csv`, `report.md` and `report.png`, and, of sets that were evaluated at several
            sizes, `sizes.csv`, `sizes.md` and `sizes.png`; with `data`, `motion.csv` and `motion.md`; and
            `differences`, pictures of what changes in condensed clips. `None` writes nothing.
        published: YAML file of published numbers: a list `results` of `method`, `value`, and `ipc`, `labels`,
            `metric` (top1 or top5), `student`, `std`, `dataset`, `table` where known.
        dataset: show only the published numbers of this data set.
        show: print the table.
        data: real videos, whose classes are split into a static and a dynamic half, see `vdc.report.motion`.
        teacher: folder of the network that says which classes move.

    Returns:
        The lines, full data first, then by ipc, method and labels.

    Raises:
        FileNotFoundError: a folder that is not there, or no evaluations at all.
    """
    results = {file: held for name in dirs for file, held in read_results(Path(name))}
    rows, sizes = table_rows(list(results.items())), curves(list(results.items()))
    if not rows:
        raise FileNotFoundError(
            f"no evaluations in {', '.join(dirs)}: make some with `vdc evaluate --condensed DIR`"
        )
    if (data is None) != (teacher is None):
        raise ValueError("--data and --teacher belong together: they tell static classes from dynamic ones")
    groups = None
    if data is not None and teacher is not None:
        data.prepare_data()
        groups = Groups(list(results.items()), class_distances(data, teacher))
    if published is not None:
        rows += published_rows(Path(published), dataset)
    if show:
        console = Console(width=None if sys.stdout.isatty() else 150)  # files and pipes have room
        console.print(as_table(rows))
        if sizes:
            console.print(as_size_table(sizes))
        if groups is not None:
            console.print(groups.table())
    if out is not None:
        folder = Path(out)
        for name, text in (("report.csv", as_csv(rows)), ("report.md", as_markdown(rows))):
            with atomic_write(folder / name) as temporary:
                temporary.write_text(text, encoding="utf-8")
        plot(rows, folder / "report.png")
        if sizes:
            write_sizes(sizes, folder)
        if groups is not None:
            groups.write(folder)
        draw_all(dirs, folder)
    return rows


# -- reading ---------------------------------------------------------------------------------------------


def read_results(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Evaluations in a file, or anywhere in a folder, with the files they are from.

    Raises:
        FileNotFoundError: nothing there.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: vdc report takes condensed sets, result folders or files"
        )
    files = [path] if path.is_file() else sorted(path.rglob("*.json"))
    found = [(str(file), read_json(file)) for file in files]
    found = [(name, as_bound(held) if Path(name).name == INFO else held) for name, held in found]
    return [(name, held) for name, held in found if isinstance(held, dict) and held.get("format") == FORMAT]


def as_bound(info: dict[str, Any]) -> dict[str, Any]:
    """A teacher's training as one run of the full-data bound."""
    videos = info["source"]["train"]["videos"]
    scores = {name: {"mean": info["test"][name], "std": None} for name in ("top1", "top5", "still_top1")}
    return {
        "format": FORMAT,
        "method": "full data",
        "ipc": None,
        "classes": info["classes"],
        "spec": info["spec"],
        "train_videos": videos,
        "test_videos": info["test"]["videos"],
        "student": info["net"],
        "net_options": info["options"],
        "protocol": info["recipe"]["protocol"],
        "seeds": [info["recipe"]["seed"]],
        **scores,
        "reference_best": None,
        "bytes": {"total": videos * (ClipSpec(**info["spec"]).nbytes + 1)},
    }


def table_rows(results: Sequence[tuple[str, dict[str, Any]]]) -> list[Row]:
    """Lines of the table, in order, with ratios to the full data."""
    full = [held for _, held in results if held["ipc"] is None and held["top1"]["mean"]]
    bounds = {bound_key(held): held["top1"]["mean"] for held in full}
    rows = told_apart([row_of(name, held, bounds.get(bound_key(held))) for name, held in results])
    return sorted(set(rows), key=lambda row: (row.ipc or 0, row.method, row.labels, row.student, row.source))


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """Name the folder beside the method where several sets of one method are alike in all else."""
    alike: dict[tuple[Any, ...], set[str]] = {}
    for row in rows:
        alike.setdefault(sort_of(row), set()).add(folder_of(row))
    several = [len(alike[sort_of(row)]) > 1 for row in rows]
    return [
        replace(row, method=f"{row.method} ({folder_of(row)})") if more else row
        for row, more in zip(rows, several, strict=True)
    ]


def sort_of(row: Row) -> tuple[Any, ...]:
    """What a line is of, but for the folder."""
    return row.method, row.ipc, row.labels, row.student, row.protocol


def folder_of(row: Row) -> str:
    """The run's folder: `edc-1` of `runs/edc-1/condensed/evaluations/soft.json`."""
    parts = [part for part in Path(row.source).parent.parts if part not in ("condensed", "evaluations")]
    return parts[-1] if parts else ""


def bound_key(held: dict[str, Any]) -> tuple[Any, ...]:
    """What a full-data bound must share with a result to be its bound."""
    return (
        held["student"],
        tuple(sorted(settings(held["student"], **held["net_options"]).items())),
        tuple(held["classes"]),
        held["spec"]["frames"],
        held["spec"]["size"],
        held["test_videos"],
    )


def row_of(name: str, held: dict[str, Any], bound: float | None) -> Row:
    """One line.

    Args:
        name: of the file.
        held: what it holds.
        bound: top-1 of the student on the full data.
    """
    best = held["reference_best"]
    full = held["train_videos"] * ClipSpec(**held["spec"]).nbytes
    return Row(
        method=title(held),
        ipc=held["ipc"],
        labels=held["protocol"]["labels"],
        student=student_of(held),
        protocol=held["protocol"]["name"],
        seeds=len(held["seeds"]),
        top1=held["top1"]["mean"],
        top1_std=held["top1"]["std"],
        top5=held["top5"]["mean"],
        top5_std=held["top5"]["std"],
        reference_best=None if best is None else best["top1"]["mean"],
        single_frame=held["still_top1"]["mean"],
        bytes=held["bytes"]["total"],
        bytes_ratio=held["bytes"]["total"] / full,
        accuracy_ratio=None if bound is None else held["top1"]["mean"] / bound,
        source=name,
    )


def published_rows(path: Path, dataset: str | None) -> list[Row]:
    """Lines of published numbers.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not a list `results` of numbers, or none is of `dataset`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"--published {path} is not there")
    held = yaml.safe_load(path.read_text(encoding="utf-8"))
    entries = held.get("results") if isinstance(held, dict) else None
    if not isinstance(entries, list) or any("method" not in e or "value" not in e for e in entries):
        raise ValueError(f"--published {path} has no list `results` whose entries tell `method` and `value`")
    known = sorted({str(entry.get("dataset")) for entry in entries})
    entries = [entry for entry in entries if dataset is None or entry.get("dataset") == dataset]
    if not entries:
        raise ValueError(
            f"--published {path} has nothing of dataset {dataset!r}: it knows {', '.join(known)}"
        )
    return [published_row(entry) for entry in entries]


def published_row(entry: dict[str, Any]) -> Row:
    """One line of a published number."""
    unknown: dict[str, Any] = dict.fromkeys(field.name for field in fields(Row))
    metric, ipc = entry.get("metric", "top1"), entry.get("ipc")
    return Row(**unknown | {
        "method": f"{entry['method']} (published)",
        "ipc": ipc if isinstance(ipc, int) else None,
        "labels": str(entry.get("labels", "")),
        "student": str(entry.get("student", "")),
        "protocol": str(entry.get("dataset", "")),
        "seeds": 0,
        metric: float(entry["value"]),
        f"{metric}_std": entry.get("std"),
        "source": f"table {entry['table']}" if "table" in entry else "",
    })  # fmt: skip


# -- writing ---------------------------------------------------------------------------------------------


def cells(row: Row) -> dict[str, str]:
    """The table's cells of a line, in words."""
    shown = {name: "" if getattr(row, name) is None else str(getattr(row, name)) for name in HEADERS}
    for name, deviation in (("top1", row.top1_std), ("top5", row.top5_std)):
        value = getattr(row, name)
        if value is not None:
            shown[name] = f"{value:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
    for name in ("reference_best", "single_frame"):
        value = getattr(row, name)
        shown[name] = "" if value is None else f"{value:.1f}"
    shown["ipc"] = shown["ipc"] or "all"
    shown["bytes"] = "" if row.bytes is None else f"{row.bytes:,}"
    shown["bytes_ratio"] = "" if row.bytes_ratio is None else f"{100 * row.bytes_ratio:.2f} %"
    shown["accuracy_ratio"] = "" if row.accuracy_ratio is None else f"{100 * row.accuracy_ratio:.0f} %"
    return shown


def as_table(rows: Sequence[Row]) -> Table:
    """The table for a terminal."""
    table = Table()
    for name, header in HEADERS.items():
        table.add_column(header, justify="left" if name in ("method", "labels", "student") else "right")
    for row in rows:
        table.add_row(*cells(row).values())
    return table


def as_markdown(rows: Sequence[Row]) -> str:
    """The table as markdown."""
    lines = [list(HEADERS.values()), ["---"] * len(HEADERS), *(list(cells(row).values()) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def as_csv(rows: Sequence[Row]) -> str:
    """Every field of every line, unrounded."""
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def plot(rows: Sequence[Row], path: Path) -> None:
    """Accuracy against bytes: a line per method, labels and student; the full data is a level."""
    from matplotlib.figure import Figure  # takes a second to import, and nothing else needs it

    lines: dict[str, list[Row]] = {}
    parts = 3 if len({row.student for row in rows}) > 1 else 2
    for row in rows:
        if row.bytes is not None and row.top1 is not None:
            lines.setdefault(", ".join((row.method, row.labels, row.student)[:parts]), []).append(row)
    figure = Figure(figsize=(9, max(4.5, 0.2 * len(lines))), layout="constrained")  # the legend is a column
    axes = figure.add_subplot(xscale="log", xlabel="bytes stored", ylabel="top-1 (%)")
    for number, (name, points) in enumerate(lines.items()):
        points.sort(key=lambda row: row.bytes or 0)
        heights = [row.top1 or 0.0 for row in points]
        if points[0].ipc is None:
            axes.axhline(heights[0], linestyle=":", color="grey", label=name)
            continue
        across, spreads = [row.bytes or 0 for row in points], [row.top1_std or 0.0 for row in points]
        shape = "osD^v"[number // 10 % 5]  # there are ten colours
        axes.errorbar(across, heights, spreads, marker=shape, capsize=3, label=name)
    if lines:
        figure.legend(loc="outside right upper", fontsize="small")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
