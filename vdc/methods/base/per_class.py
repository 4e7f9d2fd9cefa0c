"""Methods that compare what real and synthetic clips of one class make of a network."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.condensed.memory import Pixels
from vdc.data.clips import ClipLoader
from vdc.data.sampler import Key, Keys, PerClass
from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.condenser import MemoryCallable
from vdc.methods.base.multisize import MultiSize
from vdc.methods.base.networks import embed, prepared, renew
from vdc.methods.base.shard import State
from vdc.nets import VideoNet, build
from vdc.nets.experts import Experts, load_experts
from vdc.ops.augment import diff_augment
from vdc.ops.rng import derive
from vdc.ops.select import kmeans_medoids
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec, RawBatch


class Draw(NamedTuple):
    """Everything random about a step."""

    start: Tensor  # (1,) of the window
    real: Tensor  # DM: class means (K, D); NCFM: features (N, D)
    labels: Tensor  # of `real`
    frequencies: Tensor | None = None  # NCFM: (F, D)


def classes_of(labels: Tensor) -> Tensor:
    """Class (N,) of labels that are classes (N,) or logits (N, K)."""
    return labels.argmax(1) if labels.ndim == 2 else labels


def published_sgd(parameters: Any) -> torch.optim.SGD:
    """Momentum 0.5, as DC, DM, IDC and MTT have it; the rate is theirs for pixels of unit deviation."""
    return torch.optim.SGD(parameters, lr=1.0, momentum=0.5)


def compared(spec: ClipSpec, stored: int, segments: int, stretch: bool) -> ClipSpec:
    """How clips of `stored` frames, items or real ones, are seen when they are compared.

    Raises:
        ValueError: there cannot be so many frames, or the segments do not divide them.
    """
    if stored != spec.stored and (spec.window != "none" or not 1 <= stored <= spec.frames):
        raise ValueError(
            f"model.init_args.real_frames {stored} must be in 1..{spec.frames} (data.spec.frames), and "
            f"data.spec.window none (it is {spec.window})"
        )
    if stretch and stored != spec.stored and stored < spec.frames and spec.interpolation == "none":
        raise ValueError(
            f"model.init_args.real_frames {stored}: set data.spec.interpolation, by which they become the "
            f"{spec.frames} frames of an item, or stretch false"
        )
    cut = stored if spec.window == "none" else spec.cut
    for name, frames in (("seen", spec.frames if stretch else cut), ("kept", cut)):
        if frames % segments:
            raise ValueError(
                f"model.init_args.segments {segments} does not divide the {frames} frames {name}"
            )
    if stretch:
        return replace(spec, stored_frames=stored)
    return replace(spec, stored_frames=stored, frames=cut, interpolation="none")


class Classwise(BlockCondenser):
    """A separable condenser with `data.per_class` real clips of each class of the block in every step.

    Real clips are as long as stored items, cropped to the centre, and come class by class: what a step holds
    of them does not grow with the number of classes. Both sides see one window and one augmentation per
    step. The learning rate is constant.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        ipc: items per class.
        memory: what is stored and learnt.
        optimizer: of one block's parameters.
        init: `real` (random training clips), `noise`, or the folder of a condensed set of the same shape.
        iterations: steps per block.
        block: items per block at most; `None` takes all classes at once.
        net: network to compare in, without batch norm.
        net_options: of that network; `None` gives minic3d instance norm.
        pool: folder of expert trajectories (`vdc pretrain --experts`) to take networks from; `None` draws
            them.
        augment: families of `ops.augment.diff_augment`, joined by underscores; `None` augments nothing.
        augment_mode: one of the families per step (DSA), or all (IDC).
        sampling: `random` real clips, or `dream`: k-means on the network's features of one clip of every
            video of a class, of which the clips nearest to the centres are taken (Liu 2023).
        dream_interval: steps between two such choices.
        segments: equal parts in time, compared in pairs, first with first; their losses are added (Wang 2024,
            sec. 3).
        real_frames: frames of a real clip, spread over it as an item's are; `None` takes as many.
        stretch: compare what students see, with both sides interpolated to `spec.frames`; or else the frames
            as they are, which a network must take, and which cost as much as there are.
        chunk: clips forwarded at a time; at least those of a class while gradients are not needed.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
        multisize: match prefixes of the items too, so that they can be used alone; `None` does not.
    """

    net: VideoNet

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        ipc: int = 1,
        memory: MemoryCallable = Pixels,
        optimizer: OptimizerCallable = published_sgd,
        init: str = "real",
        iterations: int = 1000,
        block: int | None = None,
        net: str = "minic3d",
        net_options: dict[str, Any] | None = None,
        pool: str | None = None,
        augment: str | None = None,
        augment_mode: Literal["one", "all"] = "one",
        sampling: Literal["random", "dream"] = "random",
        dream_interval: int = 10,
        segments: int = 1,
        real_frames: int | None = None,
        stretch: bool = True,
        chunk: int = 64,
        seed: int = 0,
        out: str | None = None,
        multisize: MultiSize | None = None,
    ) -> None:
        whole = num_classes * ipc if block is None else block
        super().__init__(
            num_classes, spec, ipc, memory, optimizer, init, iterations, whole, seed, out, multisize
        )
        for name, value in (("dream_interval", dream_interval), ("segments", segments), ("chunk", chunk)):
            if value < 1:
                raise ValueError(f"model.init_args.{name} must be at least 1, got {value}")
        if net_options is None:
            net_options = {"norm": "in"} if net == "minic3d" else {}
        self.net_name, self.net_options, self.pool = net, net_options, pool
        self.augment, self.augment_mode = augment, augment_mode
        self.sampling, self.dream_interval, self.chunk = sampling, dream_interval, chunk
        self.segments, self.real_frames, self.stretch = segments, real_frames, stretch
        lengths = (spec.stored, spec.stored if real_frames is None else real_frames)
        self.views = {n: compared(spec, n, segments, stretch) for n in lengths}
        self.experts: Experts | None = None
        self.picked: Tensor | None = None  # (classes, per_class) videos that DREAM chose
        self._clips: Iterator[RawBatch] | None = None

    @property
    def net_spec(self) -> ClipSpec:
        """The shortest clips that the network must take."""
        shortest = min(view.frames for view in self.views.values()) // self.segments
        return (
            self.spec
            if shortest == self.spec.frames
            else ClipSpec(shortest, self.spec.size, self.spec.stride)
        )

    @property
    def longest(self) -> int:
        """Frames of the longest clips that are compared, all segments taken together."""
        return max(view.frames for view in self.views.values())

    def network(self) -> VideoNet:
        """A network to compare in, on the host."""
        clips, whole = self.net_spec, self.segments == 1 and self.stretch
        try:
            built = build(self.net_name, self.num_classes, clips, **self.net_options)
        except ValueError as error:
            if whole:
                raise
            raise ValueError(
                f"model.init_args.segments {self.segments}, stretch {self.stretch}: clips of {clips.frames} frames "
                f"are compared: {error}"
            ) from error
        if self.pool is not None:
            taught = clips if whole else self.spec
            self.experts = load_experts(self.pool, self.data.classes, taught, self.net_name)
            built = self.experts.build()
        return prepared(built)

    @property
    def at_once(self) -> int:
        """Most real clips that are there at once."""
        n = self.data.per_class
        return max(n, min(self.chunk, n * len(self.blocks[0])))

    def demand(self, clips: int) -> dict[str, int]:
        """Bytes of the real clips that are there at once, of the network, and what else it takes (`load`)."""
        net, pixels = self.network(), 3 * 4 * self.spec.size**2  # bytes of a frame
        read = max(self.views)  # frames of a real clip, or of an item
        whole = 2 * math.prod(self.data.load_size) * 3 * 4  # before it is cropped, and meanwhile
        clip = read * (whole + pixels) + self.longest * pixels
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        parts = {"network": weights, "real clips": self.at_once * clip}
        return parts | self.load(net, clips, self.at_once)

    @abstractmethod
    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """Bytes that comparing `clips` synthetic clips takes, `real` real ones being there at once."""

    def prepare(self) -> None:
        """Build the network."""
        self.net = self.network().to(self.device)

    def renew(self) -> None:
        """Start the network afresh, or at a random point of the pool."""
        renew(self.net, self.experts, self.rng("network"))

    def configure_optimizers(self) -> Any:
        """The block's optimiser, at a constant rate."""
        return self.optimizer(self.memory.groups())

    # -- both sides ---------------------------------------------------------------------------------------

    def same_length(self, features: str) -> None:
        """Refuse to compare features that grow with the frames, of sides of different length."""
        if len(frames := sorted({view.frames for view in self.views.values()})) > 1:
            raise ValueError(
                f"model.init_args.stretch false: {features} of {frames[0]} and of {frames[1]} frames differ in size: "
                "leave real_frames out, stretch, or compare features: pooled (DM) or gradients (DC, DSA, IDC)"
            )

    def view(self, clips: Tensor, starts: Tensor | None) -> Tensor:
        """Items, or real clips of `real_frames`, as they are compared; each known by its length."""
        return apply_view(clips, self.views[clips.shape[2]], starts, self.interpolator)

    def look(self, clips: Tensor, start: Tensor, *purpose: int) -> Tensor:
        """Stored clips (N, C, T_c, H, W) as the step sees them, (N, C, T, H, W): all in the same way.

        Args:
            clips: real or synthetic.
            start: of the window, (1,).
            purpose: of an augmentation of its own, e.g. a class.
        """
        seen = self.view(clips, start.expand(len(clips)))
        if self.augment is None:
            return seen
        return diff_augment(seen, self.rng("augment", *purpose), self.augment, self.augment_mode)

    # -- real clips ---------------------------------------------------------------------------------------

    def begin_block(self) -> None:
        """Forget the real clips of the last block's classes."""
        self.picked, self._clips = None, None

    def read(self, keys: Keys | list[Key], batch_size: int) -> ClipLoader:
        """Real clips of `real_frames` by key."""
        return self.data.by_key(keys, self.seed, batch_size, stored=True, frames=self.real_frames)

    def _random(self) -> Iterator[RawBatch]:
        """Random clips of the block's classes, from the current step on; made late, when that is restored."""
        if self._clips is None:
            seed, n = derive(self.seed, "real", self.block), self.data.per_class
            labels, classes = self.data.labels, self.classes
            keys = PerClass(labels, n, classes, seed, start_step=self.step, steps=self.iterations)
            self._clips = iter(self.read(keys, n))
        return self._clips

    def real_classes(self, start: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Classes of the block, counted from 0, with real clips (per_class, C, T_c, H, W) of this step."""
        clips = self._random() if self.sampling == "random" else self._dream(start)
        for label in range(len(self.classes)):
            yield label, self.on_device(next(clips))

    def real_batches(self, start: Tensor) -> Iterator[tuple[Tensor, range]]:
        """The same clips (N, C, T_c, H, W) and their classes: as many as `chunk` holds, at least one."""
        held = list[Tensor]()
        for label, clips in self.real_classes(start):
            if held and (len(held) + 1) * len(clips) > self.chunk:
                yield torch.cat(held), range(label - len(held), label)
                held = []
            held.append(clips)
        yield torch.cat(held), range(len(self.classes) - len(held), len(self.classes))

    def on_device(self, raw: RawBatch) -> Tensor:
        """Clips as floats on the device."""
        return self.data.to_batch(raw.to(self.device)).clips

    def _dream(self, start: Tensor) -> Iterator[RawBatch]:
        """Clips of the videos chosen last, until the next choice."""
        turn, done = divmod(self.step, self.dream_interval)
        if not done:
            self.picked = torch.stack([self._representative(label, turn, start) for label in self.classes])
        if not done or self._clips is None:
            assert self.picked is not None
            keys = [(row, turn) for row in self.picked.flatten().tolist()] * (self.dream_interval - done)
            self._clips = iter(self.read(keys, self.data.per_class))
        return self._clips

    @torch.no_grad()
    def _representative(self, label: int, turn: int, start: Tensor) -> Tensor:
        """Videos (per_class,) of a class that cover it; all, some repeatedly, where there are fewer."""
        rows, wanted = (self.data.labels == label).nonzero().flatten(), self.data.per_class
        keys: list[Key] = [(row, turn) for row in rows.tolist()]
        raws = self.read(keys, self.chunk)
        maps = [embed(self.net, self.look(self.on_device(raw), start), self.chunk).float() for raw in raws]
        chosen = kmeans_medoids(torch.cat(maps), min(wanted, len(rows)), self.rng("dream", label)).cpu()
        return rows[chosen[torch.arange(wanted) % len(chosen)]]

    def block_state(self) -> State:
        """The videos chosen last."""
        return {} if self.picked is None else {"picked": self.picked}

    def load_block_state(self, state: State) -> None:
        """Take up the videos chosen last."""
        if "picked" in state:
            self.picked = state["picked"].cpu()
