"""Going on after a kill: what is finished is known by a key of all that decides, and is not done again."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vdc.system.files import as_json, atomic_write, digest, move_aside, read_json, sweep, write_json
from vdc.system.processes import first_process, wait_for_all

BEST = "best.safetensors"  # weights of the best epoch so far


def claim(mark: Path, key: Any, taken: str, flag: str) -> None:
    """Say in a file whose a folder is, or refuse it to another.

    Args:
        mark: the file, JSON.
        key: whose: everything that decides, for JSON.
        taken: what the folder holds if it is another's, for the message.
        flag: to choose another folder by, for the message.

    Raises:
        ValueError: it is another's.
    """
    wanted = as_json(key)
    if not mark.is_file():
        write_json(mark, wanted)
        return
    found = read_json(mark)
    if found == wanted:
        return
    both = isinstance(wanted, dict) and isinstance(found, dict)
    odd = [name for name in wanted if found.get(name) != wanted[name]] if both else []
    told = f" ({', '.join(odd)})" if odd else ""
    raise ValueError(f"{mark.parent} holds {taken}{told}: choose another {flag}")


def once(path: Path, identity: list[Any], make: Callable[[str], None]) -> dict[str, Any]:
    """Read a trained network's JSON, training it first if none matches; another network there moves aside.

    Args:
        path: of the JSON file, which holds the key of its network.
        identity: all that decides how it is trained, for JSON.
        make: trains it and writes it, given the key.
    """
    key = digest(identity, 16)
    if not path.is_file() or _info(path).get("key") != key:
        if path.is_file() and first_process():
            move_aside(*path.parent.glob("*.safetensors"), path)  # it last: a kill in between is then seen
        wait_for_all()
        make(key)
        wait_for_all()
    if first_process():
        drop_checkpoints(work_folder(path.parent, key))  # also those that a kill left at the very end
    return _info(path)


def work_folder(folder: Path, key: str) -> Path:
    """Where the training of a network keeps its logs, and its checkpoints until it is done."""
    return folder / f"run-{key[:6]}"


def _info(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: the file holds something else.
    """
    held = read_json(path)
    if not isinstance(held, dict):
        raise ValueError(f"{path} does not describe a trained network: move it away, or give another --out")
    return held


def drop_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a run that is over, its best weights, and what a kill left of one being written."""
    for leftover in (*folder.glob("*.ckpt"), *folder.glob(BEST)):
        leftover.unlink()


class Parts:
    """Finished parts of one computation, each written whole or not at all.

    Args:
        folder: of the parts; those of another computation are removed.
        key: everything the numbers depend on, as JSON has it.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder, mark = folder, folder / "key.json"
        if folder.is_symlink():
            folder.unlink()
        if mark.is_file() and read_json(mark) == key:
            sweep(folder)
            return
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, key)

    def get(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """A part, by its file name; computed only if it is not there."""
        path = self.folder / f"{name}.safetensors"
        if path.is_file():
            with suppress(SafetensorError):  # damaged: made again
                return load_file(path)
        made = make()
        with atomic_write(path) as temporary:
            save_file(made, temporary)
        return made

    def drop(self) -> None:
        """Remove all of them: the computation is over."""
        shutil.rmtree(self.folder)
