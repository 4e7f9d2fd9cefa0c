"""Versions of what makes a result: every artefact of a run says them."""

import platform
from importlib.metadata import PackageNotFoundError, version

import torch

PACKAGES = (
    "vdcondense",
    "torch",
    "torchvision",
    "lightning",
    "torchmetrics",
    "numpy",
    "safetensors",
    "av",
    "decord",
)
NAMES = {"vdcondense": "vdc"}  # distribution -> what it is called in artefacts


def versions() -> dict[str, str]:
    """Python, the device, and the packages that are installed."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    found = {"python": platform.python_version(), "device": device}
    for name in PACKAGES:
        try:
            found[NAMES.get(name, name)] = version(name)
        except PackageNotFoundError:
            continue
    return found
