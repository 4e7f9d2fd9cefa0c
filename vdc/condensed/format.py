"""The condensed set: a folder that says what it holds, what made it and how to know that nothing changed."""

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vdc.condensed.labels import Labels
from vdc.condensed.manifest import (
    CLIPS,
    FORMAT,
    LABELS,
    MANIFEST,
    VERSION,
    CondensedSet,
    Manifest,
    stored_bytes,
)
from vdc.condensed.memory import Memory
from vdc.condensed.memory.base import SHARED
from vdc.condensed.preview import write_previews
from vdc.spec import INTERPOLATOR, MEAN, STD, ClipSpec
from vdc.system.files import as_json, digest, fresh_dir, read_json, sha256, sweep, write_json
from vdc.system.schema import check_fields, check_finite, made_of, plain_file, read_tensors, short
from vdc.system.versions import versions

RUN_SET = "condensed"  # where a run's set lies in its folder
WHAT = ("classes", "spec", "memory", "labels", "learnt", "method", "seed", "config", "source", "files")


def _is_ours(manifest: object) -> bool:
    """Whether a JSON file describes a condensed set."""
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def find_set(path: str | Path) -> Path:
    """The folder of a condensed set, given it or the run that made it; a link to either is followed once.

    Raises:
        FileNotFoundError: neither.
    """
    folder = Path(path)
    if folder.is_symlink():  # `runs/<config>`, which a later run will turn elsewhere
        folder = folder.parent / os.readlink(folder)
    for place in (folder, folder / RUN_SET):
        if not place.exists():
            sweep(place.parent)  # a kill may have left it beside its place
        if (place / MANIFEST).is_file():
            return place
    raise FileNotFoundError(f"{folder / MANIFEST} is missing: {path} is no condensed set, nor a finished run")


def check_target(out: str | Path) -> None:
    """Refuse to write a set where anything else is than an empty folder or an older set, which moves aside.

    Raises:
        ValueError: the folder holds something else.
    """
    out = Path(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file() or not _is_ours(read_json(out / MANIFEST)):
        raise ValueError(f"{out} exists and is no condensed set: it is not replaced, choose another folder")


def _digest(manifest: dict[str, Any]) -> str:
    """Names the set: of all its manifest says but what it cost, which covers the hash of every file."""
    return digest({key: value for key, value in manifest.items() if key not in ("digest", "cost")})


def _take_along(source: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Copy the interpolator that every view of the set needs."""
    for name in INTERPOLATOR:
        shutil.copyfile(source / name, folder / name)
    held = load_file(folder / INTERPOLATOR[1]).values()
    manifest["bytes"]["interpolator"] = sum(t.numel() * t.element_size() for t in held)
    manifest["spec"]["interpolator"] = "."


def _check(memory: Memory, labels: Labels, classes: Sequence[str], tensors: dict[str, Tensor]) -> None:
    """Refuse a set that could not be read back."""
    if len(classes) != memory.num_classes:
        raise ValueError(f"{len(classes)} class names for a memory of {memory.num_classes} classes")
    if len(labels) != len(memory):
        raise ValueError(f"{len(labels)} labels for a memory of {len(memory)} clip rows")
    items = memory.num_classes * memory.ipc
    for name, tensor in tensors.items():
        if not name.startswith(SHARED) and len(tensor) != items:
            raise ValueError(
                f"stored tensor {name!r} has {len(tensor)} rows, not one per item ({items}): "
                f"name it {SHARED}{name} if all items share it"
            )


def save(
    out: str | Path,
    memory: Memory,
    labels: Labels,
    *,
    classes: Sequence[str],
    source: dict[str, Any],
    method: str,
    config: dict[str, Any],
    seed: int,
    learnt: dict[str, Any] | None = None,
    selects: bool = False,
    cost: dict[str, Any] | None = None,
) -> Path:
    """Write a condensed set, whole or not at all; an older one at `out` moves aside, unless it is the same.

    Args:
        out: its folder.
        memory: what is stored and learnt.
        labels: of every clip row.
        classes: class names, in the order of the labels.
        source: fingerprint of the real data, with decoder and version.
        method: what condensed it.
        config: the whole run's configuration.
        seed: of everything random.
        learnt: numbers learnt beside clips and labels.
        selects: the method chose real clips, most preferred first.
        cost: what the run took; no part of what the set is.

    Raises:
        ValueError: parts do not fit together, or `out` holds something else.
    """
    out = Path(out)
    check_target(out)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in memory.state().items()}
    _check(memory, labels, classes, tensors)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "classes": list(classes),
        "ipc": memory.ipc,
        "per_item": memory.per_item,
        "spec": asdict(memory.spec),
        "normalisation": {"mean": MEAN, "std": STD},
        "memory": {"class": type(memory).__name__, "options": memory.options()},
        "labels": labels.info(),
        "method": method,
        "selects": selects,
        "seed": seed,
        "learnt": learnt or {},
        "config": config,
        "source": source,
        "versions": versions(),
        "bytes": stored_bytes(tensors, labels),
    } | ({"cost": cost} if cost else {})
    with suppress(_Unchanged), fresh_dir(out) as folder:
        save_file(tensors, folder / CLIPS)
        save_file(labels.tensors(), folder / LABELS)
        if memory.spec.interpolation == "parametric":
            _take_along(Path(memory.spec.interpolator or ""), folder, manifest)
        write_previews(folder, memory, classes, method)
        written = sorted(folder.iterdir())
        manifest["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in written}
        (folder / "evaluations").mkdir()
        manifest = as_json(manifest)
        manifest["digest"] = _digest(manifest)
        if (out / MANIFEST).is_file():
            older = read_json(out / MANIFEST)
            if all(older.get(key) == manifest[key] for key in WHAT):
                raise _Unchanged
        write_json(folder / MANIFEST, manifest)
    return out


class _Unchanged(Exception):
    """The set is there already, with what has been found about it."""


def replace_labels(path: str | Path, labels: Labels, out: str | Path | None = None) -> Path:
    """Give a condensed set other labels of the same clips, in place or as a copy, whole or not at all.

    Args:
        path: its folder.
        labels: of every clip row.
        out: folder of the copy, without the evaluations; `None` changes the set and keeps them.

    Raises:
        ValueError: another number of labels, or `out` holds something else.
    """
    path = find_set(path)
    target = Path(out or path)
    manifest = verify(path)
    rows = len(manifest["classes"]) * manifest["ipc"] * manifest["per_item"]
    if len(labels) != rows:
        raise ValueError(f"{len(labels)} labels for the {rows} clip rows of {path}")
    check_target(target)
    with fresh_dir(target, keep=out is not None) as folder:
        for entry in path.iterdir():
            if entry.name in (LABELS, MANIFEST):
                continue
            if entry.name in manifest["files"]:
                shutil.copyfile(entry, folder / entry.name)
            elif out is None and entry.is_dir() and not entry.is_symlink():
                shutil.copytree(entry, folder / entry.name, symlinks=True)
            elif out is None:  # whatever somebody put there
                shutil.copy2(entry, folder / entry.name, follow_symlinks=False)
        save_file(labels.tensors(), folder / LABELS)
        written = {"bytes": (folder / LABELS).stat().st_size, "sha256": sha256(folder / LABELS)}
        manifest["files"][LABELS] = written
        manifest["bytes"]["labels"] = labels.nbytes
        manifest["labels"] = labels.info()
        (folder / "evaluations").mkdir(exist_ok=True)
        manifest["digest"] = _digest(manifest)
        write_json(folder / MANIFEST, manifest)
    return target


def verify(path: str | Path) -> dict[str, Any]:
    """The manifest of a condensed set, after checking its version and the hash of every file.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: another format, or a file that changed, by name.
    """
    path = Path(path)
    if not os.path.lexists(path / MANIFEST):
        raise FileNotFoundError(
            f"{path / MANIFEST} is missing: {path} is no condensed set, or a half-written one"
        )
    manifest: Any = read_json(plain_file(path / MANIFEST))
    if not _is_ours(manifest):
        raise ValueError(f"{path / MANIFEST} does not describe a condensed set")
    if manifest.get("version") != VERSION:
        found = short(manifest.get("version"))
        raise ValueError(f"{path} is of format version {found}, this vdc reads {VERSION}")
    if manifest.get("digest") != _digest(manifest):
        raise ValueError(f"{path / MANIFEST} has changed since it was written: restore it, or condense again")
    check_fields(Manifest, manifest, path / MANIFEST)
    check_finite(manifest, path / MANIFEST)
    needed = {CLIPS, LABELS, *(INTERPOLATOR if manifest["spec"]["interpolation"] == "parametric" else ())}
    if missing := sorted(needed - manifest["files"].keys()):
        raise ValueError(f"{path / MANIFEST}: files: {missing[0]} is missing")
    if (path / "evaluations").is_symlink():
        raise ValueError(f"{path / 'evaluations'} is a link: in a set from elsewhere it is not followed")
    for name, written in manifest["files"].items():
        if sha256(plain_file(path / name)) != written["sha256"]:
            raise ValueError(f"{path / name} has changed since it was written: restore it, or condense again")
    checked: dict[str, Any] = manifest
    return checked


def load(path: str | Path, ipc: int | None = None) -> CondensedSet:
    """Read a condensed set, or the first `ipc` items of every class, after `verify`.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: a file that changed, by name; or more items asked than stored.
    """
    path = find_set(path)
    manifest = verify(path)
    # where it travelled with the set, and nowhere else
    manifest["spec"]["interpolator"] = (
        str(path) if manifest["spec"]["interpolation"] == "parametric" else None
    )
    made_of(lambda: ClipSpec(**manifest["spec"]), path / MANIFEST)
    stored = read_tensors(path / LABELS)
    labels = Labels.from_tensors(stored, manifest["labels"], len(manifest["classes"]), path / LABELS)
    condensed = CondensedSet(path, manifest, read_tensors(path / CLIPS), labels)
    condensed.check()
    return condensed if ipc is None else condensed.prefix(ipc)
