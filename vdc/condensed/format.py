"""The condensed set: a folder that says what it holds, what made it and how to know that nothing changed."""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdc.condensed.export import write_previews
from vdc.condensed.labels import Labels
from vdc.ops.files import fresh_dir, read_json, sha256, write_json
from vdc.spec import INTERPOLATOR, MEAN, STD, ClipSpec

FORMAT, VERSION = "vdc condensed set", 1
CLIPS, LABELS, MANIFEST = "clips.safetensors", "labels.safetensors", "manifest.json"
SHARED = "shared."  # how tensors that belong to no item are named, e.g. a decoder's
PACKAGES = ("vdc", "torch", "torchvision", "lightning", "numpy", "safetensors", "av")


class Storable(Protocol):
    """What `save` asks of a memory."""

    num_classes: int
    ipc: int
    per_item: int
    spec: ClipSpec

    def __len__(self) -> int:
        """Clip rows."""

    def state(self) -> dict[str, Tensor]:
        """Tensors to store: first axis K * ipc, class-major, except those named `shared.*`."""

    def options(self) -> dict[str, object]:
        """What else rebuilds the memory."""

    def render(self, rows: Tensor, frozen: int = 0) -> tuple[Tensor, Tensor]:
        """Clips (N, C, T_c, H, W) of `rows`, normalised, and their labels."""

    def parameters(self) -> Iterator[Tensor]:
        """Learnt tensors."""

    def buffers(self) -> Iterator[Tensor]:
        """Other tensors."""


def _nbytes(tensors: dict[str, Tensor], labels: Labels) -> dict[str, int]:
    """Exact bytes of what is stored: items, parts shared by all of them, labels."""
    sizes = {name: t.numel() * t.element_size() for name, t in tensors.items()}
    shared = sum(size for name, size in sizes.items() if name.startswith(SHARED))
    return {"clips": sum(sizes.values()) - shared, "decoder": shared, "labels": labels.nbytes}


def _prefix_rows(num_classes: int, stored: int, kept: int) -> Tensor:
    """Row numbers of the first `kept` of the `stored` rows of every class, class-major."""
    return torch.arange(num_classes * stored).view(num_classes, stored)[:, :kept].reshape(-1)


@dataclass
class CondensedSet:
    """A condensed set, or a prefix of every class of it, on the host.

    Args:
        path: its folder.
        manifest: what the folder says of itself; `ipc` is that of the prefix.
        tensors: what `Memory.state` gave; first axis K * ipc, except in those named `shared.*`.
        labels: of every clip row.
    """

    path: Path
    manifest: dict[str, Any]
    tensors: dict[str, Tensor]
    labels: Labels

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return list(self.manifest["classes"])

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.manifest["classes"])

    @property
    def ipc(self) -> int:
        """Items per class."""
        return int(self.manifest["ipc"])

    @property
    def stored_ipc(self) -> int:
        """Items per class of the set that this is, or is a prefix of."""
        return int(self.manifest.get("stored_ipc", self.ipc))

    @property
    def per_item(self) -> int:
        """Clips one item renders."""
        return int(self.manifest["per_item"])

    @property
    def spec(self) -> ClipSpec:
        """Shapes of the stored and seen clips."""
        return ClipSpec(**self.manifest["spec"])

    @property
    def nbytes(self) -> dict[str, int]:
        """Exact bytes of `clips`, `decoder` (parts shared by all items), `labels`, and an `interpolator`."""
        held = self.manifest["bytes"].get("interpolator")
        return _nbytes(self.tensors, self.labels) | ({} if held is None else {"interpolator": held})

    def rows(self, ipc: int | None = None) -> Tensor:
        """Clip rows of the first `ipc` items of every class, class-major.

        Raises:
            ValueError: the set holds fewer.
        """
        ipc = self.ipc if ipc is None else ipc
        if not 1 <= ipc <= self.ipc:
            raise ValueError(f"ipc {ipc} asked of {self.path}, which holds {self.ipc} items per class")
        return _prefix_rows(self.num_classes, self.ipc * self.per_item, ipc * self.per_item)

    def prefix(self, ipc: int) -> "CondensedSet":
        """The set of the first `ipc` items of every class.

        Raises:
            ValueError: the set holds fewer.
        """
        rows, items = self.rows(ipc), _prefix_rows(self.num_classes, self.ipc, ipc)
        tensors = {name: t if name.startswith(SHARED) else t[items] for name, t in self.tensors.items()}
        manifest = self.manifest | {"ipc": ipc, "stored_ipc": self.stored_ipc}
        return CondensedSet(self.path, manifest, tensors, self.labels.prefix(rows))


def _is_ours(manifest: object) -> bool:
    """Whether a JSON file describes a condensed set."""
    return isinstance(manifest, dict) and manifest.get("format") == FORMAT


def _refuse_to_overwrite(out: Path) -> None:
    """Only an empty folder or an older condensed set may be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / MANIFEST).is_file() or not _is_ours(read_json(out / MANIFEST)):
        raise ValueError(f"{out} exists and is no condensed set: it is not replaced, choose another folder")


def _versions() -> dict[str, str]:
    """Versions of what wrote the set."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of a manifest but for its own digest: names the set, since it covers the hash of every file."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _take_along(source: Path, folder: Path, manifest: dict[str, Any]) -> None:
    """Copy the interpolator that every view of the set needs."""
    for name in INTERPOLATOR:
        shutil.copyfile(source / name, folder / name)
    held = load_file(folder / INTERPOLATOR[1]).values()
    manifest["bytes"]["interpolator"] = sum(t.numel() * t.element_size() for t in held)
    manifest["spec"]["interpolator"] = "."


def _check(memory: Storable, labels: Labels, classes: Sequence[str], tensors: dict[str, Tensor]) -> None:
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
    memory: Storable,
    labels: Labels,
    *,
    classes: Sequence[str],
    source: dict[str, Any],
    method: str,
    config: dict[str, Any],
    seed: int,
    learnt: dict[str, Any] | None = None,
) -> Path:
    """Write a condensed set, whole or not at all; an older set at `out` goes once this one is complete.

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

    Raises:
        ValueError: parts do not fit together, or `out` holds something else.
    """
    out = Path(out)
    _refuse_to_overwrite(out)
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
        "seed": seed,
        "learnt": learnt or {},
        "config": config,
        "source": source,
        "versions": _versions(),
        "bytes": _nbytes(tensors, labels),
    }
    with fresh_dir(out) as folder:
        save_file(tensors, folder / CLIPS)
        save_file(labels.tensors(), folder / LABELS)
        if memory.spec.interpolation == "parametric":
            _take_along(Path(memory.spec.interpolator or ""), folder, manifest)
        write_previews(folder, memory, classes)
        written = sorted(folder.iterdir())
        manifest["files"] = {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in written}
        (folder / "evaluations").mkdir()
        manifest = json.loads(json.dumps(manifest, default=str))  # paths and the like in a configuration
        manifest["digest"] = _digest(manifest)
        write_json(folder / MANIFEST, manifest)
    return out


def replace_labels(path: str | Path, labels: Labels, out: str | Path | None = None) -> Path:
    """Give a condensed set other labels of the same clips, in place or as a copy, whole or not at all.

    Args:
        path: its folder.
        labels: of every clip row.
        out: folder of the copy, without the evaluations; `None` changes the set and keeps them.

    Raises:
        ValueError: another number of labels, or `out` holds something else.
    """
    path, target = Path(path), Path(out or path)
    manifest = verify(path)
    rows = len(manifest["classes"]) * manifest["ipc"] * manifest["per_item"]
    if len(labels) != rows:
        raise ValueError(f"{len(labels)} labels for the {rows} clip rows of {path}")
    _refuse_to_overwrite(target)
    with fresh_dir(target) as folder:
        for entry in path.iterdir():
            if entry.is_dir() and out is None:
                shutil.copytree(entry, folder / entry.name)
            elif entry.name in manifest["files"] and entry.name != LABELS:
                shutil.copyfile(entry, folder / entry.name)
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
    if not (path / MANIFEST).is_file():
        raise FileNotFoundError(
            f"{path / MANIFEST} is missing: {path} is no condensed set, or a half-written one"
        )
    manifest: dict[str, Any] = read_json(path / MANIFEST)
    if not _is_ours(manifest):
        raise ValueError(f"{path / MANIFEST} does not describe a condensed set")
    if manifest.get("version") != VERSION:
        raise ValueError(f"{path} is of format version {manifest.get('version')}, this vdc reads {VERSION}")
    if manifest.get("digest") != _digest(manifest):
        raise ValueError(f"{path / MANIFEST} has changed since it was written: restore it, or condense again")
    for name, written in manifest["files"].items():
        if not (path / name).is_file():
            raise ValueError(f"{path / name} is missing: restore it, or condense again")
        if sha256(path / name) != written["sha256"]:
            raise ValueError(f"{path / name} has changed since it was written: restore it, or condense again")
    return manifest


def load(path: str | Path, ipc: int | None = None) -> CondensedSet:
    """Read a condensed set, or the first `ipc` items of every class, after `verify`.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: a file that changed, by name; or more items asked than stored.
    """
    path = Path(path)
    manifest = verify(path)
    if manifest["spec"]["interpolation"] == "parametric":
        manifest["spec"]["interpolator"] = str(path)  # where it travelled with the set
    labels = Labels.from_tensors(load_file(path / LABELS), manifest["labels"])
    condensed = CondensedSet(path, manifest, load_file(path / CLIPS), labels)
    return condensed if ipc is None else condensed.prefix(ipc)
