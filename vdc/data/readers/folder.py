"""Frames of a video that is a folder of numbered images."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdc.data.readers.base import BadVideo, Reader, naming

IMAGES = frozenset((".jpg", ".jpeg", ".png"))


class FrameFolder(Reader):
    """A reader of a folder of images, one per frame, in the order of the numbers in their names.

    Images named `flow*` (optical flow beside RGB) and hidden ones are left out.

    Args:
        path: the folder.
        frames: how many of its images to use; `None` uses all.
    """

    def __init__(self, path: str, frames: int | None = None) -> None:
        self.path = path
        try:
            found = [entry for entry in Path(path).iterdir() if entry.suffix.lower() in IMAGES]
        except OSError as error:
            raise BadVideo(f"{path}: cannot be read: {error.strerror}") from error
        shown = (entry for entry in found if not entry.name.startswith((".", "flow")))
        images = sorted(shown, key=lambda entry: _numbers(entry.name))
        if len(images) < (frames or 1):
            raise BadVideo(f"{path}: holds {len(images)} images, expected {frames or 'some'}")
        self._images = images[:frames]

    def __len__(self) -> int:
        """See `Reader`."""
        return len(self._images)

    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """See `Reader`."""
        pixels = {i: self._pixels(self._images[i], size) for i in set(indices)}
        try:
            return torch.from_numpy(np.stack([pixels[i] for i in indices]))
        except ValueError as error:
            raise BadVideo(f"{self.path}: images of different sizes") from error

    def _pixels(self, path: Path, size: tuple[int, int] | None) -> np.ndarray:
        """RGB of an image, (H, W, C) uint8."""
        with naming(path), Image.open(path) as image:
            rgb = image.convert("RGB")
            return np.asarray(
                rgb if size is None else rgb.resize((size[1], size[0]), Image.Resampling.BILINEAR)
            )

    def check(self) -> None:
        """See `Reader`."""
        for image in self._images:
            self._pixels(image, None)


def _numbers(name: str) -> list[tuple[int, str]]:
    """A sort key that puts `img_2` before `img_10`; a number of any length is compared by its digits."""
    parts = re.split(r"([0-9]+)", name)
    return [(len(p.lstrip("0")) + 1, p.lstrip("0")) if k % 2 else (0, p) for k, p in enumerate(parts)]
