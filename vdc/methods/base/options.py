"""What several methods are configured with: which networks, which augmentation, which real clips."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from vdc.nets import VideoNet, build
from vdc.ops.augment import FAMILIES, diff_augment
from vdc.spec import ClipSpec


def at_least_one(**options: int) -> None:
    """Raise ValueError, naming the key, where an option of a method is not at least 1."""
    for name, value in options.items():
        if value < 1:
            raise ValueError(f"model.init_args.{name.replace('__', '.')} must be at least 1, got {value}")


@dataclass(frozen=True)
class Network:
    """A network by its name.

    Args:
        name: what `vdc.nets.build` knows it by.
        options: its further arguments; `None` gives minic3d instance norm, others nothing.
    """

    name: str = "minic3d"
    options: dict[str, Any] | None = None

    def build(self, num_classes: int, spec: ClipSpec) -> VideoNet:
        """The network, on the host, for clips of `spec`."""
        options = self.options
        if options is None:
            options = {"norm": "in"} if self.name == "minic3d" else {}
        return build(self.name, num_classes, spec, **options)


@dataclass(frozen=True)
class Augmentation:
    """Differentiable augmentation, see `vdc.ops.augment.diff_augment`.

    Args:
        families: joined by underscores, e.g. `color_crop_cutout_flip_scale_rotate`; or `none`. Leave out flip
            where mirrored clips have another class.
        mode: one of the families per step (DSA), or all (IDC).
    """

    families: str = "none"
    mode: Literal["one", "all"] = "one"

    def __post_init__(self) -> None:
        names = [] if self.families == "none" else self.families.split("_")
        if unknown := [name for name in names if name not in FAMILIES]:
            raise ValueError(
                f"model.init_args.augment.families {self.families}: {unknown[0]!r} is not one of "
                f"{', '.join(FAMILIES)}, joined by underscores, or none"
            )

    def __call__(self, clips: Tensor, rng: torch.Generator, shared: bool = True) -> Tensor:
        """Augmented clips (N, C, T, H, W); with `shared` all alike, else each in its own way."""
        if self.families == "none":
            return clips
        return diff_augment(clips, rng, self.families, self.mode, shared)


@dataclass(frozen=True)
class RealClips:
    """The real clips of a step, and in which parts they are compared with items.

    Args:
        sampling: `random`, or `dream`: k-means on the network's features of one clip of every video of a
            class, of which the clips nearest to the centres are taken (Liu 2023).
        interval: steps between two such choices.
        frames: of a real clip, spread over it as an item's are; `None` takes as many.
        segments: equal parts in time, compared in pairs, first with first; their losses are added (Wang 2024,
            sec. 3).
        stretch: compare what students see, with both sides interpolated to `data.spec.frames`; or else the
            frames as they are, which a network must take, and which cost as much as there are.
    """

    sampling: Literal["random", "dream"] = "random"
    interval: int = 10
    frames: int | None = None
    segments: int = 1
    stretch: bool = True

    def __post_init__(self) -> None:
        at_least_one(real__interval=self.interval, real__segments=self.segments)

    def matching_spec(self, spec: ClipSpec, stored: int) -> ClipSpec:
        """How clips of `stored` frames, items or real ones, are seen when they are compared.

        Raises:
            ValueError: there cannot be so many frames, or the segments do not divide them.
        """
        if stored != spec.stored and (spec.window != "none" or not 1 <= stored <= spec.frames):
            raise ValueError(
                f"model.init_args.real.frames {stored} must be in 1..{spec.frames} (data.spec.frames), and "
                f"data.spec.window none (it is {spec.window})"
            )
        shorter = stored != spec.stored and stored < spec.frames
        if self.stretch and shorter and spec.interpolation == "none":
            raise ValueError(
                f"model.init_args.real.frames {stored}: set data.spec.interpolation, by which they become the "
                f"{spec.frames} frames of an item, or real.stretch false"
            )
        cut = stored if spec.window == "none" else spec.cut
        for name, frames in (("seen", spec.frames if self.stretch else cut), ("kept", cut)):
            if frames % self.segments:
                raise ValueError(
                    f"model.init_args.real.segments {self.segments} does not divide the {frames} frames {name}"
                )
        if self.stretch:
            return replace(spec, stored_frames=stored)
        return replace(spec, stored_frames=stored, frames=cut, interpolation="none")
