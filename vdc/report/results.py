"""What runs have written: evaluations, teachers as bounds of the full data, and coded sizes of training clips."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vdc.condensed.manifest import MANIFEST
from vdc.evaluate.results import FORMAT
from vdc.evaluate.stored import StoredCoded, StoredResult, TestedTeacher, read_result
from vdc.nets.stored import INFO

Result = tuple[str, dict[str, Any]]  # file, and the evaluation it holds
CODED = "vdc coded clips"  # format of the file that `vdc.report.coded` writes


def files_of(path: Path) -> list[Path]:
    """A file, or the JSON files of a folder; none of what earlier runs left there.

    Raises:
        FileNotFoundError: nothing there.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"{path} is not there: vdc report takes condensed sets, result folders or files"
        )
    if path.is_file():
        return [path]
    return below(path, "*.json")


def below(path: Path, pattern: str) -> list[Path]:
    """Current files of a folder, each once; links to folders are followed where they lead out of it.

    So a cell of a study, which is links to its steps, holds what these hold, and `runs/dm_grid`, which leads to
    another folder of `runs`, adds nothing to it.
    """
    whole = path.resolve()
    files = [file for file in path.rglob(pattern) if not file.is_symlink()]
    for link in path.rglob("*"):
        if link.is_symlink() and link.is_dir() and not link.resolve().is_relative_to(whole):
            files += [link / file.relative_to(link.resolve()) for file in link.resolve().rglob(pattern)]
    once = {
        file.resolve(): file for file in sorted(files, reverse=True) if is_current(file.relative_to(path))
    }
    return sorted(once.values())


def is_current(path: Path) -> bool:
    """Whether a file of a run's folder is not of what an earlier run left there."""
    return not any(part.startswith("before-") for part in path.parts)


def read_results(path: Path) -> list[Result]:
    """Evaluations in a file, or anywhere in a folder, with the files they are from.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: a file says that it holds one, and does not.
    """
    found = []
    for file in files_of(path):
        teacher = file.name == INFO
        held = read_result(file, TestedTeacher) if teacher else read_result(file, StoredResult, FORMAT)
        if held is not None:
            found.append((str(file), upgraded(as_bound(held) if teacher else held)))
    return found


def read_all(dirs: Sequence[str]) -> list[Result]:
    """Evaluations in several places, each once.

    Raises:
        FileNotFoundError: a place that is not there, or no evaluations at all.
    """
    found = {file: held for name in dirs for file, held in read_results(Path(name))}
    if not found:
        raise FileNotFoundError(
            f"no evaluations in {', '.join(dirs)}: make some with `vdc evaluate --condensed DIR`"
        )
    return list(found.items())


def read_coded(dirs: Sequence[str]) -> list[dict[str, Any]]:
    """Sizes of coded training clips that lie beside the results."""
    files = [file for name in dirs for file in files_of(Path(name))]
    return [held for file in files if (held := read_result(file, StoredCoded, CODED)) is not None]


def find_sets(dirs: Sequence[str]) -> list[Path]:
    """Folders of the condensed sets in some places, each once; a set's random twin comes after it."""
    found = [path.parent for name in dirs if Path(name).is_dir() for path in below(Path(name), MANIFEST)]
    return sorted(dict.fromkeys(found), key=lambda path: (path.name.startswith("random_twin"), str(path)))


def as_bound(info: dict[str, Any]) -> dict[str, Any]:
    """A teacher's training as one run of the full-data bound."""
    test = info["test"]
    told = [name for name in ("top1", "top5", "still_top1", "reversed_top1", "shuffled_top1") if name in test]
    scores = {name: {"mean": test[name], "std": None} for name in told}
    once = {name: [test[name]] for name in ("steps", "final_loss", "correct") if test.get(name) is not None}
    return {
        "format": FORMAT,
        "method": "full data",
        "ipc": None,
        "classes": info["classes"],
        "spec": info["spec"],
        "train_videos": info["source"]["train"]["videos"],
        "test_videos": test["videos"],
        "student": info["net"],
        "net_options": info["options"],
        "weights": info.get("weights"),
        "protocol": info["recipe"]["protocol"],
        "seeds": [info["recipe"]["seed"]],
        **scores,
        **once,
        "reference_best": None,
        "bytes": {"total": None},
        "source": info["source"],
        "test_data": {"videos": info["source"].get("test")},
    }


def upgraded(held: dict[str, Any]) -> dict[str, Any]:
    """An evaluation with the bytes of its source files; those of before version 0.2 counted raw pixels.

    A student of the full data reads the source files, so their bytes are what it needs.
    """
    if held["ipc"] is not None:
        return held
    files = source_bytes(held)
    labels = held["train_videos"]
    total = None if files is None else files + labels
    return held | {"bytes": {"clips": files, "labels": labels, "total": total}}


def source_bytes(held: dict[str, Any]) -> int | None:
    """Bytes of the training files that a result's set was made from, `None` where it does not say."""
    train = (held.get("source") or {}).get("train")
    return train.get("bytes") if isinstance(train, dict) else None


def coded_bytes(held: dict[str, Any], coded: Sequence[dict[str, Any]]) -> int | None:
    """Bytes of all training clips of a result, coded at the size of its items; `None` where nobody made them.

    Args:
        held: the result.
        coded: from `read_coded`.
    """
    train = (held.get("source") or {}).get("train")
    if not isinstance(train, dict):
        return None
    spec, digest = held["spec"], train.get("sha256")
    wanted = [digest, spec.get("stored_frames") or spec["frames"], spec["size"], spec.get("stride")]
    fitting = [
        one["bytes"] for one in coded if [one[k] for k in ("train", "frames", "size", "stride")] == wanted
    ]
    return int(fitting[0]) if fitting else None


def title(held: dict[str, Any]) -> str:
    """Name of what a result is of: method, how its sizes came about, and whether it is a part of a set."""
    parts = [held["method"], "" if held.get("sizes", "plain") == "plain" else held["sizes"]]
    whole = held.get("stored_ipc", held["ipc"])
    parts.append("" if whole == held["ipc"] else f"first of {whole}")
    return ", ".join(part for part in parts if part)
