"""A condensed set on the host: what its folder says of itself, and its tensors and labels."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from vdc.condensed.labels import LabelInfo, Labels
from vdc.condensed.memory import Memory, restore
from vdc.condensed.memory.base import SHARED
from vdc.spec import ClipSpec
from vdc.system.schema import (
    Count,
    Digest,
    Fields,
    Finite,
    Names,
    Options,
    PlainName,
    Seed,
    Size,
    Text,
    WholeSpec,
    made_of,
    short,
)

FORMAT, VERSION = "vdc condensed set", 1
CLIPS, LABELS, MANIFEST = "clips.safetensors", "labels.safetensors", "manifest.json"


class Written(Fields):
    """A file of a set."""

    bytes: Size
    sha256: Digest


class Stored(Fields):
    """A memory: its class, and its constructor's arguments."""

    cls: Text = Field(alias="class")
    options: Options


class Learnt(Fields):
    """Numbers learnt beside clips and labels, and how the set came to its sizes."""

    step_size: Annotated[Finite, Field(gt=0)] | None = None
    joined: Count | None = None
    multisize: dict[str, Any] | None = None


class Manifest(Fields):
    """What `manifest.json` holds."""

    format: Literal["vdc condensed set"]
    version: int
    classes: Names
    ipc: Count
    per_item: Count
    spec: WholeSpec
    memory: Stored
    labels: LabelInfo
    method: Text
    selects: bool = False
    seed: Seed
    learnt: Learnt
    config: dict[str, Any]
    source: dict[str, Any]
    versions: dict[str, Text]
    bytes: dict[str, Size]
    files: dict[PlainName, Written]
    digest: Digest


def stored_bytes(tensors: dict[str, Tensor], labels: Labels) -> dict[str, int]:
    """Exact bytes of what is stored: items, parts shared by all of them, labels."""
    sizes = {name: t.numel() * t.element_size() for name, t in tensors.items()}
    shared = sum(size for name, size in sizes.items() if name.startswith(SHARED))
    return {"clips": sum(sizes.values()) - shared, "decoder": shared, "labels": labels.nbytes}


def prefix_rows(num_classes: int, stored: int, kept: int) -> Tensor:
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
        return stored_bytes(self.tensors, self.labels) | ({} if held is None else {"interpolator": held})

    def rows(self, ipc: int | None = None) -> Tensor:
        """Clip rows of the first `ipc` items of every class, class-major.

        Raises:
            ValueError: the set holds fewer.
        """
        ipc = self.ipc if ipc is None else ipc
        if not 1 <= ipc <= self.ipc:
            raise ValueError(f"ipc {ipc} asked of {self.path}, which holds {self.ipc} items per class")
        return prefix_rows(self.num_classes, self.ipc * self.per_item, ipc * self.per_item)

    def memory(self) -> Memory:
        """The memory, rendering exactly what is stored."""
        return restore(self.manifest["memory"], self.tensors, self.num_classes, self.ipc, self.spec)

    def check(self) -> None:
        """Refuse a set whose tensors are not those that its manifest describes.

        Raises:
            ValueError: the first fault, with the file.
        """
        manifest, rows = self.manifest, self.num_classes * self.ipc * self.per_item
        if len(self.labels) != rows:
            raise ValueError(
                f"{self.path / LABELS}: {len(self.labels)} labels, expected {rows}, one per clip"
            )
        items = self.num_classes * self.ipc
        for name, tensor in self.tensors.items():
            if not name.startswith(SHARED) and (not tensor.ndim or len(tensor) != items):
                raise ValueError(
                    f"{self.path / CLIPS}: {short(name)} is of shape {tuple(tensor.shape)}, expected {items} rows"
                )
        memory = made_of(self.memory, self.path / CLIPS)
        if odd := sorted(memory.state().keys() ^ self.tensors.keys()):
            raise ValueError(
                f"{self.path / CLIPS}: tensor {short(odd[0])} is none of {manifest['memory']['class']}"
            )
        if memory.per_item != self.per_item:
            raise ValueError(
                f"{self.path / MANIFEST}: per_item is {self.per_item}, its memory has {memory.per_item}"
            )
        if not torch.equal(self.labels.hard, memory.labels):
            raise ValueError(f"{self.path / LABELS}: hard labels are not those of its items, class by class")

    def prefix(self, ipc: int) -> Self:
        """The set of the first `ipc` items of every class.

        Raises:
            ValueError: the set holds fewer.
        """
        rows, items = self.rows(ipc), prefix_rows(self.num_classes, self.ipc, ipc)
        tensors = {name: t if name.startswith(SHARED) else t[items] for name, t in self.tensors.items()}
        manifest = self.manifest | {"ipc": ipc, "stored_ipc": self.stored_ipc}
        return type(self)(self.path, manifest, tensors, self.labels.prefix(rows))
