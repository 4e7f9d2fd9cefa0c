"""Clips of labelled videos: which frames and which crop, drawn from nothing but (seed, row, draw)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vdc.data.index import Video
from vdc.data.sampler import Key
from vdc.data.store import Store
from vdc.ops.augment import centre_boxes, full_boxes, random_boxes
from vdc.ops.rng import generator
from vdc.ops.windows import frame_indices, max_start
from vdc.spec import RawBatch

Starts = Literal["random", "first", "spread"]
Boxes = Literal["random", "full", "centre", "mirrored"]
Short = Literal["dense", "loop"]


class VideoClips(Dataset[RawBatch]):
    """Clips of videos as workers send them: uint8, resized, not yet cropped.

    An item has m = `clips` clips of one video. Clip j of item (row, draw) is clip number draw * m + j of the
    video, and what is drawn for it depends on (seed, row, number) alone.

    Args:
        videos: of a split; `row` counts them.
        frames: frames of a clip.
        stride: raw frames from one sampled frame to the next.
        load_size: height and width that frames are resized to while decoding.
        size: side of the centre crop, in pixels of the resized frame.
        clips: clips m of one item.
        starts: `random` is uniform; `first` starts at the first frame; `spread` spaces the m starts evenly
            from the first possible to the last, and takes the middle if m is 1.
        boxes: crop boxes: `random` (with a flip coin), the whole frame, the centre, or `mirrored`: the centre
            with a flip coin.
        short_video: how a video shorter than frames * stride is sampled: `dense` lowers the stride, `loop`
            goes on at the first frame.
        seed: of everything drawn.
        store: decoded frames, which save opening the videos.
        crop_scale: area of random crops over that of the frame.
        flip: probability that a random crop, or a `mirrored` one, is mirrored.
        keep: positions of the frames of a clip that are taken; `None` takes all.
    """

    def __init__(
        self,
        videos: Sequence[Video],
        frames: int,
        stride: int,
        load_size: tuple[int, int],
        size: int,
        clips: int = 1,
        starts: Starts = "random",
        boxes: Boxes = "random",
        short_video: Short = "dense",
        seed: int = 0,
        store: Store | None = None,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: float = 0.5,
        keep: Sequence[int] | None = None,
    ) -> None:
        self.videos = videos
        self.frames = frames
        self.stride = stride
        self.size = size
        self.load_size, self.keep = load_size, range(frames) if keep is None else keep
        self.clips = clips
        self.starts = starts
        self.boxes = boxes
        self.short_video = short_video
        self.seed = seed
        self.store = store
        self.crop_scale = crop_scale
        self.flip = flip

    def __len__(self) -> int:
        """Videos."""
        return len(self.videos)

    def __getitem__(self, key: Key) -> RawBatch:
        """One item: the clips of one video."""
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[Key]) -> RawBatch:
        """Several items at once: what a DataLoader asks for.

        Raises:
            BadVideo: one of the videos cannot be decoded.
        """
        numbers = [range(draw * self.clips, (draw + 1) * self.clips) for _, draw in keys]
        frames, boxes = self.read([row for row, _ in keys], numbers)
        rows = torch.tensor([row for row, _ in keys])
        return RawBatch(frames, torch.tensor([self.videos[row].label for row, _ in keys]), rows, boxes)

    def read(self, rows: Sequence[int], numbers: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Clips by number, the same count m of every row.

        Returns:
            frames (N, m, T, H, W, C) uint8; boxes (N, m, 5).
        """
        pixels, boxes = [], []
        for row, wanted in zip(rows, numbers, strict=True):
            drawn = [generator(self.seed, "clip", row, number) for number in wanted]
            boxes += [self._box(rng) for rng in drawn]
            if self.store is None:
                reader = self.videos[row].open()
                pixels.append(reader.get(self._indices(len(reader), wanted, drawn), self.load_size))
            else:
                indices = self._indices(self.store.lengths[row], wanted, drawn)
                pixels.append(self.store.positions(row, indices))
        found = (
            torch.cat(pixels) if self.store is None else self.store.frames.index_select(0, torch.cat(pixels))
        )
        many = len(numbers[0])
        shape = (len(rows), many, len(self.keep), *self.load_size, 3)
        return found.view(shape), torch.cat(boxes).view(len(rows), many, 5)

    def needed(self, length: int) -> list[int]:
        """Frames of a video of some length that clips without random starts ask for."""
        return self._indices(length, range(self.clips), [])

    def _box(self, rng: torch.Generator) -> Tensor:
        """The crop box of a clip, (1, 5)."""
        height, width = self.load_size
        if self.boxes == "random":
            return random_boxes(1, height, width, rng, scale=self.crop_scale, flip=self.flip)
        if self.boxes == "full":
            return full_boxes(1, height, width)
        box = centre_boxes(1, height, width, min(self.size / min(height, width), 1))
        if self.boxes == "mirrored":
            box[:, 4] = torch.rand(1, generator=rng) < self.flip
        return box

    def _indices(self, length: int, numbers: Sequence[int], drawn: Sequence[torch.Generator]) -> list[int]:
        """Raw frames of some clips of a video, one clip after the other."""
        loops = self.short_video == "loop" and length < self.frames * self.stride
        last = max_start(length, self.frames, self.stride)
        if loops:
            last = max(length - 1 - (self.frames - 1) * self.stride, 0)
        indices = []
        for j, number in enumerate(numbers):
            start = 0
            if self.starts == "random":
                start = int(torch.randint(last + 1, (), generator=drawn[j]))
            elif self.starts == "spread":
                start = round(number % self.clips * last / (self.clips - 1)) if self.clips > 1 else last // 2
            if loops:
                clip = [(start + i * self.stride) % length for i in range(self.frames)]
            else:
                clip = frame_indices(length, self.frames, self.stride, start)
            indices += [clip[i] for i in self.keep]
        return indices


class ClipLoader(DataLoader[Any]):
    """A loader whose sampler begins where a checkpoint was written.

    The position is in Lightning's own progress counters; these methods tell it that they are used.
    """

    def state_dict(self) -> dict[str, Any]:
        """Nothing beside the counters."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing beside the counters."""


def whole(batch: Any) -> Any:
    """Collate nothing: `VideoClips` hands over whole batches."""
    return batch


class Steps(Dataset[Tensor]):
    """Numbers of steps, for methods that want no clips (Lightning skips a step whose batch is `None`).

    Args:
        n: steps.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        """Steps."""
        return self.n

    def __getitem__(self, key: Key) -> Tensor:
        """A step's number."""
        return torch.tensor(key[0])
