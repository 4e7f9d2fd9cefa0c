"""Several condensed sets as one: their items side by side in every class."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.memory.base import SHARED
from vdc.spec import INTERPOLATOR


def join(sets: list[str], out: str) -> None:
    """Put condensed sets of the same classes together: the items of the first come first in every class.

    Args:
        sets: folders, of the same classes, videos, clip shapes and memory.
        out: folder of the joined set.
    """
    parts = [load(path) for path in sets]
    for part in parts[1:]:
        check_alike(parts[0], part)
    if any(part.labels.views is not None for part in parts):
        raise ValueError("views are drawn by their number in a set: join sets before `vdc relabel`")
    first, count = parts[0], parts[0].num_classes
    soft = [part.labels.soft for part in parts]
    labels = Labels(
        class_major([part.labels.hard for part in parts], count),
        class_major([one for one in soft if one is not None], count) if soft[0] is not None else None,
    )
    tensors = {
        name: held if name.startswith(SHARED) else class_major([part.tensors[name] for part in parts], count)
        for name, held in first.tensors.items()
    }
    whole = CondensedSet(Path(out), first.manifest | {"ipc": sum(p.ipc for p in parts)}, tensors, labels)
    save(
        out,
        whole.memory(),
        labels,
        classes=first.classes,
        source=first.manifest["source"],
        method=first.manifest["method"],
        config=first.manifest["config"],
        seed=first.manifest["seed"],
        selects=first.manifest.get("selects", False),
        learnt={"joined": len(parts), "seeds": [part.manifest["seed"] for part in parts]},
    )


def class_major(parts: list[Tensor], classes: int) -> Tensor:
    """Rows of several sets (K * n_i, ...), all of them class by class."""
    return torch.cat([part.view(classes, -1, *part.shape[1:]) for part in parts], 1).flatten(0, 1)


def kind(part: CondensedSet) -> dict[str, Any]:
    """What sets must share to be joined."""
    names = ("classes", "memory", "source", "method")
    found = {name: part.manifest[name] for name in names} | {"spec": part.spec}
    return found | {
        "interpolator": part.manifest["files"].get(INTERPOLATOR[1]),
        "kind of labels": part.labels.kind,
    }


def check_alike(one: CondensedSet, other: CondensedSet) -> None:
    """Refuse sets that are not of the same kind.

    Raises:
        ValueError: in what they differ.
    """
    wanted, found = kind(one), kind(other)
    odd = [name for name in wanted if wanted[name] != found[name]]
    shared = [name for name in one.tensors if name.startswith(SHARED)]
    odd += [name for name in shared if not one.tensors[name].equal(other.tensors[name])]
    if odd:
        raise ValueError(f"{one.path} and {other.path} differ in {', '.join(odd)}: they cannot be joined")
