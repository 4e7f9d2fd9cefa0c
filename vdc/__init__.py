"""Condense videos: a few items per class that teach a network what the full set teaches.

`vdc.load("folder")` gives a condensed set as a torch dataset; data, methods, evaluation and report follow below,
imported when they are first asked for. What is not in `__all__` may change without notice.
"""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from vdc.condensed.dataset import CondensedClips
    from vdc.condensed.memory import Coded, MultiFormation, Pixels, StaticDynamic
    from vdc.data import RealData, ToyData
    from vdc.evaluate.evaluate import evaluate, evaluate_full
    from vdc.evaluate.relabel import relabel
    from vdc.methods import (
        CAD,
        CDA,
        DATM,
        DC,
        DM,
        DREAM,
        DSA,
        EDC,
        GVBSM,
        IDC,
        MTT,
        NCFM,
        RDED,
        Condenser,
        Confidence,
        FeatureMatching,
        FRePo,
        Herding,
        KCenter,
        Learner,
        Random,
        Selection,
        SRe2L,
        StaticDC,
    )
    from vdc.methods.condense import condense
    from vdc.nets.weights import Weights
    from vdc.report.report import report
    from vdc.spec import ClipSpec
    from vdc.train.protocol import Protocol
    from vdc.train.teacher import pretrain

try:
    __version__ = version("vdcondense")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"

__all__ = [
    "CAD",
    "CDA",
    "DATM",
    "DC",
    "DM",
    "DREAM",
    "DSA",
    "EDC",
    "GVBSM",
    "IDC",
    "MTT",
    "NCFM",
    "RDED",
    "ClipSpec",
    "Coded",
    "CondensedClips",
    "Condenser",
    "Confidence",
    "FRePo",
    "FeatureMatching",
    "Herding",
    "KCenter",
    "Learner",
    "MultiFormation",
    "Pixels",
    "Protocol",
    "Random",
    "RealData",
    "SRe2L",
    "Selection",
    "StaticDC",
    "StaticDynamic",
    "ToyData",
    "Weights",
    "__version__",
    "condense",
    "evaluate",
    "evaluate_full",
    "load",
    "pretrain",
    "relabel",
    "report",
]

_PLACES = {
    "vdc.spec": ("ClipSpec",),
    "vdc.data": ("RealData", "ToyData"),
    "vdc.condensed.dataset": ("CondensedClips",),
    "vdc.condensed.memory": ("Coded", "MultiFormation", "Pixels", "StaticDynamic"),
    "vdc.nets.weights": ("Weights",),
    "vdc.train.protocol": ("Protocol",),
    "vdc.train.teacher": ("pretrain",),
    "vdc.methods.condense": ("condense",),
    "vdc.evaluate.evaluate": ("evaluate_full",),
    "vdc.evaluate.relabel": ("relabel",),
}
_PACKAGES = ("evaluate", "report")  # packages that are called like their functions


def __getattr__(name: str) -> Any:
    """What is public, imported when it is first asked for: torch takes seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'vdc' has no attribute {name!r}")
    if name in _PACKAGES:
        return import_module(f"vdc.{name}")
    place = next((place for place, names in _PLACES.items() if name in names), "vdc.methods")
    return getattr(import_module(place), name)


def __dir__() -> list[str]:
    """Public names, also those not imported yet."""
    return sorted({*globals(), *__all__})


def load(
    path: str | Path,
    ipc: int | None = None,
    *,
    labels: Literal["hard", "soft", "views"] = "hard",
    transform: Callable[[Any], Any] | None = None,
    uint8: bool = False,
) -> "CondensedClips":
    """A condensed set as a torch dataset of (clip (C, T_c, H, W) normalised float32, class).

    Args:
        path: folder of the condensed set, or the run that made it.
        ipc: use only the first items of every class.
        labels: `hard` classes; `soft`, stored logits (K,); `views`, those of one augmented view per epoch, with the
            clip (C, T, H, W) as that view shows it.
        transform: of every clip, last.
        uint8: clips as frames (T, H, W, C) uint8 instead.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: a file of it changed, or it stores no such labels.
    """
    from vdc.condensed.dataset import CondensedClips  # torch takes seconds to import: not for a mere version

    return CondensedClips(path, ipc, labels, transform, uint8)
