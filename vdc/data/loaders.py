"""What runs over clips of real videos: loaders whose samplers know their processes, and begin where a run was left."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from vdc.data.clips import ClipLoader, Steps, VideoClips, whole
from vdc.data.sampler import EveryClip, Key, Keys, PerClass, Shuffled
from vdc.ops.rng import generator

COUNTS = ("batch_size", "per_class", "test_clips", "candidates")
Kind = Literal["shuffled", "per_class", "every_clip", "none"]


class Trained(Protocol):
    """What a module that trains on real videos says of the clips it wants."""

    batches: (
        Kind  # random clips in random order; as many of each class; all candidates; numbers of steps only
    )


class Chooser(Trained, Protocol):
    """A module of `every_clip` batches."""

    def wanted(self, labels: Tensor) -> Tensor:
        """Rows of the training split worth decoding, of the split's labels (n,)."""


class Ranks(NamedTuple):
    """Which process this is, and how many there are."""

    rank: int = 0
    world: int = 1


def check_options(
    counts: Sequence[int], crop_scale: tuple[float, float], flip: float, val_share: float, cache_gb: float
) -> None:
    """Refuse numbers of a data module that make no sense.

    Args:
        counts: `COUNTS`, which must be at least 1.
        crop_scale: see `vdc.data.RealData`, as the others.
        flip: a probability.
        val_share: a share.
        cache_gb: a size.

    Raises:
        ValueError: the first, with its flag.
    """
    for name, count in zip(COUNTS, counts, strict=True):
        if count < 1:
            raise ValueError(f"--data.{name} must be at least 1, got {count}")
    if not 0 < crop_scale[0] <= crop_scale[1] <= 1 or not 0 <= flip <= 1:
        raise ValueError(
            f"--data.crop_scale must rise within 0..1 and --data.flip lie in it: {crop_scale}, {flip}"
        )
    if not 0 <= val_share < 1:
        raise ValueError(f"--data.val_share must be in [0, 1), got {val_share}")
    if not 0 < cache_gb < 1e9:
        raise ValueError(f"--data.cache_gb must be positive, got {cache_gb}")


def clip_loader(clips: VideoClips, keys: Keys | list[Key], batch_size: int, workers: int) -> ClipLoader:
    """Workers that open videos themselves, and hand over whole `RawBatch`es."""
    return ClipLoader(
        clips,
        batch_size,
        sampler=keys,
        num_workers=workers,
        collate_fn=whole,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # or the loader would draw from the global one
    )


def shuffled(clips: VideoClips, seed: int, ranks: Ranks, batch_size: int, workers: int) -> ClipLoader:
    """A random clip of every video, in random order: this process's share."""
    return clip_loader(clips, Shuffled(len(clips), seed, *ranks), batch_size, workers)


def whole_videos(
    clips: VideoClips, rows: Sequence[int] | None, ranks: Ranks, batch_size: int, workers: int
) -> ClipLoader:
    """All clips of a video in one batch, with as many further videos as fit: this process's share.

    Args:
        clips: several of each video.
        rows: only these videos.
        ranks: which process this is.
        batch_size: clips per batch, at least those of one video.
        workers: decoding processes.
    """
    keys = EveryClip(len(clips) if rows is None else rows, *ranks)
    return clip_loader(clips, keys, max(batch_size // clips.clips, 1), workers)


def per_class(clips: VideoClips, n: int, seed: int, ranks: Ranks, steps: int, workers: int) -> ClipLoader:
    """`n` random clips of every class in each of so many steps: this process's share."""
    labels = torch.tensor([video.label for video in clips.videos])
    keys = PerClass(labels, n, None, seed, *ranks, steps=steps)
    return clip_loader(clips, keys, keys.step_size, workers)


def batches_left(trainer: Trainer | None) -> int | None:
    """Batches until the trainer's last step, `None` where it counts epochs."""
    if trainer is None or trainer.max_steps <= 0:
        return None
    return trainer.max_steps * trainer.accumulate_grad_batches


def steps(trainer: Trainer | None) -> ClipLoader:
    """Numbers of the steps until the trainer's last, no clips.

    Raises:
        ValueError: there is no last step.
    """
    count = batches_left(trainer)
    if count is None:
        raise ValueError("this method has no epochs: set --trainer.max_steps")
    return ClipLoader(Steps(count), batch_size=None, sampler=EveryClip(count))


def random_videos(
    labels: Tensor, per_class: int, seed: int, classes: Sequence[int], names: Sequence[str]
) -> list[Key]:
    """Keys of random videos of some classes, class by class.

    Args:
        labels: class of every video, (n,).
        per_class: videos of each class.
        seed: of the choice.
        classes: which.
        names: of all classes.

    Raises:
        ValueError: a class has fewer videos.
    """
    keys = list[Key]()
    for label in classes:
        rows = (labels == label).nonzero().flatten()
        if len(rows) < per_class:
            raise ValueError(
                f"class {names[label]!r} has {len(rows)} training videos; {per_class} are needed"
            )
        order = torch.randperm(len(rows), generator=generator(seed, "sample", label))[:per_class]
        keys += [(row, 0) for row in rows[order].tolist()]
    return keys
