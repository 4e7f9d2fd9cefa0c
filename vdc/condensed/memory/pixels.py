"""Pixels: the memory that stores every frame of every item."""

from typing import Self

import torch
from torch import Tensor, nn

from vdc.condensed.memory.base import Memory
from vdc.ops.pixels import to_clips, to_frames, valid_range
from vdc.spec import ClipSpec

CHUNK = 64  # items converted at a time, so that storing a large set needs no second float copy of it


class Pixels(Memory):
    """T_c frames per item, learnt pixel by pixel and stored as uint8.

    While it learns, `videos` holds normalised float pixels. A restored memory holds the stored uint8 `frames`
    instead and nothing learnable: a set resident on a device takes exactly its stored bytes there.

    Args:
        num_classes: K.
        ipc: items per class.
        spec: shapes of the stored and seen clips.
    """

    videos: nn.Parameter  # (K * ipc, C, T_c, H, W) normalised; absent from a restored memory
    frames: Tensor | None  # (K * ipc, T_c, H, W, C) uint8; only in a restored memory
    low: Tensor  # (C, 1, 1, 1), normalised black
    high: Tensor  # (C, 1, 1, 1), normalised white

    def __init__(self, num_classes: int, ipc: int, spec: ClipSpec) -> None:
        super().__init__(num_classes, ipc, spec)
        self.videos = nn.Parameter(torch.zeros(num_classes * ipc, 3, spec.stored, spec.size, spec.size))
        self.register_buffer("frames", None, persistent=False)
        with torch.device("cpu"):  # also where `restore` builds the rest on the meta device
            low, high = valid_range(torch.device("cpu"))
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("high", high, persistent=False)

    def clips(self, rows: Tensor) -> Tensor:
        """Clips of `rows`, (N, C, T_c, H, W) normalised."""
        if self.frames is not None:
            return to_clips(self.frames[rows])
        return self.videos[rows]

    @torch.no_grad()
    def initialise(self, clips: Tensor) -> None:
        """Start from clips (K, ipc, C, T_c, H, W), normalised.

        Raises:
            ValueError: the clips have another shape.
        """
        wanted = (self.num_classes, self.ipc, *self.videos.shape[1:])
        if clips.shape != wanted:
            raise ValueError(
                f"memory of (K, ipc, C, T, H, W) {wanted} cannot start from {tuple(clips.shape)}"
            )
        self.videos.copy_(clips.flatten(0, 1))

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring the pixels back between black and white, in place."""
        self.videos.clamp_(self.low, self.high)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """`videos`: (K * ipc, T_c, H, W, C) uint8 on the host, rounded to the nearest grey level."""
        if self.frames is not None:
            return {"videos": self.frames.cpu()}
        parts = (self.videos[i : i + CHUNK] for i in range(0, len(self.videos), CHUNK))
        return {"videos": torch.cat([to_frames(part).cpu() for part in parts])}

    @classmethod
    def restore(
        cls, state: dict[str, Tensor], num_classes: int, ipc: int, spec: ClipSpec, **options: object
    ) -> Self:
        """A memory that renders exactly the stored frames, converted row by row when asked for.

        Raises:
            ValueError: the frames are not of the shape and type that `num_classes`, `ipc` and `spec` tell.
        """
        frames, wanted = state["videos"], (num_classes * ipc, spec.stored, spec.size, spec.size, 3)
        if frames.shape != wanted or frames.dtype != torch.uint8:
            found = f"{tuple(frames.shape)} {frames.dtype}"
            raise ValueError(f"stored videos are {found}, expected {wanted} torch.uint8")
        with torch.device("meta"):  # the float parameter would be four times the stored set
            memory = cls(num_classes, ipc, spec, **options)
        memory.register_parameter("videos", None)
        memory.register_buffer("frames", frames, persistent=False)
        return memory

    @property
    def nbytes(self) -> int:
        """Exact bytes of `state()`: one per stored value."""
        return (self.videos if self.frames is None else self.frames).numel()
