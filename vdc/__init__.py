"""Condense videos: a few items per class that teach a network what the full set teaches.

`vdc.load("folder")` gives a condensed set as a torch dataset; everything else is the `vdc` command.
"""

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdc.condensed.dataset import CondensedClips

try:
    __version__ = version("vdcondense")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load"]


def load(path: str | Path, ipc: int | None = None) -> "CondensedClips":
    """A condensed set as a torch dataset of (clip (C, T_c, H, W) normalised float32, class).

    Args:
        path: folder of the condensed set.
        ipc: use only the first items of every class.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: a file of it changed.
    """
    from vdc.condensed.dataset import CondensedClips  # torch takes seconds to import: not for a mere version

    return CondensedClips(path, ipc)
