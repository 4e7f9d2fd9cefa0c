"""A condensed set as a plain dataset, for people who use nothing else of vdc."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vdc.condensed.format import load as load_set
from vdc.condensed.views import dense, look, stored_view
from vdc.ops.pixels import to_frames
from vdc.ops.rng import derive, generator

Kind = Literal["hard", "soft", "views"]


class CondensedClips(Dataset[tuple[Any, Any]]):
    """Pairs of a clip and its label.

    A clip is (C, T_c, H, W), float32 and normalised, as stored; with `labels="views"` it is (C, T, H, W), cut and
    cropped as the view of the epoch was when a teacher labelled it. Where a stored item renders as one of several
    clips, `memory.redraw(epoch)` draws others.

    Args:
        path: folder of the condensed set.
        ipc: use only the first items of every class.
        labels: `hard` gives classes (int); `soft` the stored logits of the clip, (K,) float32; `views` those of the
            view of the epoch, one of V, drawn when asked for: see `set_epoch`.
        transform: of every clip, last.
        uint8: clips as frames (T, H, W, C) uint8, as a decoder gives them, in place of normalised floats.

    Raises:
        FileNotFoundError: no condensed set there.
        ValueError: a file of it changed, or it stores no such labels.
    """

    def __init__(
        self,
        path: str | Path,
        ipc: int | None = None,
        labels: Kind = "hard",
        transform: Callable[[Tensor], Any] | None = None,
        uint8: bool = False,
    ) -> None:
        condensed = load_set(path, ipc)
        if labels not in ("hard", "soft", "views"):
            raise ValueError(f"labels {labels!r}: hard, soft or views are expected")
        if getattr(condensed.labels, labels) is None:
            raise ValueError(
                f"{path} stores no {labels} labels: make them with "
                f"`vdc relabel --condensed {path} --labels {labels} --teacher DIR`"
            )
        if labels == "views" and condensed.spec.interpolation == "parametric":
            raise ValueError(
                f"{path} is stretched by a trained network: its views are seen by `vdc evaluate` alone"
            )
        self.path = condensed.path
        self.manifest = condensed.manifest
        self.nbytes = condensed.nbytes
        self.classes = condensed.classes
        self.spec = condensed.spec
        self.labels = condensed.labels
        self.memory = condensed.memory().requires_grad_(False)
        self.kind, self.transform, self.uint8 = labels, transform, uint8
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Show another view: V epochs see all V, in the order of an evaluation of seed 0; of `views` labels only.

        Args:
            epoch: from 0.
        """
        views = self.labels.views
        if self.kind != "views" or views is None:
            return
        turn, place = divmod(epoch, views.logits.shape[1])
        order = torch.randperm(views.logits.shape[1], generator=generator(0, "views", turn))
        self.view = int(order[place])
        self.memory.redraw(derive(views.seed, "memory", self.view))
        self._seen = stored_view(views.recipe, self.spec, views.seed, self.view).of(views.rows.long())

    def as_dataloader(self, batch_size: int = 16, shuffle: bool = True, **options: Any) -> "Epochs":
        """A loader in another order, and of another view, at every pass; the same ones in every run.

        Args:
            batch_size: clips.
            shuffle: in another order at every pass.
            options: of torch's DataLoader.
        """
        return Epochs(
            self, batch_size, shuffle=shuffle, generator=torch.Generator().manual_seed(0), **options
        )

    def __repr__(self) -> str:
        k, ipc, size = len(self.classes), self.manifest["ipc"], self.spec.size
        clips = f"{len(self)} clips of {self.spec.stored} x {size} x {size}"
        return (
            f"CondensedClips({str(self.path)!r}: {self.manifest['method']}, {k} classes x {ipc} = {k * ipc} items, "
            f"{clips}, {self.kind} labels ({self.labels.kind} stored), "
            f"{sum(self.nbytes.values()):,} bytes)"
        )

    def __len__(self) -> int:
        """Clips."""
        return len(self.labels)

    @torch.no_grad()
    def __getitem__(self, row: int) -> tuple[Any, Any]:
        """One clip and its label; rows count from 0, class by class."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"clip {row} of {len(self)}")
        rows = torch.tensor([row % len(self)])
        clips = self.memory.clips(rows)
        if self.kind == "views":
            clips = look(clips, self.spec, self._seen.of(rows))
        clip = (to_frames(clips) if self.uint8 else clips)[0]
        return clip if self.transform is None else self.transform(clip), self._label(rows)

    def _label(self, rows: Tensor) -> int | Tensor:
        """The label of a row, (1,)."""
        if self.kind == "soft" and self.labels.soft is not None:
            return self.labels.soft[rows][0].float()
        if self.kind == "views" and (views := self.labels.views) is not None:
            return dense(views.logits[rows, self.view], views.index[rows, self.view], len(self.classes))[0]
        return int(self.labels.hard[rows])


class Epochs(DataLoader[tuple[Any, Any]]):
    """A loader of a condensed set whose n-th pass shows epoch n."""

    epoch = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch's own type of it is private
        """One pass, of the epoch that `epoch` says."""
        assert isinstance(self.dataset, CondensedClips)
        self.dataset.set_epoch(self.epoch)
        self.epoch += 1
        return super().__iter__()
