"""What a condensed set stores, and how it renders as clips."""

from typing import Any

from torch import Tensor

from vdc.condensed.memory.base import Memory
from vdc.condensed.memory.coded import Coded
from vdc.condensed.memory.multiformation import MultiFormation
from vdc.condensed.memory.pixels import Pixels
from vdc.condensed.memory.static_dynamic import StaticDynamic
from vdc.spec import ClipSpec

__all__ = ["Coded", "Memory", "MultiFormation", "Pixels", "StaticDynamic", "restore"]

MEMORIES: tuple[type[Memory], ...] = (
    Coded,
    MultiFormation,
    Pixels,
    StaticDynamic,
)  # those a condensed set may name


def restore(
    described: dict[str, Any], tensors: dict[str, Tensor], num_classes: int, ipc: int, spec: ClipSpec
) -> Memory:
    """A stored memory, rendering exactly what is stored.

    The class is looked up by name among those of this package: a folder from elsewhere imports no code.

    Args:
        described: `class` and `options`, as a manifest has them.
        tensors: what `Memory.state` gave, perhaps cut to a prefix of every class.
        num_classes: K.
        ipc: items per class in `tensors`.
        spec: shapes of the stored and seen clips.

    Raises:
        ValueError: no memory of that name.
    """
    known = {cls.__name__: cls for cls in MEMORIES}
    if described["class"] not in known:
        raise ValueError(
            f"condensed set of memory {described['class']!r}: this version knows {', '.join(sorted(known))}"
        )
    return known[described["class"]].restore(tensors, num_classes, ipc, spec, **described["options"])
