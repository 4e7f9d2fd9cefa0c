"""Files and folders that are written whole or not at all, and never at the cost of something else."""

import ctypes
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}  # the disk's fault, not the user's
DEEPEST = 64  # levels of a JSON file
HOST = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:6]
RUN = uuid4().hex[:8]  # tells this process from a killed one of the same number
TEMPORARY = re.compile(
    rf"\.(?P<stem>.+)\.{HOST}-(?P<pid>\d+)-(?P<run>[0-9a-f]{{8}})[0-9a-f]{{8}}(?P<whole>-whole)?(?P<suffix>\.[^.]+)?"
)  # names of this machine's unfinished files and folders
EXCHANGE, HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux
log = logging.getLogger(__name__)


def _sibling(path: Path, mark: str = "") -> Path:
    """A hidden temporary name beside `path` that tells whose it is.

    It has the suffix of `path`: encoders choose their format by it.
    """
    return path.with_name(f".{path.stem}.{HOST}-{os.getpid()}-{RUN}{uuid4().hex[:8]}{mark}{path.suffix}")


# -- writing -----------------------------------------------------------------------------------------------


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary path to write to, renamed to `path` if the block succeeds and removed if it fails.

    The file is on the disk before it has its name, and its permissions follow the umask, whatever wrote it.

    Args:
        path: the final file; its folder is made if missing.

    Raises:
        OSError: the disk is full; `path` is then as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _sibling(path)
    try:
        with disk_errors(path):
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            temporary.chmod(mode)
            _to_disk(temporary)
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def fresh_dir(path: str | Path, keep: bool = True) -> Iterator[Path]:
    """A temporary folder to fill, renamed to `path` if the block succeeds and removed if it fails.

    An older folder at `path` is replaced only if it is empty or holds one of the new names, so that a wrong
    path never hides other files. Both change places in one step, where the system can; the older one then moves
    aside (see `move_aside`).

    Args:
        path: the final folder; its parents are made if missing.
        keep: the older folder; without, it is deleted: only where the block has taken over all that it holds.

    Raises:
        ValueError: `path` holds something else; the finished folder is then kept under its temporary name.
        OSError: the disk is full; `path` is then as it was.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    temporary, whole = _sibling(path), _sibling(path, "-whole")
    temporary.mkdir()
    try:
        with disk_errors(path):
            yield temporary
            for entry in temporary.iterdir():
                if entry.is_file() and not entry.is_symlink() and entry.stat().st_nlink == 1:
                    if entry.suffix == ".safetensors":  # written for its owner alone, whatever the umask
                        entry.chmod(temporary.stat().st_mode & 0o666)
                    _to_disk(entry)
    except BaseException:
        shutil.rmtree(temporary)
        raise
    new = {entry.name for entry in temporary.iterdir()}
    old = (
        {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name} if path.exists() else set()
    )
    if old and not (path.is_dir() and old & new):
        raise ValueError(
            f"{path} holds other files ({', '.join(sorted(old)[:3])}) and is not replaced: move it away, "
            f"or choose another folder; what was to be written there is in {temporary}"
        )
    os.replace(temporary, whole)
    if not old:
        os.replace(whole, path)  # also over an empty folder
        return
    if not exchange(whole, path):
        move_aside(path)
        os.replace(whole, path)
    elif keep:
        move_aside(whole, names=(path.name,))
    else:
        shutil.rmtree(whole)


def _to_disk(path: Path) -> None:
    """Have a file survive a power failure."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Have whatever writes `path` say of a full disk that it is one.

    Raises:
        OSError: with its number and the file.
    """
    try:
        yield
    except Exception as error:
        if (number := disk_error(error)) is None:
            raise
        raise OSError(number, f"{os.strerror(number)}; nothing there was changed", str(path)) from error


def disk_error(error: BaseException | None) -> int | None:
    """The number of the disk's error behind an error of safetensors, PyAV or Python; `None` of others."""
    while error is not None:
        told = re.search(r"os error (\d+)", str(error))  # as safetensors says it
        number = int(told[1]) if told is not None else getattr(error, "errno", None)
        if number in FULL:
            return number
        error = error.__cause__ or error.__context__
    return None


def write_link(path: Path, target: str) -> None:
    """Have a link, new or old, lead to `target`, in one step."""
    sweep(path.parent)
    temporary = _sibling(path)
    temporary.symlink_to(target)
    os.replace(temporary, path)


# -- moving ------------------------------------------------------------------------------------------------


def exchange(one: Path, other: Path) -> bool:
    """Have two files or folders change places in one step; `False` where the system cannot."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return True
    if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    return False


def move_aside(*paths: Path, names: tuple[str, ...] | None = None) -> None:
    """Move files or folders to `before-1` beside them, or the next number where that has one, and say so.

    Args:
        paths: what moves, all of one folder.
        names: they get; `None` keeps their own.
    """
    if not paths:
        return
    names, number = names or tuple(path.name for path in paths), 1
    parent = paths[0].parent
    while any(os.path.lexists(parent / f"before-{number}" / name) for name in names):
        number += 1
    target = parent / f"before-{number}"
    target.mkdir(exist_ok=True)
    for path, name in zip(paths, names, strict=True):
        os.rename(path, target / name)
    log.warning("what was here before is kept in %s: %s", target, ", ".join(names))


def sweep(folder: str | Path) -> None:
    """Remove what killed processes left unfinished in a folder; never what a living one may still write.

    A folder that was finished, or about to be moved aside, goes where it belongs instead.
    """
    for entry in Path(folder).glob(".*"):
        found = TEMPORARY.fullmatch(entry.name)
        if found is None or found["run"] == RUN or _alive(int(found["pid"])):
            continue
        path = entry.with_name(found["stem"] + (found["suffix"] or ""))
        if found["whole"] and path.exists():
            move_aside(entry, names=(path.name,))
        elif found["whole"]:
            os.rename(entry, path)
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    """Whether a process of this number runs on this machine, other than this one."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


# -- reading -----------------------------------------------------------------------------------------------


def json_text(obj: object) -> str:
    """`obj` as indented JSON; bytes of file names that are not UTF-8 are escaped."""
    text = json.dumps(obj, indent=2, ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        text = json.dumps(obj, indent=2)
    return text + "\n"


def write_json(path: str | Path, obj: object) -> None:
    """Write `obj` as indented JSON, atomically."""
    text = json_text(obj)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: the file is not JSON, with its name and line; or deeper than `DEEPEST`.
    """

    def wrong(why: object, error: BaseException | None = None) -> NoReturn:
        raise ValueError(f"{path} is not valid JSON: {why}") from error

    try:
        held = json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        wrong(f"line {error.lineno}: {error.msg}", error)
    except UnicodeDecodeError as error:
        wrong("not UTF-8 text", error)
    except RecursionError:
        wrong(f"more than {DEEPEST} levels")
    except ValueError as error:  # a number of thousands of digits
        wrong(error, error)
    level = [held]
    for _ in range(DEEPEST):
        level = [
            inner
            for one in level
            if isinstance(one, dict | list)
            for inner in (one.values() if isinstance(one, dict) else one)
        ]
    if level:
        wrong(f"more than {DEEPEST} levels")
    return held


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
