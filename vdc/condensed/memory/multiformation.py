"""MultiFormation: several smaller, shorter clips in the bytes of one item."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vdc.condensed.memory.pixels import Pixels
from vdc.ops.augment import full_boxes, resized_crop
from vdc.ops.pixels import to_clips, to_frames
from vdc.ops.windows import interpolate
from vdc.spec import ClipSpec

GREY = 128  # level of what lies beyond a frame that the factor does not divide


class MultiFormation(Pixels):
    """Items cut into factor x factor tiles, and time_factor segments; each is enlarged to a clip of its own.

    Kim 2022 (IDC, sec. 3.3) for stills, snu-mllab/Efficient-Dataset-Condensation:condense.py; here every
    frame of an item has the same layout. Where the factor does not divide the side, the last tiles are grey
    beyond it; a segment that time does not fill repeats the last frame. Tiles are numbered by segment, row,
    column.

    Args:
        num_classes: K.
        ipc: items per class.
        spec: shapes of the stored and seen clips.
        factor: tiles per side.
        time_factor: segments of the stored frames.
        order: of a class's clip rows while it learns. `image`: all tiles of an item, then the next item, so
            that a prefix of rows is a prefix of items. `crop`: the first tile of all items, then the second,
            as in the code of IDC and MDC, where that prefix holds tiles of several items. Stored sets are
            read as `image`.
    """

    def __init__(
        self,
        num_classes: int,
        ipc: int,
        spec: ClipSpec,
        factor: int = 2,
        time_factor: int = 1,
        order: Literal["image", "crop"] = "image",
    ) -> None:
        for name, parts, length in (("factor", factor, spec.size), ("time_factor", time_factor, spec.stored)):
            if parts < 1 or (parts - 1) * -(-length // parts) >= length:
                raise ValueError(
                    f"memory.{name} {parts} leaves tiles without pixels of {length}: choose another"
                )
        if order not in ("image", "crop"):
            raise ValueError(f"memory.order must be image or crop, got {order!r}")
        super().__init__(num_classes, ipc, spec)
        self.factor = factor
        self.time_factor = time_factor
        self.order = order
        self.per_item = factor * factor * time_factor

    @property
    def tile(self) -> tuple[int, int]:
        """Frames and side of a tile."""
        return -(-self.spec.stored // self.time_factor), -(-self.spec.size // self.factor)

    def learn_labels(self, logits: Tensor) -> None:
        """Make labels learnable, starting at `logits` (rows, K)."""
        if self.order == "crop":
            raise ValueError("memory.order crop has hard labels only: they are stored in the order of items")
        super().learn_labels(logits)

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Item 0..K * ipc - 1 and tile 0..per_item - 1 of clip rows (N,)."""
        if self.order == "image":
            return rows // self.per_item, rows % self.per_item
        label, within = rows // self.init_clips_per_class, rows % self.init_clips_per_class
        return label * self.ipc + within % self.ipc, within // self.ipc

    def clips(self, rows: Tensor) -> Tensor:
        """Clips of `rows`, (N, C, T_c, H, W) normalised."""
        items, tiles = self.places(rows)
        wanted, place = torch.unique(items, return_inverse=True)
        if self.frames is None:
            clips = self._cut(self.videos[wanted], place, tiles)
        else:
            clips = to_clips(self._cut(self.frames[wanted].movedim(-1, 1), place, tiles).movedim(1, -1))
        return self._resized(clips, self.spec.stored, self.spec.size)

    def _cut(self, items: Tensor, place: Tensor, tiles: Tensor) -> Tensor:
        """Tiles (N, C, t, s, s) number `tiles` (N,) of items[place], of whole items (M, C, T_c, H, W)."""
        (frames, side), f = self.tile, self.factor
        short = frames * self.time_factor - self.spec.stored
        if short:
            items = torch.cat([items, items[:, :, -1:].expand(-1, -1, short, -1, -1)], 2)
        if beyond := side * f - self.spec.size:
            items = self._edged(items, beyond)
        parts = items.view(*items.shape[:2], self.time_factor, frames, f, side, f, side)
        parts = parts.permute(0, 2, 4, 6, 1, 3, 5, 7)  # (M, segments, rows, columns, C, t, s, s)
        return parts[place, tiles // (f * f), tiles // f % f, tiles % f]

    def _edged(self, items: Tensor, beyond: int) -> Tensor:
        """Items with `beyond` grey pixels added right and below."""
        if not items.is_floating_point():
            return F.pad(items, (0, beyond, 0, beyond), value=GREY)
        grey = torch.lerp(self.low, self.high, GREY / 255)
        return F.pad(items - grey, (0, beyond, 0, beyond)) + grey

    def _resized(self, clips: Tensor, frames: int, side: int) -> Tensor:
        """Clips with that many frames (linear) and that side (antialiased bilinear)."""
        if clips.shape[-1] != side:
            clips = resized_crop(clips, full_boxes(len(clips), *clips.shape[-2:]), side)
        return interpolate(clips, frames, "linear")

    def as_stored(self, clips: Tensor) -> Tensor:
        """Real clips (n, C, T_c, H, W) shrunk, rounded to grey levels, and enlarged again."""
        small = to_clips(to_frames(self._resized(clips, *self.tile)))
        return self._resized(small, self.spec.stored, self.spec.size)

    @torch.no_grad()
    def initialise(self, clips: Tensor) -> None:
        """Shrink clips (K, n, C, T_c, H, W), normalised, in the order of clip rows, each into its tile.

        Raises:
            ValueError: the clips have another shape.
        """
        wanted = (self.num_classes, self.init_clips_per_class, *self.videos.shape[1:])
        if clips.shape != wanted:
            raise ValueError(
                f"memory of (K, init_clips_per_class, C, T, H, W) {wanted} cannot start from {tuple(clips.shape)}"
            )
        (frames, side), f = self.tile, self.factor
        items, tiles = self.places(torch.arange(len(self)))
        flat = clips.flatten(0, 1)
        for row, (item, tile) in enumerate(zip(items.tolist(), tiles.tolist(), strict=True)):
            segment, y, x = tile // (f * f), tile // f % f, tile % f
            cell = self.videos[item]
            for axis, (at, length) in enumerate(((segment, frames), (y, side), (x, side)), 1):
                cell = cell.narrow(axis, at * length, min(length, cell.shape[axis] - at * length))
            small = self._resized(flat[row : row + 1], frames, side)[0]
            cell.copy_(small[:, : cell.shape[1], : cell.shape[2], : cell.shape[3]])

    def options(self) -> dict[str, object]:
        """The layout."""
        return {"factor": self.factor, "time_factor": self.time_factor}
