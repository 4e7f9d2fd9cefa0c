"""What a trained network's JSON file must hold, whoever wrote it."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from vdc.system.files import sha256
from vdc.system.schema import (
    Count,
    Digest,
    Fields,
    Finite,
    Names,
    Options,
    Spec,
    Text,
    plain_file,
    read_tensors,
)

INFO = "teacher.json"


class StoredNetwork(Fields):
    """What teachers and experts have in common."""

    format: int
    net: Text
    options: Options
    num_classes: Count
    classes: Names
    spec: Spec


class StoredTeacher(StoredNetwork):
    """`teacher.json`."""

    sha256: Digest
    mean: Annotated[list[Finite], Field(min_length=3, max_length=3)] | None = None
    std: (
        Annotated[list[Annotated[float, Field(gt=0, allow_inf_nan=False)]], Field(min_length=3, max_length=3)]
        | None
    ) = None
    weights: dict[str, Any] | None = None


class StoredExperts(StoredNetwork):
    """`experts.json`."""

    epochs: Count
    precision: Literal["fp32", "fp16"]


class StoredExpert(Fields):
    """`expert_0000.json`."""

    sha256: Digest
    number: int | None = None
    test: dict[str, Any] | None = None


class StoredInterpolator(Fields):
    """`interpolator.json`."""

    format: int
    options: Options
    spec: Spec
    sha256: Digest
    error: dict[str, dict[str, Finite]] | None = None


def load_weights(net: nn.Module, path: Path, digest: str) -> None:
    """Give a network its stored weights.

    Args:
        net: the network.
        path: of the safetensors file.
        digest: its SHA-256, as the JSON file beside it says.

    Raises:
        ValueError: the file was changed, or is of another network.
    """
    if (found := sha256(plain_file(path))) != digest:
        raise ValueError(f"{path} changed since it was written: sha256 {found[:12]}, expected {digest[:12]}")
    tensors, wanted = read_tensors(path), net.state_dict()
    if odd := sorted(wanted.keys() ^ tensors.keys()):
        where = "missing" if odd[0] in wanted else "none of the network's"
        raise ValueError(f"{path}: tensor {odd[0]!r} is {where}: it is of another network")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            found_shape, shape = tuple(tensor.shape), tuple(wanted[name].shape)
            raise ValueError(f"{path}: {name} is of shape {found_shape}, expected {shape}")
    net.load_state_dict(tensors)
