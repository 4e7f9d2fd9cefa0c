"""One page that shows any set, run or study: self-contained, without a network, below 20 MB."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vdc.report import charts
from vdc.report.clips import Shown, show_all
from vdc.report.paired import Pair
from vdc.report.paired import cells as paired_cells
from vdc.report.provenance import about, evaluate_command, fit_command, fit_losses
from vdc.report.results import Result, find_sets, read_coded, read_results
from vdc.report.rows import HEADERS, TEXTS, Row, cells, columns, name_of, table_rows
from vdc.report.sizes import charts as size_charts
from vdc.report.sizes import curves
from vdc.report.starts import pooled
from vdc.report.study import Opening
from vdc.report.tables import size
from vdc.system.files import atomic_write
from vdc.system.versions import versions
from vdc.train.confusion import confusion_chart

LIMIT = 20_000_000  # bytes of a page
CLIPS, DETAILS = 12_000_000, 5_000_000  # characters of films, of charts of single evaluations


@dataclass
class Detail:
    """What a page shows of one evaluation."""

    name: str
    facts: dict[str, str]
    command: str
    charts: dict[str, Any]  # by heading


def write_page(
    dirs: Sequence[str],
    out: str | Path,
    *,
    heading: str | None = None,
    command: str | None = None,
    rows: Sequence[Row] | None = None,
    pairs: Sequence[Pair] = (),
    study: Opening | None = None,
) -> Path:
    """Write a page about condensed sets and evaluations.

    Args:
        dirs: condensed sets, runs, studies, result folders or files.
        out: the HTML file.
        heading: of the page; `None` is the study's title, or names what the page shows.
        command: that made all of it; the page tells those of each set and evaluation in any case.
        rows: lines of the table, with published ones; `None` makes them.
        pairs: differences to tell.
        study: whose words and table come first.

    Returns:
        The file.

    Raises:
        FileNotFoundError: a place that is not there, or neither sets nor evaluations in any.
        ValueError: a set has changed, or the page would be too large.
    """
    results = list({name: held for place in dirs for name, held in read_results(Path(place))}.items())
    paths = find_sets(dirs)
    if not results and not paths:
        raise FileNotFoundError(f"neither condensed sets nor evaluations in {', '.join(dirs)}")
    coded = read_coded(dirs)
    rows = table_rows(pooled(results), coded) if rows is None else rows
    sets = show_all(paths, CLIPS)
    details, note = evaluations(results, {row.source: row for row in table_rows(results, coded)})
    overview = charts.overview(rows) + size_charts(curves(results))
    fits = [charts.learning(fit_losses(one.path), "loss of condensation") for one in sets]
    shared, names = in_common(rows, columns(rows))
    html = template().render(
        heading=heading or (heading_of(sets, results) if study is None else study.title),
        study=study,
        shared=shared,
        several=any(row.starts for row in rows),
        facts=facts(rows),
        headers=[(HEADERS[name], name not in TEXTS or name == "ipc") for name in names],
        lines=[[(cells(row)[name], getattr(row, name), name in TEXTS) for name in names] for row in rows],
        pairs=[(one, paired_cells(one)) for one in pairs],
        overview=[name for name, _ in overview],
        sets=[
            (one, about(one), fit_command(one), fit is not None) for one, fit in zip(sets, fits, strict=True)
        ],
        details=details,
        note=note,
        command=command,
        made=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        versions=versions(),
        specs=script(
            {f"overview-{i}": plain(chart) for i, (_, chart) in enumerate(overview)}
            | {f"fit-{i}": plain(chart) for i, chart in enumerate(fits) if chart is not None}
            | {f"detail-{i}-{j}": c for i, d in enumerate(details) for j, c in enumerate(d.charts.values())}
        ),
        vega=Markup(vega().replace("</script", "<\\/script")),
    )
    length = len(html.encode())
    if length > LIMIT:
        raise ValueError(f"{out} would take {size(length)}, more than {size(LIMIT)}: give fewer places")
    with atomic_write(out) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(out)


def template(name: str = "page.html.j2") -> Any:
    """A page's template."""
    environment = Environment(
        loader=PackageLoader("vdc.report"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["size"] = size
    return environment.get_template(name)


def vega() -> str:
    """Scripts of Vega, Vega-Lite and vega-embed, as the library carries them."""
    bundle: str = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # its stub has no default
    return bundle


def script(value: Any) -> Markup:
    """JSON that may stand in a script element: nothing in it closes the element."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def plain(chart: Any) -> dict[str, Any]:
    """A chart as JSON, as wide as its place on the page, which also gives its colours."""
    spec: dict[str, Any] = chart.to_dict(validate=False)  # tests validate
    for name in ("config", "padding"):  # room for names beside a plot is made by the page's way of fitting
        spec.pop(name, None)
    return spec | {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}


def heading_of(sets: Sequence[Shown], results: Sequence[Result]) -> str:
    """What a page is of: methods and classes."""
    manifests = [one.manifest for one in sets] or [held for _, held in results]
    methods = list(dict.fromkeys(str(one["method"]) for one in manifests))
    few = ", ".join(methods) if len(methods) <= 3 else f"{len(methods)} methods"
    return f"{few} on {len(manifests[0]['classes'])} classes"


def in_common(rows: Sequence[Row], names: Sequence[str]) -> tuple[str, list[str]]:
    """Words that all lines share, for a sentence, and the columns in which lines differ."""
    if len(rows) < 2:
        return "", list(names)
    same = [name for name in ("labels", "student") if len({getattr(row, name) for row in rows}) == 1]
    values = {"labels": f"{rows[0].labels} labels" if rows[0].labels else "", "student": rows[0].student}
    told = ", ".join(values[name] for name in same if values[name])
    return told, [name for name in names if name not in same]


def facts(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """The first things to know: label, number, explanation."""
    scored = charts.scored(row for row in rows if row.seeds)
    small = [row for row in scored if row.ipc is not None]
    found = []
    best = max(small, key=lambda row: row.top1 or 0.0, default=None)
    if best is not None:
        found.append(
            (
                f"best set: {name_of(best)}",
                f"{cells(best)['top1']} %",
                f"{best.ipc} per class, {best.student}",
            )
        )
        alike = [row for row in small if row.method == "Random" and (row.ipc, row.labels, row.student) == (
            best.ipc, best.labels, best.student)]  # fmt: skip
        if alike and best.method != "Random":
            random = max(alike, key=lambda row: row.top1 or 0.0)
            told = ", ".join(part for part in (random.setting, "same labels and student") if part)
            found.append(("random clips, as many", f"{cells(random)['top1']} %", told))
        if (full := charts.bound_of(scored, best.student)) is not None:
            found.append(("all training videos", f"{cells(full)['top1']} %", "the full-data bound"))
        shares = [(best.of_source, "of the source files"), (best.of_coded, "of all clips, coded")]
        told = ", ".join(f"{100 * share:.3g} % {of}" for share, of in shares if share is not None)
        found.append(("bytes a student needs", size(best.bytes), told))
    return found


def evaluations(results: Sequence[Result], rows: dict[str, Row]) -> tuple[list[Detail], str]:
    """Charts of single evaluations, as many as fit, and a note on those that do not."""
    found: list[Detail] = []
    used = 0
    for file, held in results:
        if "per_class" not in held or file not in rows:
            continue
        one = detail(file, held, rows[file], results)
        used += len(json.dumps(one.charts))
        if used > DETAILS:
            return (
                found,
                f"Shown: the first {len(found)} of {len(results)} evaluations, to keep this page small.",
            )
        found.append(one)
    return found, ""


def detail(file: str, held: dict[str, Any], row: Row, results: Sequence[Result]) -> Detail:
    """One evaluation: accuracy of classes, confusion matrix, learning curves, cost."""
    beside = {
        name: other["per_class"]
        for _, other in results
        for name in [reference(held, other)]
        if name and "per_class" in other
    }
    losses = {
        f"seed {seed}": [(step, loss) for _, step, loss in curve]
        for seed, curve in zip(held["seeds"], held.get("curve") or [], strict=False)
    }
    made = {
        "Accuracy per class": charts.per_class(held["per_class"], beside),
        "Confusion of classes": confusion_chart(held["confusion"], held["classes"]),
        "Training loss": charts.learning(losses, "training loss"),
    }
    seconds = held.get("seconds", {}).get("mean")
    told = {
        "top-1": f"{cells(row)['top1']} %",
        "single frame": f"{cells(row)['single_frame']} %",
        **{name: f"{cells(row)[name]} %" for name in ("reversed", "shuffled") if cells(row)[name]},
        "steps": cells(row)["steps"],
        "last training loss": cells(row)["final_loss"],
        "seconds per student": "" if seconds is None else f"{seconds:.1f}",
        "runs": ", ".join(f"seed {seed}" for seed in held["seeds"]),
        "protocol": f"{held['protocol']['name']}, {held['protocol'].get('epochs', '?')} epochs",
        "file": file,
    }
    size_of = "" if row.ipc is None else f"{row.ipc} per class"
    return Detail(
        ", ".join(part for part in (name_of(row), size_of, row.labels, row.student) if part),
        {name: value for name, value in told.items() if value},
        evaluate_command(file, held),
        {name: plain(chart) for name, chart in made.items() if chart is not None},
    )


def reference(held: dict[str, Any], other: dict[str, Any]) -> str:
    """As what another evaluation stands beside one: `full data`, `Random`, or not at all."""
    if other is held or other["student"] != held["student"] or other["classes"] != held["classes"]:
        return ""
    if other["ipc"] is None:
        return "full data"
    same = other["ipc"] == held["ipc"] and other["protocol"]["labels"] == held["protocol"]["labels"]
    return "Random" if other["method"] == "Random" and held["method"] != "Random" and same else ""
