"""Methods that compare what real and synthetic clips of one class make of a network."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.data.clips import ClipLoader
from vdc.data.sampler import Key, Keys, PerClass
from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.features import RealFeatures
from vdc.methods.base.networks import chunked_features, prepared, renew
from vdc.methods.base.options import Augmentation, Network, RealClips, at_least_one
from vdc.methods.base.shard import State
from vdc.nets import VideoNet
from vdc.nets.experts import Experts, load_experts
from vdc.ops.rng import derive
from vdc.ops.select import kmeans_medoids
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec, RawBatch


@dataclass(frozen=True)
class StepContext(RealFeatures):
    """Everything random about a step in which features are compared.

    Args:
        start: of the window (1,).
    """

    start: Tensor


def classes_of(labels: Tensor) -> Tensor:
    """Class (N,) of labels that are classes (N,) or logits (N, K)."""
    return labels.argmax(1) if labels.ndim == 2 else labels


def published_sgd(parameters: Any) -> torch.optim.SGD:
    """Momentum 0.5, as DC, DM, IDC and MTT have it; the rate is theirs for pixels of unit deviation."""
    return torch.optim.SGD(parameters, lr=1.0, momentum=0.5)


class Classwise(BlockCondenser):
    """A separable learner with `data.per_class` real clips of each class of the block in every step.

    Real clips are as long as stored items, cropped to the centre, and come class by class: what a step holds
    of them does not grow with the number of classes. Both sides see one window and one augmentation per
    step. The learning rate is constant.

    Args:
        optimizer: of one block's parameters.
        block: items per block at most; `None` takes all classes at once.
        net: network to compare in, without batch norm.
        experts: folder of expert trajectories (`vdc pretrain --experts`) to take its weights from; `None`
            draws them.
        augment: of both sides alike.
        real: which real clips, and how they are compared.
        chunk: clips forwarded at a time; at least those of a class while gradients are not needed.
        options: see `BlockCondenser`.
    """

    net: VideoNet

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        optimizer: OptimizerCallable = published_sgd,
        block: int | None = None,
        net: Network = Network(),
        experts: str | None = None,
        augment: Augmentation = Augmentation(),
        real: RealClips = RealClips(),
        chunk: int = 64,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, optimizer=optimizer, block=block, **options)
        at_least_one(chunk=chunk)
        self.network = net
        self.experts_path = experts
        self.augment = augment
        self.real = real
        self.chunk = chunk
        lengths = (spec.stored, spec.stored if real.frames is None else real.frames)
        self.views = {n: real.matching_spec(spec, n) for n in lengths}
        self.experts: Experts | None = None
        self.picked: Tensor | None = None  # (classes, per_class) videos that DREAM chose
        self._clips: Iterator[RawBatch] | None = None

    # -- the network --------------------------------------------------------------------------------------

    @property
    def net_spec(self) -> ClipSpec:
        """The shortest clips that the network must take."""
        shortest = min(view.frames for view in self.views.values()) // self.real.segments
        return (
            self.spec
            if shortest == self.spec.frames
            else ClipSpec(shortest, self.spec.size, self.spec.stride)
        )

    @property
    def longest(self) -> int:
        """Frames of the longest clips that are compared, all segments taken together."""
        return max(view.frames for view in self.views.values())

    def build(self) -> VideoNet:
        """A network to compare in, on the host."""
        clips, whole = self.net_spec, self.real.segments == 1 and self.real.stretch
        try:
            built = self.network.build(self.num_classes, clips)
        except ValueError as error:
            if whole:
                raise
            raise ValueError(
                f"model.init_args.real.segments {self.real.segments}, real.stretch {self.real.stretch}: clips of "
                f"{clips.frames} frames are compared: {error}"
            ) from error
        if self.experts_path is not None:
            taught = clips if whole else self.spec
            self.experts = load_experts(self.experts_path, self.data.classes, taught, self.network.name)
            built = self.experts.build()
        return prepared(built, self.trainer.precision)

    def prepare(self) -> None:
        """Build the network."""
        self.net = self.build().to(self.device)

    def renew(self) -> None:
        """Start the network afresh, or at a random point of an expert."""
        renew(self.net, self.experts, self.rng("network"))

    def configure_optimizers(self) -> Any:
        """The block's optimiser, at a constant rate."""
        return self.optimizer(self.memory.groups())

    # -- memory -------------------------------------------------------------------------------------------

    @property
    def at_once(self) -> int:
        """Most real clips that are there at once."""
        n = self.data.per_class
        return max(n, min(self.chunk, n * len(self.blocks[0])))

    def demand(self, clips: int) -> dict[str, int]:
        """Bytes of the real clips that are there at once, of the network, and what else it takes (`load`)."""
        net, pixels = self.build(), 3 * 4 * self.spec.size**2  # bytes of a frame
        read = max(self.views)  # frames of a real clip, or of an item
        whole = 2 * math.prod(self.data.load_size) * 3 * 4  # before it is cropped, and meanwhile
        clip = read * (whole + pixels) + self.longest * pixels
        weights = sum(p.numel() * p.element_size() for p in net.parameters())
        parts = {"network": weights, "real clips": self.at_once * clip}
        return parts | self.load(net, clips, self.at_once)

    @abstractmethod
    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """Bytes that comparing `clips` synthetic clips takes, `real` real ones being there at once."""

    # -- both sides ---------------------------------------------------------------------------------------

    def same_length(self, features: str) -> None:
        """Reject per-frame features when real and synthetic lengths differ."""
        if len(frames := sorted({view.frames for view in self.views.values()})) > 1:
            raise ValueError(
                f"model.init_args.real.stretch false: {features} of {frames[0]} and of {frames[1]} frames differ in "
                "size: leave real.frames out, stretch, or compare features: pooled (DM) or gradients (DC, DSA, IDC)"
            )

    def view(self, clips: Tensor, starts: Tensor | None) -> Tensor:
        """Items, or real clips of `real.frames`, as they are compared; each known by its length."""
        return apply_view(clips, self.views[clips.shape[2]], starts, self.interpolator)

    def transform(self, clips: Tensor, start: Tensor, *purpose: int) -> Tensor:
        """Stored clips (N, C, T_c, H, W) as the step sees them, (N, C, T, H, W): all in the same way.

        Args:
            clips: real or synthetic.
            start: of the window, (1,).
            purpose: of an augmentation of its own, e.g. a class.
        """
        return self.augment(self.view(clips, start.expand(len(clips))), self.rng("augment", *purpose))

    # -- real clips ---------------------------------------------------------------------------------------

    def begin_block(self) -> None:
        """Forget the real clips of the last block's classes."""
        self.picked = None
        self._clips = None

    def read(self, keys: Keys | list[Key], batch_size: int) -> ClipLoader:
        """Real clips of `real.frames` by key."""
        return self.data.by_key(keys, self.seed, batch_size, stored=True, frames=self.real.frames)

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
        clips = self._random() if self.real.sampling == "random" else self._dream(start)
        for label in range(len(self.classes)):
            yield label, self.on_device(next(clips))

    def real_batches(self, start: Tensor) -> Iterator[tuple[Tensor, range]]:
        """The same clips (N, C, T_c, H, W) and their classes: as many as `chunk` holds, at least one."""
        waiting = list[Tensor]()
        for label, clips in self.real_classes(start):
            if waiting and (len(waiting) + 1) * len(clips) > self.chunk:
                yield torch.cat(waiting), range(label - len(waiting), label)
                waiting = []
            waiting.append(clips)
        yield torch.cat(waiting), range(len(self.classes) - len(waiting), len(self.classes))

    def on_device(self, raw: RawBatch) -> Tensor:
        """Clips as floats on the device."""
        return self.data.to_batch(raw.to(self.device)).clips

    def _dream(self, start: Tensor) -> Iterator[RawBatch]:
        """Clips of the videos chosen last, until the next choice."""
        turn, done = divmod(self.step, self.real.interval)
        if not done:
            self.picked = torch.stack([self._representative(label, turn, start) for label in self.classes])
        if not done or self._clips is None:
            assert self.picked is not None
            keys = [(row, turn) for row in self.picked.flatten().tolist()] * (self.real.interval - done)
            self._clips = iter(self.read(keys, self.data.per_class))
        return self._clips

    @torch.no_grad()
    def _representative(self, label: int, turn: int, start: Tensor) -> Tensor:
        """Videos (per_class,) of a class that cover it; all, some repeatedly, where there are fewer."""
        rows, wanted = (self.data.labels == label).nonzero().flatten(), self.data.per_class
        keys: list[Key] = [(row, turn) for row in rows.tolist()]
        seen = (self.transform(self.on_device(raw), start) for raw in self.read(keys, self.chunk))
        maps = torch.cat([chunked_features(self.net, clips, self.chunk).float() for clips in seen])
        chosen = kmeans_medoids(maps, min(wanted, len(rows)), self.rng("dream", label)).cpu()
        return rows[chosen[torch.arange(wanted) % len(chosen)]]

    def block_state(self) -> State:
        """The videos chosen last."""
        return {} if self.picked is None else {"picked": self.picked}

    def load_block_state(self, state: State) -> None:
        """Take up the videos chosen last."""
        if "picked" in state:
            self.picked = state["picked"].cpu()
