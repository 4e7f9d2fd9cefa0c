"""RealData: labelled videos as a Lightning data module."""

import math
import os
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from tqdm import tqdm

from vdc.data.cache import Cache, Store, load
from vdc.data.clips import ClipLoader, Short, Steps, VideoClips, whole
from vdc.data.folders import Part
from vdc.data.formats import Format
from vdc.data.index import Index, Video
from vdc.data.reader import decoder
from vdc.data.sampler import EveryClip, Key, Keys, PerClass, Shuffled, left_at
from vdc.data.splits import BadClip, Split, bad_videos, divide, fingerprint, no_test_videos, read_lists
from vdc.ops.augment import resized_crop
from vdc.ops.pixels import to_clips
from vdc.ops.rng import generator
from vdc.ops.windows import kept_frames
from vdc.spec import Batch, ClipSpec, RawBatch

Kind = Literal["shuffled", "every_clip", "per_class", "none", "test"]
SPEC = ClipSpec()


class RealData(LightningDataModule):
    """Videos on disk: lists, decoding in workers, crops and normalisation on the device.

    Args:
        root: folder that the paths in the lists start from.
        train: list of training videos, or their folder; `None`: `root`, with its `train`, `val`, `test` folders.
        test: list of test videos, or the folder of their class folders.
        format: of the lists; `auto` looks. `hmdb51_all` also trains on what HMDB51's split leaves out.
        spec: shapes of stored and seen clips.
        classes: keep only these classes, in alphabetical order.
        load_size: height and width of frames as decoded; `None`: 8/7 of `spec.size`, of which test clips cut 7/8.
        batch_size: clips per batch and process.
        per_class: clips of each class per batch, for methods that match class by class.
        num_workers: decoding processes; 0 decodes in this one.
        cache: keep decoded frames in memory: if they fit in a quarter of what is free, always, or never.
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
        cache: Cache = "auto",
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
        side = round(8 / 7 * spec.size)
        self.root, self.train, self.test, self.format, self.keep = root, train, test, format, classes
        self._spec, self.load_size, self.seed = spec, load_size or (side, side), seed
        self.batch_size, self.per_class, self.test_clips = batch_size, per_class, test_clips
        self.num_workers, self.cache, self.candidates, self.test_passes = num_workers, cache, candidates, 0
        self.val_share, self.on_bad_clip, self.short_video = val_share, on_bad_clip, short_video
        self.first_clip, self.augment, self.crop_scale, self.flip = first_clip, augment, crop_scale, flip
        for name in ("batch_size", "per_class", "test_clips", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"--data.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1 or not 0 <= flip <= 1:
            raise ValueError(
                f"--data.crop_scale must rise within 0..1 and --data.flip lie in it: {crop_scale}, {flip}"
            )
        if not 0 <= val_share < 1:
            raise ValueError(f"--data.val_share must be in [0, 1), got {val_share}")
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
        return read_lists(self.root, self.train, self.test, self.format, self.keep)

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
        return {**splits, "load_size": list(self.load_size), "decoder": decoder(), "skipped": skipped}

    # -- clips -------------------------------------------------------------------------------------

    @property
    def _ranks(self) -> tuple[int, int]:
        """Which process this is, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    @property
    def _local(self) -> tuple[int, int]:
        """The same on this machine."""
        return (self.trainer.local_rank, self.trainer.num_devices) if self.trainer is not None else (0, 1)

    def _clips(
        self, kind: Kind, split: Split, augment: bool | None = None, few: bool = False, **changes: Any
    ) -> VideoClips:
        """Clips as a kind of loader wants them; a `few` are not worth decoding a whole split into memory."""
        spec, random = self._spec, self.augment if augment is None else augment
        options: dict[str, Any] = {"frames": spec.frames, "boxes": "random" if random else "full"}
        if kind == "every_clip":
            starts = "spread" if self.candidates > 1 else "first" if self.first_clip else "random"
            options |= {**self._stored(), "clips": self.candidates, "starts": starts}
        elif kind == "test":
            options |= {"clips": self.test_clips, "starts": "spread", "boxes": "centre"}
            if self.test_passes:
                options |= {"clips": self.test_passes, "starts": "random", "boxes": "mirrored"}
        options |= {"crop_scale": self.crop_scale, "flip": self.flip}
        options |= {"seed": self.seed, "short_video": self.short_video, **changes}
        options |= {"stride": spec.stride, "load_size": self.load_size, "size": spec.size}
        clips = VideoClips(self.splits[split], **options)
        if (split == "train" or kind == "test") and not (few and split not in self._stores):
            clips.store = self._store(split, clips)
        return clips

    def _stored(self, frames: int | None = None) -> dict[str, Any]:
        """Which frames of a clip an item keeps, or some other number of them."""
        length, keep = kept_frames(self._spec, frames)
        return {"frames": length, "keep": keep}

    def test_at_random(self, passes: int) -> None:
        """Show so many random clips of test videos, perhaps mirrored, from now on; 0: the usual ones."""
        if passes != self.test_passes:
            self._stores = {split: held for split, held in self._stores.items() if split == "train"}
        self.test_passes = passes

    def _store(self, split: Split, clips: VideoClips) -> Store | None:
        """Decoded frames of a split: all of training videos, those of test clips elsewhere."""
        if split not in self._stores:
            needed = range if split == "train" or clips.starts == "random" else clips.needed
            self._stores[split] = load(clips.videos, self.load_size, needed, self.cache, split, self._local)
        return self._stores[split]

    def to_batch(self, raw: RawBatch) -> Batch:
        """Crop, flip and normalise, on the device the frames are on."""
        m = raw.frames.shape[1]
        clips = resized_crop(to_clips(raw.frames.flatten(0, 1)), raw.boxes.flatten(0, 1), self._spec.size)
        return Batch(clips, raw.labels.repeat_interleave(m), raw.rows.repeat_interleave(m))

    def candidate(self, row: int, draw: int, stored: bool = True) -> Tensor:
        """The clip number `draw` of training video `row` as an `every_clip` loader shows it.

        Args:
            row: of the training split.
            draw: of the video's candidates.
            stored: the frames T_c of a stored item, or the frames T a network sees.

        Returns:
            (C, T, H, W), normalised.
        """
        shape = self._stored() if stored else {"frames": self._spec.frames, "keep": None}
        found, boxes = self._clips("every_clip", "train", few=True, **shape).read([row], [[draw]])
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
        labels, keys = self.labels, list[Key]()
        classes = range(self.num_classes) if classes is None else classes
        for label in classes:
            rows = (labels == label).nonzero().flatten()
            if len(rows) < per_class:
                name = self.classes[label]
                raise ValueError(f"class {name!r} has {len(rows)} training videos; {per_class} are needed")
            order = torch.randperm(len(rows), generator=generator(seed, "sample", label))[:per_class]
            keys += [(row, 0) for row in rows[order].tolist()]
        clips = self._clips("shuffled", "train", few=True, **self._stored(), boxes="centre", seed=seed)
        raws = tqdm(self._loader(clips, keys, self.batch_size), "sampling clips", delay=1)
        found = torch.cat([self.to_batch(raw).clips for raw in raws])
        return found.view(len(classes), per_class, *found.shape[1:])

    # -- loaders -----------------------------------------------------------------------------------

    def loader(
        self,
        kind: Kind,
        split: Split = "train",
        batch_size: int | None = None,
        augment: bool | None = None,
        rows: Sequence[int] | None = None,
    ) -> ClipLoader:
        """This process's share of a split, as `RawBatch`es (`to_batch` makes them clips on a device).

        Args:
            kind: `shuffled`: a random clip of every video, in random order. `every_clip`: all candidates of
                every video, as long as stored items. `per_class`: random clips, as many of every class,
                until the trainer's last step. `test`: the test clips of every video. `none`: numbers of
                steps, no clips.
            split: which videos.
            batch_size: clips; `None` takes the data module's.
            augment: random crops and flips; `None` takes the data module's.
            rows: with `every_clip` and `test`, only these videos.
        """
        rank, world = self._ranks
        if kind == "none":
            steps = self._steps(0)
            return ClipLoader(Steps(steps), batch_size=None, sampler=EveryClip(steps))
        clips = self._clips(kind, split, augment)
        if kind == "per_class":
            labels = torch.tensor([video.label for video in clips.videos])
            steps = self._steps(math.ceil(len(labels) / (self.num_classes * self.per_class * world)))
            keys = PerClass(labels, self.per_class, None, self.seed, rank, world, steps=steps)
            return self._loader(clips, keys, keys.step_size)
        count = max((batch_size or self.batch_size) // clips.clips, 1)
        if kind == "shuffled":
            return self._loader(clips, Shuffled(len(clips), self.seed, rank, world), count)
        return self._loader(clips, EveryClip(len(clips) if rows is None else rows, rank, world), count)

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
        clips = self._clips("shuffled", "train", seed=seed, **shape)
        return self._loader(clips, keys, batch_size or self.batch_size)

    def _loader(self, clips: VideoClips, keys: Keys | list[Key], batch_size: int) -> ClipLoader:
        """Workers that open videos themselves, and hand over whole batches."""
        return ClipLoader(
            clips,
            batch_size,
            sampler=keys,
            num_workers=self.num_workers,
            collate_fn=whole,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator(),  # or the loader would draw from the global one
        )

    def _steps(self, default: int) -> int:
        """Batches until the trainer's last step."""
        if self.trainer is not None and self.trainer.max_steps > 0:
            return self.trainer.max_steps * self.trainer.accumulate_grad_batches
        if default:
            return default
        raise ValueError("this method has no epochs: set --trainer.max_steps")

    # -- Lightning ---------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Read the lists, and check the files if bad ones are to be skipped."""
        if stage == "test" and not self.splits["test"]:
            raise ValueError(no_test_videos(self.root))
        _ = self.splits

    def train_dataloader(self) -> ClipLoader:
        """What the module's `batches` asks for, from where the run was left."""
        assert self.trainer is not None
        module = self.trainer.lightning_module
        kind: Kind = getattr(module, "batches", "shuffled")
        wanted = getattr(module, "wanted", None) if kind == "every_clip" else None
        loader = self.loader(kind, rows=None if wanted is None else wanted(self.labels).tolist())
        if isinstance(loader.sampler, Keys):
            loader.sampler.resume(*left_at(self.trainer, len(loader), loader.batch_size or 1))
        return loader

    def val_dataloader(self) -> ClipLoader | list[Any]:
        """Test clips of the videos held out; none without `val_share` or a `val` folder."""
        return self.loader("test", "val") if self.splits["val"] else []

    def test_dataloader(self) -> ClipLoader:
        """Test clips of the test videos."""
        return self.loader("test", "test")

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Make clips, on the device."""
        return self.to_batch(batch) if isinstance(batch, RawBatch) else batch
