"""A condensed set as a plain dataset, for people who use nothing else of vdc."""

from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from vdc.condensed.format import load as load_set


class CondensedClips(Dataset[tuple[Tensor, int]]):
    """Pairs of a stored clip (C, T_c, H, W), float32 and normalised, and its class.

    Where a stored item renders as one of several clips, `memory.redraw(epoch)` draws others.

    Args:
        path: folder of the condensed set.
        ipc: use only the first items of every class.
    """

    def __init__(self, path: str | Path, ipc: int | None = None) -> None:
        condensed = load_set(path, ipc)
        self.classes = condensed.classes
        self.spec = condensed.spec
        self.labels = condensed.labels
        self.memory = condensed.memory()

    def __len__(self) -> int:
        """Clips."""
        return len(self.labels)

    @torch.no_grad()
    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        """One clip and its class; rows count from 0, class by class."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"clip {row} of {len(self)}")
        row %= len(self)
        return self.memory.render(torch.tensor([row]))[0][0], int(self.labels.hard[row])
