"""The embedded default: ten classes told apart by motion only, written as real mp4 files in seconds.

Every object's position, size and orientation has the same law at every instant in every class (uniform over a
field that wraps around, log-uniform, uniform), so that one frame tells nothing and a few tell all. A mirrored
clip keeps its class, because resized crop + flip is how networks train. Train and test share motions only:
objects have an odd or an even number of lobes, stripes or checks, and hues of disjoint sectors.
"""

import colorsys
import errno
import math
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import cpu_count
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

from vdc.data.real import RealData
from vdc.ops.rng import generator
from vdc.spec import ClipSpec
from vdc.system.files import fresh_dir, read_json, write_json
from vdc.system.mp4 import write_mp4
from vdc.system.progress import track

CLASSES = ("up", "down", "sideways", "spin", "grow", "shrink", "pulse", "shake", "nod", "orbit")
SPLITS = ("train", "test")
MANIFEST = "toy.json"
VERSION = 3  # of drawing and encoding: another one makes an old set be drawn again
OBJECTS = 3
SMALLEST, LARGEST = 0.14, 0.32  # radius of an object, in widths of the field
SPRITE = 32  # pixels an object is drawn at before it is moved
FPS = 16
SPEC = ClipSpec(frames=8, size=48, stride=4)  # eight frames span a video
BYTES_PER_PIXEL = 0.25  # of a frame, encoded; half of that was measured


def uniform(low: float, high: float, rng: Generator) -> float:
    """A uniform number in [low, high)."""
    return torch.rand((), generator=rng).item() * (high - low) + low


def tracks(label: int, frames: int, rng: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """How the objects of one clip move.

    Args:
        label: the class.
        frames: T.
        rng: of everything random.

    Returns:
        centre (objects, T, 2), x and y in [0, 1); level (objects, T) of log-size, in [0, 1]; angle (objects,
        T) in radians. Each is uniform at every instant, whatever the class.
    """
    time = torch.arange(frames, dtype=torch.float32)
    centre = torch.rand(OBJECTS, 1, 2, generator=rng).repeat(1, frames, 1)
    level = torch.rand(OBJECTS, 1, generator=rng).repeat(1, frames)
    angle = (2 * math.pi * torch.rand(OBJECTS, 1, generator=rng)).repeat(1, frames)
    side = 1 if uniform(0, 1, rng) < 0.5 else -1  # mirror images are one class
    time = time * uniform(0.8, 1.25, rng)  # pace
    swing = 2 * math.pi * (time / 15 + torch.rand(OBJECTS, 1, generator=rng))
    match CLASSES[label]:
        case "up":
            centre[..., 1] -= 0.027 * time
        case "down":
            centre[..., 1] += 0.027 * time
        case "sideways":
            centre[..., 0] += 0.027 * time * side
        case "spin":
            angle += 0.13 * time * side
        case "grow":
            level = (level + time / 35) % 1
        case "shrink":
            level = (level - time / 35) % 1
        case "pulse":
            level = 1 - (1 - 2 * (level + time / 15) % 2).abs()  # there and back
        case "shake":
            centre[..., 0] += 0.13 * swing.sin()
        case "nod":
            centre[..., 1] += 0.13 * swing.sin()
        case "orbit":
            centre += 0.13 * torch.stack([side * swing.cos(), swing.sin()], -1)
    return centre % 1, level, angle


def colour(split: str, rng: Generator) -> Tensor:
    """A bright colour (3,) in [0, 1], of hues that the other split never shows."""
    hue = (2 * int(uniform(0, 3, rng)) + uniform(0, 1, rng) + SPLITS.index(split)) / 6
    return torch.tensor(colorsys.hsv_to_rgb(hue, uniform(0, 0.6, rng), uniform(0.75, 1, rng)))


def sprite(split: str, rng: Generator) -> Tensor:
    """An object: colour and opacity (4, SPRITE, SPRITE) in [0, 1], a lobed shape with stripes or checks."""
    y, x = torch.meshgrid(*2 * [torch.linspace(-1, 1, SPRITE)], indexing="ij")
    lobes = 2 * int(uniform(1, 3, rng)) + (split == "train")  # 3 or 5; 2 or 4
    edge = 0.95 - uniform(0.3, 0.6, rng) * (0.5 - 0.5 * torch.cos(lobes * torch.atan2(y, x)))
    turn, pitch = uniform(0, math.pi, rng), uniform(4, 8, rng)
    wave = torch.sin(pitch * (x * math.cos(turn) + y * math.sin(turn)) + uniform(0, 6, rng))
    if split == "test":
        wave = wave * torch.sin(pitch * (y * math.cos(turn) - x * math.sin(turn)))
    first, second = colour(split, rng).view(3, 1, 1), colour(split, rng).view(3, 1, 1)
    blend = (0.5 + 2 * wave).clamp(0, 1)
    opacity = (0.5 + SPRITE / 4 * (edge - torch.hypot(x, y))).clamp(0, 1)
    return torch.cat([first + (second - first) * blend, opacity[None]])


def background(size: int, split: str, rng: Generator) -> Tensor:
    """A plain dark colour (3, size, size) in [0, 1]: a texture would keep a small network from learning in minutes."""
    return (colour(split, rng) * uniform(0, 0.25, rng)).view(3, 1, 1).expand(-1, size, size)


def draw(label: int, split: str, number: int, frames: int = 32, size: int = 64, seed: int = 0) -> Tensor:
    """One clip, (T, H, W, C) uint8: a function of its arguments.

    Args:
        label: the class.
        split: `train` or `test`.
        number: of the clip in its class and split.
        frames: T.
        size: height and width.
        seed: of the set.
    """
    rng = generator(seed, "toy", split, label, number)
    centre, level, angle = tracks(label, frames, rng)
    film = background(size, split, rng).expand(frames, -1, -1, -1)
    pixel = (torch.arange(size) + 0.5) / size
    for i in range(OBJECTS):
        dx = (pixel[None, None, :] - centre[i, :, None, None, 0] + 0.5) % 1 - 0.5  # the field wraps around
        dy = (pixel[None, :, None] - centre[i, :, None, None, 1] + 0.5) % 1 - 0.5
        cos, sin = angle[i].cos()[:, None, None], angle[i].sin()[:, None, None]
        radius = (SMALLEST * (LARGEST / SMALLEST) ** level[i])[:, None, None]
        where = (
            torch.stack([cos * dx + sin * dy, cos * dy - sin * dx], -1) / radius[..., None]
        )  # (T, H, W, 2)
        shown = grid_sample(sprite(split, rng).expand(frames, -1, -1, -1), where, align_corners=False)
        film = film + (shown[:, :3] - film) * shown[:, 3:]
    return film.mul(255).round().to(torch.uint8).movedim(1, -1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch inside each of our threads must not start threads of its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(root: Path, clips: list[tuple[int, str, int]], frames: int, size: int, seed: int) -> None:
    """Draw and encode `clips` (label, split, number) below `root`, in parallel."""

    def one(clip: tuple[int, str, int]) -> None:
        label, split, number = clip
        film = draw(label, split, number, frames, size, seed)
        write_mp4(root / split / CLASSES[label] / f"{number:04d}.mp4", film, FPS, gop=8)

    pool = ThreadPoolExecutor(cpu_count())
    with _one_thread_each():
        try:
            for _ in track(pool.map(one, clips), "toy videos", len(clips), unit="videos"):
                pass
        finally:
            pool.shutdown(cancel_futures=True)


def make_toy(
    root: str | Path,
    train_videos: int = 40,
    test_videos: int = 20,
    frames: int = 32,
    size: int = 64,
    seed: int = 0,
) -> Path:
    """Write the toy set, whole or not at all, unless `root` holds it already.

    `<split>/<class>/<number>.mp4`, lists `train.txt` and `test.txt` of `path label`, and `toy.json`.

    Args:
        root: its folder.
        train_videos: training videos per class.
        test_videos: test videos per class.
        frames: frames of a video.
        size: height and width in pixels.
        seed: of everything drawn.

    Raises:
        ValueError: `root` holds other files.
        OSError: the disk lacks the room.
    """
    root = Path(root).resolve()
    counts = {"train": train_videos, "test": test_videos}
    made = {
        "version": VERSION,
        "classes": list(CLASSES),
        "videos": counts,
        "frames": frames,
        "size": size,
        "seed": seed,
    }
    if (root / MANIFEST).is_file():
        if read_json(root / MANIFEST) == made:
            return root
    elif root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ValueError(f"--data.root {root} holds other files: the toy set needs a folder of its own")
    clips = [(k, split, n) for split in SPLITS for k in range(len(CLASSES)) for n in range(counts[split])]
    root.parent.mkdir(parents=True, exist_ok=True)
    needed = int(len(clips) * frames * size * size * BYTES_PER_PIXEL)
    if (free := shutil.disk_usage(root.parent).free) < needed:
        raise OSError(
            errno.ENOSPC,
            f"the toy set needs {needed / 1e6:.2f} MB at {root.parent}, which has {free / 1e6:.2f} MB free",
        )
    with fresh_dir(root) as folder:
        for split in SPLITS:
            for name in CLASSES:
                (folder / split / name).mkdir(parents=True)
            lines = [f"{split}/{CLASSES[k]}/{n:04d}.mp4 {k}\n" for k, s, n in clips if s == split]
            (folder / f"{split}.txt").write_text("".join(lines))
        _write(folder, clips, frames, size, seed)
        write_json(folder / MANIFEST, made)
    return root


class ToyData(RealData):
    """The built-in toy videos, written on first use; everything else is as for videos of your own.

    Args:
        root: folder they are written to.
        spec: shapes of stored and seen clips.
        train_videos: training videos per class.
        test_videos: test videos per class.
        video_seed: of everything drawn in them.
        kwargs: see `RealData`.
    """

    def __init__(
        self,
        root: str = "runs/toy",
        spec: ClipSpec = SPEC,
        train_videos: int = 40,
        test_videos: int = 20,
        video_seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(root=root, train="train.txt", test="test.txt", format="list", spec=spec, **kwargs)
        self.train_videos = train_videos
        self.test_videos = test_videos
        self.video_seed = video_seed

    @property
    def classes(self) -> list[str]:
        """Class names in label order, known before the videos are there."""
        return list(CLASSES) if self.keep is None else sorted(set(self.keep))

    def prepare_data(self) -> None:
        """Write the videos, unless they are there."""
        make_toy(self.root, self.train_videos, self.test_videos, seed=self.video_seed)
