"""What a condensed set stores, and how it renders as clips."""

from typing import Any, Protocol

from torch import Tensor

from vdc.memory.base import Memory
from vdc.memory.multiformation import MultiFormation
from vdc.memory.pixels import Pixels
from vdc.memory.static_dynamic import StaticDynamic
from vdc.spec import ClipSpec

__all__ = ["Memory", "MultiFormation", "Pixels", "StaticDynamic", "restore"]

MEMORIES: tuple[type[Memory], ...] = (MultiFormation, Pixels, StaticDynamic)  # those a condensed set may name


class Stored(Protocol):
    """What `restore` reads of a condensed set."""

    @property
    def manifest(self) -> dict[str, Any]:
        """Its description: class and options of the memory, classes, ipc and spec."""

    @property
    def tensors(self) -> dict[str, Tensor]:
        """What `Memory.state` gave, perhaps cut to a prefix of every class."""


def restore(stored: Stored) -> Memory:
    """The memory of a condensed set, rendering exactly what is stored.

    The class is looked up by name among those of this package: a folder from elsewhere imports no code.

    Raises:
        ValueError: no memory of that name.
    """
    manifest = stored.manifest
    name = manifest["memory"]["class"]
    known = {cls.__name__: cls for cls in MEMORIES}
    if name not in known:
        raise ValueError(f"condensed set of memory {name!r}: this version knows {', '.join(sorted(known))}")
    return known[name].restore(
        stored.tensors,
        num_classes=len(manifest["classes"]),
        ipc=manifest["ipc"],
        spec=ClipSpec(**manifest["spec"]),
        **manifest["memory"]["options"],
    )
