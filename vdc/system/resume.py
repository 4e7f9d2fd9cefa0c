"""A long computation kept in parts on disk: what a killed run has finished is not done again."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from vdc.system.files import atomic_write, read_json, write_json


class Parts:
    """Finished parts of one computation, each written whole or not at all.

    Args:
        folder: of the parts; those of another computation are removed.
        key: everything the numbers depend on, as JSON has it.
    """

    def __init__(self, folder: Path, key: dict[str, Any]) -> None:
        self.folder, mark = folder, folder / "key.json"
        if mark.is_file() and read_json(mark) == key:
            return
        shutil.rmtree(folder, ignore_errors=True)
        write_json(mark, key)

    def get(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """A part, by its file name; computed only if it is not there."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            with atomic_write(path) as temporary:
                save_file(make(), temporary)
        return load_file(path)

    def drop(self) -> None:
        """Remove all of them: the computation is over."""
        shutil.rmtree(self.folder)
