"""What a JSON file must look like, checked once where it is read: every fault is one line with the file and the key."""

import math
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from vdc.system.files import read_json
from vdc.system.text import printable

Made = TypeVar("Made")
STORED = {
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
    torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool,
}  # fmt: skip
SHOWN = 60  # characters of a wrong value


def _plain_name(name: str) -> str:
    if name != os.path.basename(name) or name in ("", ".", "..") or "\\" in name or not name.isprintable():
        raise ValueError("a plain file name is needed")
    return name


def _distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names must differ from one another")
    return names


Count = Annotated[int, Field(ge=1, le=10**6)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Size = Annotated[int, Field(ge=0, le=10**18)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PlainName = Annotated[str, StringConstraints(max_length=255), AfterValidator(_plain_name)]
Names = Annotated[list[Text], Field(min_length=1, max_length=10**5), AfterValidator(_distinct)]
Number = Annotated[int, Field(ge=-(10**9), le=10**9)]
Options = dict[str, str | bool | Number | Finite | list[str | bool | Number | Finite] | None]


class Fields(BaseModel):
    """Keys of a JSON object with their types; keys that are not named may hold anything."""

    model_config = ConfigDict(strict=True, extra="allow", frozen=True)


class Spec(Fields):
    """`ClipSpec` as JSON has it; its own rules are checked where it is made."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)
    frames: Count
    size: Annotated[int, Field(ge=1, le=10**4)]
    stride: Count = 8
    stored_frames: Count | None = None
    window: str = "none"
    window_frames: Count | None = None
    interpolation: str = "none"
    interpolator: str | None = None


class WholeSpec(Spec):
    """The same with nothing left out."""

    stride: Count
    stored_frames: Count | None
    window: str
    window_frames: Count | None
    interpolation: str
    interpolator: str | None


def short(value: object) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def check_fields(fields: type[Fields], held: object, path: Path) -> None:
    """Refuse what has not the keys, types and ranges that it should.

    Raises:
        ValueError: the first fault, with file, key, what is there and what is expected.
    """
    try:
        fields.model_validate(held)
    except ValidationError as error:
        first = error.errors()[0]
        told = first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] == "missing" else f", found {short(first['input'])}"
        raise ValueError(
            f"{path}: {printable(_key(held, first['loc']))}{told[:1].lower()}{told[1:]}{found}"
        ) from None


def _key(held: Any, place: tuple[int | str, ...]) -> str:
    """The key at a place, without the alternatives that the checker names on the way."""
    parts = []
    for part in place:
        if isinstance(held, dict | list):
            parts.append(str(part))
            within = part in held if isinstance(held, dict) else isinstance(part, int)
            held = held[part] if within else None  # type: ignore[index]
    return "".join(f"{key[:100]}: " for key in [".".join(parts)] if key)


def read_fields(
    path: str | Path, fields: type[Fields], version: tuple[str, int] | None = None
) -> dict[str, Any]:
    """What a JSON file from anywhere holds, once it is known to be what it should.

    Args:
        path: of the file; no link.
        fields: what it should hold.
        version: key and value that say which version of the format it is, checked before anything else.

    Raises:
        ValueError: no plain file, no JSON, a number that is not finite, another version, or a wrong field.
    """
    plain_file(path)
    held = read_json(path)
    found = held.get(version[0]) if version is not None and isinstance(held, dict) else None
    if version is not None and isinstance(found, int) and found != version[1]:
        raise ValueError(f"{path} is of format {found}, this version reads {version[1]}")
    check_fields(fields, held, Path(path))
    check_finite(held, path)
    found_fields: dict[str, Any] = held
    return found_fields


def check_finite(held: object, path: str | Path) -> None:
    """Refuse JSON with NaN or infinity in it."""
    if isinstance(held, dict):
        for value in held.values():
            check_finite(value, path)
    elif isinstance(held, list):
        for value in held:
            check_finite(value, path)
    elif isinstance(held, float) and not math.isfinite(held):
        raise ValueError(f"{path}: a number is {held}, all must be finite")


def plain_file(path: str | Path) -> Path:
    """A file that is one: in a folder from elsewhere a link, pipe or device leads out of it.

    Raises:
        ValueError: it is something else, or not there.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: restore it, or make it again") from None
    if not stat.S_ISREG(mode):
        raise ValueError(f"{path} is no plain file: links and the like are not followed")
    return Path(path)


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a safetensors file, all of them finite.

    Raises:
        ValueError: no plain file, a damaged one, or numbers that are not finite.
    """
    try:
        tensors = load_file(plain_file(path))
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no safetensors file, or a damaged one: {error}") from error
    for name, tensor in tensors.items():
        if tensor.dtype not in STORED:
            raise ValueError(f"{path}: tensor {short(name)} is of {tensor.dtype}, which no file of vdc holds")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: tensor {short(name)} holds numbers that are not finite")
    return tensors


def made_of(make: Callable[[], Made], path: str | Path) -> Made:
    """What a constructor makes of values of a file, whose refusal is said to be of that file.

    Raises:
        ValueError: it makes nothing of them.
    """
    try:
        return make()
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        RuntimeError,
        OverflowError,
        ZeroDivisionError,
    ) as error:
        told = " ".join(str(error).split())
        raise ValueError(f"{path}: {told[:300] or type(error).__name__}") from error
