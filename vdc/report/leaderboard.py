"""`vdc leaderboard`: evaluations whose numbers can be traced to files, ranked on one page; the others, and why not."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdc.condensed.format import load
from vdc.condensed.manifest import CLIPS, LABELS, CondensedSet
from vdc.evaluate.results import student_of
from vdc.nets.weights import start_key
from vdc.report.page import template
from vdc.report.results import find_sets, read_all, title
from vdc.spec import INTERPOLATOR
from vdc.system.files import atomic_write, digest, write_json
from vdc.system.text import printable
from vdc.train.scores import unpack

Line = dict[str, Any]
EPSILON = 1e-3  # of percent: results are rounded to four digits
HEADERS = (
    "method",
    "ipc",
    "labels",
    "student",
    "protocol",
    "seeds",
    "top-1 %",
    "Random twin %",
    "ahead",
    "bytes",
)


def leaderboard(dirs: Sequence[str], out: str = "leaderboard") -> dict[str, list[Line]]:
    """Rank verified evaluations on one static page, beside their Random twins and bytes.

    A line is ranked if its mean, deviation and every seed's score follow from the stored answers to the test clips,
    and if its key (a hash of clips, labels, student, protocol and test videos) follows from a set among `dirs` whose
    files all have the hashes that its manifest gives. Nothing is trained.

    Args:
        dirs: condensed sets, runs, studies, or folders of such, with their evaluations.
        out: folder of `leaderboard.json` and `leaderboard.html`.

    Returns:
        `ranked`, best first, those of the same test videos and items together, and `refused`, with reasons.

    Raises:
        FileNotFoundError: a place that is not there, or no evaluations at all.
    """
    sets, faults = _sets(dirs)
    ranked, refused = list[Line](), [{"file": str(path), "reason": reason} for path, reason in faults.items()]
    for file, result in read_all(dirs):
        try:
            ranked.append(_line(file, result, _set_of(result, sets)))
        except ValueError as error:
            refused.append({"file": file, "method": result["method"], "reason": str(error)})
    twins = {_twin_key(line): line["top1"] for line in ranked if line["method"] == "Random"}
    for line in ranked:
        line["random_twin"] = None if line["method"] == "Random" else twins.get(_twin_key(line))
        line["ahead"] = None if line["random_twin"] is None else round(line["top1"] - line["random_twin"], 4)
    ranked.sort(key=lambda line: (line["test"], line["classes"], line["ipc"], -line["top1"], line["file"]))
    board = {"ranked": ranked, "refused": refused}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "leaderboard.json", {"format": "vdc leaderboard", "version": 1, **board})
    html = template("leaderboard.html.j2").render(
        headers=HEADERS, lines=[_cells(line) for line in ranked], refused=refused
    )
    with atomic_write(folder / "leaderboard.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    print(printable(f"{len(ranked)} ranked, {len(refused)} refused: {folder / 'leaderboard.html'}"))
    return board


def _sets(dirs: Sequence[str]) -> tuple[list[CondensedSet], dict[Path, str]]:
    """Sets whose files are as their manifests say, and what is wrong with the others."""
    sets, faults = list[CondensedSet](), dict[Path, str]()
    for path in find_sets(dirs):
        try:
            sets.append(load(path))
        except (ValueError, OSError) as error:
            faults[path] = " ".join(str(error).split())
    return sets, faults


def _key(result: Mapping[str, Any], condensed: CondensedSet) -> str:
    """The key that an evaluation has if it is of a set, see `vdc.evaluate.results.Task`."""
    files, labels = condensed.manifest["files"], result["protocol"]["labels"]
    identity = {
        "clips": files[CLIPS]["sha256"],
        "labels": files[LABELS]["sha256"] if labels in ("soft", "views") else None,
        "ipc": result["ipc"],
        "teacher": result.get("teacher"),
        "test_data": result.get("test_data"),
        **{name: files[name]["sha256"] for name in INTERPOLATOR[1:] if name in files},
    }
    spec = {name: value for name, value in result["spec"].items() if name != "interpolator"}
    fields = [result["student"], result["net_options"], result["protocol"], spec, identity]
    fields += [result["processes"]] if result.get("processes", 1) > 1 else []
    return digest([*fields, start_key(result["weights"])] if result.get("weights") else fields, 16)


def _set_of(result: Mapping[str, Any], sets: Sequence[CondensedSet]) -> CondensedSet:
    """The set that an evaluation is of.

    Raises:
        ValueError: it is of none of them.
    """
    if result["ipc"] is None:
        raise ValueError("of the full data, or a teacher: no stored set to verify it by")
    alike = [condensed for condensed in sets if result.get("key") == _key(result, condensed)]
    for condensed in sorted(alike, key=lambda one: bool(one.manifest["method"] != result["method"])):
        return condensed  # of sets of equal clips, the one of this method
    raise ValueError(
        "its key follows from no set here: the set is missing or damaged, or the file was changed since"
    )


def _line(file: str, result: Mapping[str, Any], condensed: CondensedSet) -> Line:
    """One line, verified.

    Raises:
        ValueError: what does not follow from what is stored.
    """
    _check_scores(result)
    part = condensed.prefix(result["ipc"])
    if condensed.manifest["method"] != result["method"] or part.classes != result["classes"]:
        raise ValueError("method or classes are not those of its set")
    if result["bytes"].get("clips") != part.memory().nbytes:
        raise ValueError(
            f"bytes.clips is {result['bytes'].get('clips')}, its set takes {part.memory().nbytes}"
        )
    sizes = [size for name, size in result["bytes"].items() if name != "total"]
    if sum(sizes) != result["bytes"]["total"]:
        raise ValueError(f"bytes.total is {result['bytes']['total']}, its parts are {sum(sizes)}")
    return {
        "method": title(dict(result)),
        "ipc": result["ipc"],
        "classes": len(result["classes"]),
        "labels": result["protocol"]["labels"],
        "student": student_of(result),
        "protocol": result["protocol"]["name"],
        "training": digest([result["protocol"], result["spec"]["frames"], result["spec"]["size"]], 16),
        "test": digest(result["test_data"], 16),
        "test_videos": result["test_videos"],
        "seeds": len(result["seeds"]),
        "top1": result["top1"]["mean"],
        "std": result["top1"]["std"],
        "bytes": result["bytes"]["total"],
        "key": result["key"],
        "set": condensed.manifest["digest"],
        "file": file,
    }


def _check_scores(result: Mapping[str, Any]) -> None:
    """Refuse scores that do not follow from the answers stored beside them.

    Raises:
        ValueError: what does not.
    """
    values, answers = result["top1"].get("values"), result.get("correct")
    if not values or answers is None or len(answers) != len(values):
        raise ValueError("no answers to the test clips are stored for every seed: made before version 0.2")
    for seed, value, text in zip(result["seeds"], values, answers, strict=True):
        score = 100 * float(unpack(text, result["test_videos"]).mean())
        if abs(score - value) > EPSILON:
            raise ValueError(f"top1 of seed {seed} is {value}, its stored answers give {score:.4f}")
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    for name, told, true in (
        ("mean", result["top1"]["mean"], mean),
        ("std", result["top1"]["std"], deviation),
    ):
        if (told is None) != (true is None) or (told is not None and abs(told - (true or 0.0)) > EPSILON):
            raise ValueError(f"top1.{name} is {told}, its seeds give {true}")


def _twin_key(line: Line) -> tuple[Any, ...]:
    """What a method and its Random twin share."""
    return tuple(line[name] for name in ("classes", "ipc", "student", "training", "test"))


def _cells(line: Line) -> list[str]:
    """A line as text."""
    top1 = f"{line['top1']:.1f}" + ("" if line["std"] is None else f" ± {line['std']:.1f}")
    twin = "" if line["random_twin"] is None else f"{line['random_twin']:.1f}"
    ahead = "" if line["ahead"] is None else f"{line['ahead']:+.1f}"
    told = [str(line[name]) for name in ("method", "ipc", "labels", "student", "protocol", "seeds")]
    return [*told, top1, twin, ahead, f"{line['bytes']:,}"]
