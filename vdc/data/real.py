"""RealData: labelled videos as a Lightning data module."""

import os
from collections.abc import Sequence
from copy import copy
from functools import cached_property
from typing import Any, Self, cast

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from vdc.data.cache import Cache, load
from vdc.data.clips import ClipLoader, Short, VideoClips
from vdc.data.folders import Part
from vdc.data.formats import Format
from vdc.data.index import Index, Video
from vdc.data.loaders import (
    Chooser,
    Ranks,
    Trained,
    batches_left,
    check_options,
    clip_loader,
    per_class,
    random_videos,
    shuffled,
    steps,
    whole_videos,
)
from vdc.data.reader import Decoder, decoder_version
from vdc.data.sampler import Key, Keys, left_at
from vdc.data.splits import BadClip, Split, bad_videos, divide, fingerprint, no_test_videos, read_lists
from vdc.data.store import Store
from vdc.ops.augment import resized_crop
from vdc.ops.pixels import to_clips
from vdc.ops.windows import kept_frames
from vdc.spec import Batch, ClipSpec, RawBatch
from vdc.system.progress import track

SPEC = ClipSpec()


class RealData(LightningDataModule):
    """Videos on disk: lists, decoding in workers, crops and normalisation on the device.

    Args:
        root: folder that the paths in the lists start from.
        train: list of training videos, or their folder; `None`: `root`, with its `train`, `val`, `test` folders.
        test: list of test videos, or the folder of their class folders.
        format: of lists (docs/formats.md); `auto` looks. `hmdb51_all` also trains on what HMDB51's split leaves out.
        spec: shapes of stored and seen clips.
        classes: keep only these classes, in alphabetical order.
        load_size: height and width of frames as decoded; `None`: 8/7 of `spec.size`, of which test clips cut 7/8.
        batch_size: clips per batch and process.
        per_class: clips of each class per batch, for methods that match class by class.
        num_workers: decoding processes; 0 decodes in this one.
        decoder: `pyav` gives what players show; `decord`, as published pipelines, other frames of some files.
        cache: keep decoded frames in memory, if they fit in a quarter of what is free or always; on disk; or never.
        cache_gb: GB that decoded frames of all sets may take on disk; those used longest ago make room.
        val_share: share of every class's training videos that is held out for validation.
        test_clips: clips per test video, spread evenly; their logits are averaged.
        candidates: clips per video that selection methods choose from, spread evenly (one: at random).
        first_clip: with one candidate, take the clip that starts at the first frame, as Video-DC's code does.
        on_bad_clip: a video that is missing or cannot be decoded is an error, or is left out and listed.
        short_video: videos shorter than a clip are sampled densely, or loop.
        augment: crop and flip training clips at random; networks are trained as their protocol says instead.
        crop_scale: area of those crops over that of the frame.
        flip: probability of mirroring a training clip.
        seed: of everything drawn.
    """

    def __init__(
        self,
        root: str,
        train: str | None = None,
        test: str | None = None,
        format: Format = "auto",
        spec: ClipSpec = SPEC,
        classes: list[str] | None = None,
        load_size: tuple[int, int] | None = None,
        batch_size: int = 16,
        per_class: int = 16,
        num_workers: int = 0,
        decoder: Decoder = "pyav",
        cache: Cache = "auto",
        cache_gb: float = 50.0,
        val_share: float = 0.0,
        test_clips: int = 1,
        candidates: int = 1,
        first_clip: bool = False,
        on_bad_clip: BadClip = "error",
        short_video: Short = "dense",
        augment: bool = True,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        flip: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_options((batch_size, per_class, test_clips, candidates), crop_scale, flip, val_share, cache_gb)
        side = round(8 / 7 * spec.size)
        self.root, self.train, self.test, self.format, self.keep = root, train, test, format, classes
        self._spec, self.load_size, self.seed = spec, load_size or (side, side), seed
        self.batch_size, self.per_class, self.test_clips = batch_size, per_class, test_clips
        self.num_workers, self.cache, self.decoder = num_workers, cache, decoder
        self.candidates, self.test_passes, self.cache_bytes = candidates, 0, int(1e9 * cache_gb)
        self.val_share, self.on_bad_clip, self.short_video = val_share, on_bad_clip, short_video
        self.first_clip, self.augment, self.crop_scale, self.flip = first_clip, augment, crop_scale, flip
        decoder_version(decoder)  # refused here if it is not installed
        self.skipped: dict[str, str] = {}  # path -> why, of the videos left out
        self._stores: dict[Split, Store | None] = {}

    # -- what there is -----------------------------------------------------------------------------

    @property
    def spec(self) -> ClipSpec:
        """Shapes of stored and seen clips."""
        return self._spec

    @property
    def classes(self) -> list[str]:
        """Class names in label order."""
        return self._lists["train"].classes

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.classes)

    @property
    def labels(self) -> Tensor:
        """Class of every training video, (n,) int64; its position is the video's row."""
        return torch.tensor([video.label for video in self.splits["train"]])

    @cached_property
    def _lists(self) -> dict[Part, Index]:
        """The videos as listed."""
        return read_lists(self.root, self.train, self.test, self.format, self.keep, self.decoder)

    @cached_property
    def splits(self) -> dict[Split, list[Video]]:
        """The videos of every split, without those left out."""
        good: dict[Part, list[Video]] = {"test": [], "val": []}
        for part, index in self._lists.items():
            bad = bad_videos(part, index.videos, self.on_bad_clip, self._ranks, self._local)
            self.skipped |= {index.videos[i].path: why for i, why in bad.items()}
            good[part] = [video for i, video in enumerate(index.videos) if i not in bad]
        return divide(good["train"], good["test"], self.val_share, self.seed, good["val"])

    def fingerprint(self) -> dict[str, Any]:
        """What the data is, wherever it lies: size and hash of the splits, decoder, files left out."""
        splits: dict[str, Any] = {k: fingerprint(videos, self.root) for k, videos in self.splits.items()}
        skipped = sorted(os.path.relpath(path, self.root) for path in self.skipped)
        known = {"load_size": list(self.load_size), "decoder": decoder_version(self.decoder)}
        return {**splits, **known, "skipped": skipped}

    # -- clips -------------------------------------------------------------------------------------

    @property
    def _ranks(self) -> Ranks:
        """Which process this is, and how many there are."""
        return Ranks() if self.trainer is None else Ranks(self.trainer.global_rank, self.trainer.world_size)

    @property
    def _local(self) -> tuple[int, int]:
        """The same on this machine."""
        return (self.trainer.local_rank, self.trainer.num_devices) if self.trainer is not None else (0, 1)

    def with_(self, **changes: Any) -> Self:
        """The same videos, decoded once for all, shown otherwise: a copy; nothing is written into this one.

        Args:
            changes: other `seed` (the validation split stays), `augment`, `crop_scale`, `flip`, or
                `test_passes`: so many random, perhaps mirrored clips of every test video instead of its own.
        """
        _ = self.splits  # of this seed
        other = copy(self)
        for name, value in changes.items():
            setattr(other, name, value)
        if other.test_passes != self.test_passes:  # other frames of the test videos
            other._stores = {split: held for split, held in self._stores.items() if split == "train"}
        return other

    def _clips(self, split: Split, few: bool = False, **shape: Any) -> VideoClips:
        """Clips of a split, by default as a network trains on them.

        Args:
            split: which videos.
            few: not worth decoding the whole split into memory.
            shape: other arguments of `VideoClips`.
        """
        options: dict[str, Any] = {
            "frames": self._spec.frames, "stride": self._spec.stride, "size": self._spec.size,
            "load_size": self.load_size, "boxes": "random" if self.augment else "full", "seed": self.seed,
            "crop_scale": self.crop_scale, "flip": self.flip, "short_video": self.short_video,
        }  # fmt: skip
        clips = VideoClips(self.splits[split], **options | shape)
        if not few or split in self._stores:
            clips.store = self._store(split, clips)
        return clips

    @property
    def _candidates(self) -> dict[str, Any]:
        """How the clips that selection methods choose from are drawn."""
        starts = "spread" if self.candidates > 1 else "first" if self.first_clip else "random"
        return {"clips": self.candidates, "starts": starts}

    def _stored(self, frames: int | None = None) -> dict[str, Any]:
        """Which frames of a clip an item keeps, or some other number of them."""
        length, keep = kept_frames(self._spec, frames)
        return {"frames": length, "keep": keep}

    def _store(self, split: Split, clips: VideoClips) -> Store | None:
        """Decoded frames of a split: all of training videos, those of test clips elsewhere."""
        if split not in self._stores:
            needed = range if split == "train" or clips.starts == "random" else clips.needed
            self._stores[split] = load(
                clips.videos, self.load_size, needed, self.cache, split, self._local, self.cache_bytes
            )
        return self._stores[split]

    def to_batch(self, raw: RawBatch) -> Batch:
        """Crop, flip and normalise, on the device the frames are on."""
        m = raw.frames.shape[1]
        clips = resized_crop(to_clips(raw.frames.flatten(0, 1)), raw.boxes.flatten(0, 1), self._spec.size)
        return Batch(clips, raw.labels.repeat_interleave(m), raw.rows.repeat_interleave(m))

    def candidate(self, row: int, draw: int) -> Tensor:
        """The clip number `draw` of training video `row` as an `every_clip` loader shows it.

        Args:
            row: of the training split.
            draw: of the video's candidates.

        Returns:
            (C, T_c, H, W), normalised.
        """
        found, boxes = self._clips("train", few=True, **self._stored(), **self._candidates).read(
            [row], [[draw]]
        )
        return self.to_batch(RawBatch(found, torch.zeros(1), torch.zeros(1), boxes)).clips[0]

    def sample(self, per_class: int, seed: int, classes: Sequence[int] | None = None) -> Tensor:
        """Random training videos, a random clip of each, centre crop.

        Args:
            per_class: videos n of each class.
            seed: of the choice.
            classes: which; `None` takes all.

        Returns:
            (K, n, C, T_c, H, W), normalised.

        Raises:
            ValueError: a class has fewer videos.
        """
        classes = range(self.num_classes) if classes is None else classes
        keys = random_videos(self.labels, per_class, seed, classes, self.classes)
        clips = self._clips("train", few=True, **self._stored(), boxes="centre", seed=seed)
        raws = track(
            clip_loader(clips, keys, self.batch_size, self.num_workers), "sampling clips", unit="batches"
        )
        found = torch.cat([self.to_batch(raw).clips for raw in raws])
        return found.view(len(classes), per_class, *found.shape[1:])

    # -- loaders -----------------------------------------------------------------------------------

    def shuffled(self) -> ClipLoader:
        """A random clip of every training video, in random order, for `to_batch`."""
        return shuffled(self._clips("train"), self.seed, self._ranks, self.batch_size, self.num_workers)

    def each_class(self) -> ClipLoader:
        """`per_class` random training clips of every class per batch, until the last step, or for one pass."""
        clips, count = self._clips("train"), batches_left(self.trainer)
        step = self.num_classes * self.per_class * self._ranks.world
        return per_class(
            clips, self.per_class, self.seed, self._ranks, count or -(-len(clips) // step), self.num_workers
        )

    def every_clip(self, rows: Sequence[int] | None = None, split: Split = "train") -> ClipLoader:
        """This process's share of all candidates of every video of a split, as long as stored items.

        Args:
            rows: only these videos.
            split: which videos.
        """
        few = split != "train" or (rows is not None and 2 * len(rows) < len(self.splits[split]))
        clips = self._clips(split, few, **self._stored(), **self._candidates)
        return whole_videos(clips, rows, self._ranks, self.batch_size, self.num_workers)

    def tested(self, split: Split) -> ClipLoader:
        """This process's share of the test clips of every video of a split."""
        shape: dict[str, Any] = {"clips": self.test_clips, "starts": "spread", "boxes": "centre"}
        if self.test_passes:
            shape = {"clips": self.test_passes, "starts": "random", "boxes": "mirrored"}
        clips = self._clips(split, **shape)
        return whole_videos(clips, None, self._ranks, self.batch_size, self.num_workers)

    def by_key(
        self, keys: Keys | list[Key], seed: int, batch_size: int | None = None, stored: bool = False,
        frames: int | None = None,
    ) -> ClipLoader:  # fmt: skip
        """A random training clip per key (video, draw), for passes that keep their own place.

        Args:
            keys: in this order.
            seed: of starts and crops.
            batch_size: clips; `None` takes the data module's.
            stored: the frames T_c of a stored item in a centre crop, not the T that a network sees.
            frames: of a stored item instead of T_c.
        """
        shape = {**self._stored(frames), "boxes": "centre"} if stored else {}
        clips = self._clips("train", seed=seed, **shape)
        return clip_loader(clips, keys, batch_size or self.batch_size, self.num_workers)

    # -- Lightning ---------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the lists, and check the files if bad ones are to be skipped."""
        if stage == "test" and not self.splits["test"]:
            raise ValueError(no_test_videos(self.root))
        _ = self.splits

    def train_dataloader(self) -> ClipLoader:
        """What the module's `batches` asks for, from where the run was left."""
        assert self.trainer is not None
        module = cast(Trained, self.trainer.lightning_module)
        if module.batches == "every_clip":
            loader = self.every_clip(cast(Chooser, module).wanted(self.labels).tolist())
        elif module.batches == "none":
            loader = steps(self.trainer)
        else:
            loader = self.shuffled() if module.batches == "shuffled" else self.each_class()
        if isinstance(loader.sampler, Keys):
            loader.sampler.resume(*left_at(self.trainer, len(loader), loader.batch_size or 1))
        return loader

    def val_dataloader(self) -> ClipLoader | list[Any]:
        """Test clips of the videos held out; none without `val_share` or a `val` folder."""
        return self.tested("val") if self.splits["val"] else []

    def test_dataloader(self) -> ClipLoader:
        """Test clips of the test videos."""
        return self.tested("test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make clips, on the device."""
        return self.to_batch(batch) if isinstance(batch, RawBatch) else batch
