"""The table of evaluations: who scores what, after how many steps, at how many bytes."""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from vdc.evaluate.results import student_of
from vdc.nets import settings
from vdc.nets.weights import start_key
from vdc.report.ddranking import scores
from vdc.report.results import Result, coded_bytes, source_bytes, title
from vdc.report.settings import told_apart
from vdc.report.tables import fitted, markdown
from vdc.system.files import digest
from vdc.train.scores import BEST


@dataclass(frozen=True)
class Row:
    """One line of the table; scores in percent, `None` where unknown."""

    method: str
    setting: str  # in which it differs from lines that are alike in all else
    ipc: int | None
    labels: str
    student: str
    protocol: str
    starts: int | None  # condensed sets that the line is of, from as many seeds; `None` of one
    seeds: int  # runs in all
    top1: float | None
    top1_std: float | None
    top5: float | None
    top5_std: float | None
    reference_best: float | None  # top-1 of the published habit: the best of the last checks on the test set
    single_frame: float | None  # top-1 when every test clip is its middle frame, repeated
    reversed: float | None  # the same of test clips shown backwards
    shuffled: float | None  # the same of test clips with their frames in random order
    steps: int | None  # of training a student
    final_loss: float | None  # mean training loss of the last epoch, over seeds
    bytes: int | None  # what a student needs from the disk: clips, labels, decoder, networks that make either
    of_source: float | None  # over those of the source files
    of_coded: float | None  # over those of all training clips, coded at the size of the items
    accuracy_ratio: float | None  # top-1 over that of the same student on the full data
    lrs: float | None  # DD-Ranking's label-robust score
    ars: float | None  # DD-Ranking's augmentation-robust score
    source: str  # file, or table of a publication


TEXTS = {
    "method": "method",
    "setting": "setting",
    "ipc": "ipc",
    "labels": "labels",
    "student": "student",
    "protocol": "protocol",
}
NUMBERS = {
    "starts": "starts",
    "top1": "top-1 %",
    "accuracy_ratio": "top-1 / full",
    "bytes": "bytes",
    "of_source": "of source files",
    "of_coded": "of coded clips",
    "steps": "steps",
    "final_loss": "train loss",
    "top5": "top-5 %",
    "single_frame": "single frame",
    "reversed": "reversed",
    "shuffled": "shuffled",
    "reference_best": "reference best",
    "lrs": "LRS %",
    "ars": "ARS %",
}
HEADERS = TEXTS | NUMBERS
OPTIONAL = (
    "setting",
    "starts",
    "steps",
    "final_loss",
    "of_source",
    "of_coded",
    "reversed",
    "shuffled",
    "lrs",
    "ars",
)  # only where some line has it


def table_rows(results: Sequence[Result], coded: Sequence[dict[str, Any]] = ()) -> list[Row]:
    """Lines of the table, in order.

    Args:
        results: evaluations.
        coded: sizes of coded training clips, see `vdc.report.coded`.
    """
    full = [held for _, held in results if held["ipc"] is None and held["top1"]["mean"]]
    known = {bound_key(held): held["top1"]["mean"] for held in full}
    bounds = [known.get(bound_key(held)) for _, held in results]
    kinds = [
        (title(held), held["ipc"], held["protocol"]["labels"], student_of(held), held["protocol"]["name"])
        for _, held in results
    ]
    apart, ranking = told_apart(results, kinds), scores(results, bounds)
    rows = [
        row_of(name, held, setting, bound, coded_bytes(held, coded), *robust)
        for (name, held), setting, bound, robust in zip(results, apart, bounds, ranking, strict=True)
    ]
    return sorted(rows, key=lambda row: (row.ipc or 0, row.method, row.labels, row.student, row.source))


def bound_key(held: dict[str, Any]) -> tuple[Any, ...]:
    """What a full-data bound must share with a result to be its bound."""
    return (
        held["student"],
        digest(settings(held["student"], **held["net_options"])),
        digest(start_key(held["weights"])) if held.get("weights") else None,
        tuple(held["classes"]),
        held["spec"]["frames"],
        held["spec"]["size"],
        held["test_videos"],
    )


def row_of(
    name: str,
    held: dict[str, Any],
    setting: str,
    bound: float | None,
    coded: int | None,
    lrs: float | None,
    ars: float | None,
) -> Row:
    """One line.

    Args:
        name: of the file.
        held: what it holds.
        setting: that tells it from others.
        bound: top-1 of the student on the full data.
        coded: bytes of all training clips, coded.
        lrs: DD-Ranking's scores.
        ars: see `lrs`.
    """
    best, total, files = held["reference_best"], held["bytes"]["total"], source_bytes(held)
    steps, losses = held.get("steps"), held.get("final_loss")
    return Row(
        method=title(held),
        setting=setting,
        ipc=held["ipc"],
        labels=held["protocol"]["labels"],
        student=student_of(held),
        protocol=held["protocol"]["name"],
        starts=held.get("starts"),
        seeds=len(held["seeds"]),
        top1=held["top1"]["mean"],
        top1_std=held["top1"]["std"],
        top5=held["top5"]["mean"] if len(held["classes"]) > BEST else None,
        top5_std=held["top5"]["std"] if len(held["classes"]) > BEST else None,
        reference_best=None if best is None else best["top1"]["mean"],
        single_frame=held["still_top1"]["mean"],
        reversed=(held.get("reversed_top1") or {}).get("mean"),
        shuffled=(held.get("shuffled_top1") or {}).get("mean"),
        steps=max(steps) if steps and None not in steps else None,
        final_loss=statistics.fmean(losses) if losses and None not in losses else None,
        bytes=total,
        of_source=total / files if total and files else None,
        of_coded=total / coded if total and coded else None,
        accuracy_ratio=None if bound is None else held["top1"]["mean"] / bound,
        lrs=lrs,
        ars=ars,
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
        "setting": "",
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


def name_of(row: Row, *parts: str) -> str:
    """A line's name in pictures: its method and setting, and the `parts` asked for."""
    words = [row.method, row.setting, *(getattr(row, part) for part in parts)]
    return ", ".join(word for word in words if word)


def cells(row: Row) -> dict[str, str]:
    """The table's cells of a line, in words."""
    shown = {name: "" if getattr(row, name) is None else str(getattr(row, name)) for name in HEADERS}
    for name, deviation in (("top1", row.top1_std), ("top5", row.top5_std)):
        value = getattr(row, name)
        if value is not None:
            shown[name] = f"{value:.1f}" + ("" if deviation is None else f" ± {deviation:.1f}")
    for name, form in (
        ("reference_best", ".1f"), ("single_frame", ".1f"), ("reversed", ".1f"),
        ("shuffled", ".1f"), ("lrs", ".1f"), ("ars", ".1f"), ("final_loss", ".3f"),
        ("steps", ","), ("bytes", ","), ("accuracy_ratio", ".0%"),
    ):  # fmt: skip
        value = getattr(row, name)
        shown[name] = "" if value is None else format(value, form).replace("%", " %")
    for name in ("of_source", "of_coded"):
        value = getattr(row, name)
        shown[name] = "" if value is None else f"{float(f'{100 * value:.3g}'):,g} %"
    shown["ipc"] = shown["ipc"] or "all"
    return shown


def columns(rows: Sequence[Row]) -> list[str]:
    """Names of the columns of a table: those that only some know where one does, protocols where they differ."""
    several = len({row.protocol for row in rows if row.seeds}) > 1
    shown = [name for name in HEADERS if name not in OPTIONAL or any(getattr(row, name) for row in rows)]
    return shown if several else [name for name in shown if name != "protocol"]


def as_tables(rows: Sequence[Row], width: int) -> list[Table]:
    """The table for a terminal of `width` columns, in several parts where it is narrow."""
    names = columns(rows)
    lines = [[cells(row)[name] for name in names] for row in rows]
    return fitted([HEADERS[name] for name in names], lines, sum(name in TEXTS for name in names), width)


def as_markdown(rows: Sequence[Row]) -> str:
    """The table as markdown."""
    names = columns(rows)
    return markdown([HEADERS[name] for name in names], [[cells(row)[name] for name in names] for row in rows])


def as_csv(rows: Sequence[Row]) -> str:
    """Every field of every line, unrounded."""
    text = StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Row)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()
