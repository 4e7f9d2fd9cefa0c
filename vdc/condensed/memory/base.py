"""What a memory promises: it stores items of a condensed set, and renders them as clips."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from vdc.ops.pixels import to_clips, to_frames
from vdc.spec import ClipSpec

SHARED = "shared."  # how stored tensors that belong to no item are named, e.g. a decoder's


class Memory(nn.Module, ABC):
    """The learnt part of a condensed set.

    An item may render several clips (packing), so everything below counts *clip rows*, class-major and item-major:
    clip j of item i of class k is row `(k * ipc + i) * per_item + j`. A prefix of every class is a smaller set.

    Args:
        num_classes: K.
        ipc: items per class.
        spec: shapes of the stored and seen clips.
    """

    per_item: int = 1  # clips one item renders
    any_length: ClassVar[bool] = False  # `initialise` takes clips of any number of frames
    shared: ClassVar[bool] = False  # items share learnt parts, so that no block of them is learnt alone

    def __init__(self, num_classes: int, ipc: int, spec: ClipSpec) -> None:
        super().__init__()
        if ipc < 1:
            raise ValueError(f"ipc must be at least 1, got {ipc}")
        self.num_classes = num_classes
        self.ipc = ipc
        self.spec = spec
        self.logits: nn.Parameter | None = None  # (rows, K) learnable soft labels, see `learn_labels`

    def __len__(self) -> int:
        return self.num_classes * self.ipc * self.per_item

    @property
    def init_clips_per_class(self) -> int:
        """Real clips per class that `initialise` takes."""
        return self.ipc * self.per_item

    @property
    def variants(self) -> int:
        """Different clips that a row renders as, one at a time; see `redraw`."""
        return 1

    def redraw(self, seed: int) -> None:
        """Let what rendering and `initialise` leave to chance follow from `seed`, until the next call."""

    @property
    def labels(self) -> Tensor:
        """Class of every clip row, (rows,) int64."""
        return torch.arange(self.num_classes).repeat_interleave(self.ipc * self.per_item)

    def prefix(self, items: int) -> Tensor:
        """Clip rows of the first `items` items of every class, class-major."""
        rows = torch.arange(len(self)).view(self.num_classes, self.ipc * self.per_item)
        return rows[:, : items * self.per_item].reshape(-1)

    def learn_labels(self, logits: Tensor) -> None:
        """Make labels learnable, starting at `logits` (rows, K)."""
        self.logits = nn.Parameter(logits.detach().clone().float())

    def render(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Clips of `rows` (N,) int64, differentiable in the parameters.

        Returns:
            clips (N, C, T_c, H, W), normalised; labels (N,) int64, or (N, K) logits where labels are learnt.
        """
        labels = rows // (self.ipc * self.per_item) if self.logits is None else self.logits[rows]
        return self.clips(rows), labels

    @abstractmethod
    def clips(self, rows: Tensor) -> Tensor:
        """Clips of `rows`, (N, C, T_c, H, W)."""

    def as_stored(self, clips: Tensor) -> Tensor:
        """Real clips (n, C, T_c, H, W) as they would look once stored; the memory itself stays as it is."""
        return to_clips(to_frames(clips))

    def groups(self) -> list[dict[str, Any]]:
        """What is learnt, but for labels, as parameter groups of an optimiser."""
        return [{"params": [p for p in self.parameters() if p is not self.logits]}]

    def curves(self) -> dict[str, Tensor]:
        """Numbers worth a curve while the memory learns."""
        return {}

    @abstractmethod
    def initialise(self, clips: Tensor) -> None:
        """Fill the memory from clips (K, init_clips_per_class, C, T_c, H, W), normalised."""

    @abstractmethod
    def clamp(self) -> None:
        """Bring stored pixels back into the displayable range, in place."""

    @abstractmethod
    def state(self) -> dict[str, Tensor]:
        """The tensors to store, at the precision they are stored in.

        Their first axis is K * ipc, class-major, except of those named `shared.*`.
        """

    @classmethod
    @abstractmethod
    def restore(
        cls, state: dict[str, Tensor], num_classes: int, ipc: int, spec: ClipSpec, **options: object
    ) -> Self:
        """A memory that renders exactly what `state` holds (stored precision, nothing learnable)."""

    def options(self) -> dict[str, object]:
        """Constructor arguments beyond (num_classes, ipc, spec), for the manifest."""
        return {}

    @property
    def nbytes(self) -> int:
        """Exact bytes of `state()`."""
        return sum(t.numel() * t.element_size() for t in self.state().values())
