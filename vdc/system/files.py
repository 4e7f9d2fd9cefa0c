"""Files and folders that are written whole or not at all."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4


def _sibling(path: Path) -> Path:
    """A hidden temporary name beside `path`, of the same suffix: encoders choose their format by it."""
    return path.with_name(f".{path.stem}.{uuid4().hex[:8]}{path.suffix}")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` if the block succeeds and removed if it fails.

    Args:
        path: the final file; its folder is made if missing.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path)
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def fresh_dir(path: str | Path) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` if the block succeeds and removed if it fails.

    An older folder at `path` is replaced only if it is empty or holds one of the new names, so that a wrong
    path never deletes other files.

    Args:
        path: the final folder; its parents are made if missing.

    Raises:
        ValueError: `path` holds something else; the finished folder is then kept under its temporary name.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path)
    temporary.mkdir()
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary)
        raise
    if not path.exists():
        os.replace(temporary, path)
        return
    new = {entry.name for entry in temporary.iterdir()}
    old = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    if not path.is_dir() or (old and not old & new):
        raise ValueError(
            f"{path} holds other files ({', '.join(sorted(old)[:3])}) and is not replaced: move it away, "
            f"or choose another folder; what was to be written there is in {temporary}"
        )
    aside = _sibling(path)
    os.replace(path, aside)
    os.replace(temporary, path)
    shutil.rmtree(aside)


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` as indented JSON, atomically; bytes of file names that are not UTF-8 are escaped."""
    text = json.dumps(obj, indent=2, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        text = json.dumps(obj, indent=2)
    with atomic_write(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: the file is not JSON, with its name and line.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: line {error.lineno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid JSON: not UTF-8 text") from error
    except (ValueError, RecursionError) as error:  # a number of more than 4300 digits, brackets without end
        raise ValueError(f"{path} is not valid JSON: {error}") from error


def digest(fields: object, length: int = 64) -> str:
    """SHA-256 of JSON-able fields, whatever the order of their keys; the first `length` hexadecimal digits."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:length]


def as_json(fields: object) -> Any:
    """Fields as they will be read back: tuples become lists, keys become text, what JSON lacks becomes its name."""
    return json.loads(json.dumps(fields, default=str))


def free_bytes(folder: Path) -> int:
    """Free on the disk that a folder is, or will be, on."""
    while not folder.exists():
        folder = folder.resolve().parent
    return shutil.disk_usage(folder).free


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
