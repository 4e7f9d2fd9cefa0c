"""Gradient matching: synthetic clips that pull a network's weights where real clips of their class do."""

from abc import abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdc.methods.base.learner import Terms
from vdc.methods.base.memory_estimate import load_of
from vdc.methods.base.networks import Gradient, chunked_features, mean_gradient
from vdc.methods.base.options import at_least_one
from vdc.methods.base.per_class import Classwise, classes_of
from vdc.methods.base.shard import State
from vdc.nets import VideoNet
from vdc.ops.match import Metric, gradient_distance
from vdc.spec import Batch


class GradientContext(NamedTuple):
    """Everything random about a step."""

    start: Tensor  # (1,) of the window
    real: list[list[Gradient]]  # of every class of the block, and of every segment


class GradientMatching(Classwise):
    """What DC, DSA and IDC share: gradients matched in a network that trains, and is replaced every `outer` steps.

    A step matches every class once and makes one update of the items. The network, and what its training
    depends on, are part of a checkpoint. The network never drops out while gradients are compared.

    Args:
        outer: steps with one network.
        metric: see `ops.match.gradient_distance`.
        conv_only: compare weights of convolutions only.
        net_lr: of the network's SGD.
        net_momentum: of the network's SGD.
        net_decay: weight decay of the network's SGD.
        net_batch: clips per step of the network.
        options: see `Classwise`.
    """

    def __init__(
        self,
        *args: Any,
        outer: int,
        metric: Metric = "ours",
        conv_only: bool = False,
        net_lr: float = 0.01,
        net_momentum: float = 0.0,
        net_decay: float = 0.0,
        net_batch: int = 256,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        at_least_one(outer=outer, net_batch=net_batch)
        self.outer = outer
        self.metric = metric
        self.conv_only = conv_only
        self.net_batch = net_batch
        self.net_sgd = partial(torch.optim.SGD, lr=net_lr, momentum=net_momentum, weight_decay=net_decay)
        self.least = 4 if conv_only else 2 if metric == "ours" else 0  # axes of the parameters compared

    @abstractmethod
    def net_losses(self) -> Iterator[Tensor]:
        """Losses of the steps that the network makes between two steps of the items."""

    def net_clips(self, clips: int) -> int:
        """Clips of a step of the network, of a set of `clips`."""
        return self.net_batch

    def load(self, net: VideoNet, clips: int, real: int) -> dict[str, int]:
        """The second-order graph of one class, or a first-order one; the gradients of all classes' real clips."""
        classes = len(self.blocks[0])

        def twice(x: Tensor) -> object:
            return mean_gradient(
                net, self.least, x, torch.zeros(len(x), dtype=torch.int64), create_graph=True
            )

        first = load_of(net, self.longest, net)
        graphs = [first.backward(min(self.chunk, self.data.per_class))]
        graphs += [load_of(net, self.longest, twice).backward(clips // classes)]
        graphs += [first.backward(self.net_clips(clips))] if self.outer > 1 else []
        compared = sum(p.numel() * p.element_size() for p in net.parameters() if p.ndim >= self.least)
        return {"activations": max(graphs), "gradients": compared * (self.real.segments * classes + 4)}

    def prepare(self) -> None:
        """Build the network.

        Raises:
            ValueError: with 16-mixed, whose loss scaling second derivatives bypass.
        """
        if str(self.trainer.precision) == "16-mixed":
            raise ValueError("--trainer.precision 16-mixed does not scale second derivatives: use bf16-mixed")
        super().prepare()

    def begin_block(self) -> None:
        """Forget the last block's network."""
        super().begin_block()
        self.net_optimizer = self.net_sgd(self.net.parameters())

    def advance(self) -> None:
        """A new network, or the last one trained further."""
        if self.step % self.outer == 0:
            self.renew()
            self.net_optimizer = self.net_sgd(self.net.parameters())
            return
        self.net.train()
        for loss in self.net_losses():
            self.net_optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.net_optimizer.step()
        self.net_optimizer.zero_grad()
        self.net.eval()

    def block_state(self) -> State:
        """The network and the momentum of its optimiser."""
        state = super().block_state()
        if self.outer > 1:
            for name, parameter in self.net.named_parameters():
                state[f"net.{name}"] = parameter.detach().cpu()
                momentum = self.net_optimizer.state[parameter].get("momentum_buffer")
                if momentum is not None:
                    state[f"momentum.{name}"] = momentum.cpu()
        return state

    def load_block_state(self, state: State) -> None:
        """Take up the network where it was."""
        super().load_block_state(state)
        for name, parameter in self.net.named_parameters():
            if f"net.{name}" in state:
                parameter.data.copy_(state[f"net.{name}"])
            if f"momentum.{name}" in state:
                self.net_optimizer.state[parameter]["momentum_buffer"] = state[f"momentum.{name}"].clone()

    def context(self, batch: Batch | None) -> GradientContext:
        """Network, window, and the gradient of every class's real clips."""
        self.advance()
        start = self.draw_starts(1)
        gradients = [self._real_gradients(label, clips, start) for label, clips in self.real_classes(start)]
        return GradientContext(start, gradients)

    def _real_gradients(self, label: int, clips: Tensor, start: Tensor) -> list[Gradient]:
        """Mean gradient of each segment of one class's real clips, `chunk` clips at a time."""
        totals: list[Gradient] = [{} for _ in range(self.real.segments)]
        for part in torch.split(clips, self.chunk):
            for seen, total in zip(self._segments(part, start, label), totals, strict=True):
                for name, g in self._gradient(label, seen, create_graph=False).items():
                    share = g * (len(part) / len(clips))
                    total[name] = total[name] + share if name in total else share
        return totals

    def _segments(self, clips: Tensor, start: Tensor, label: int) -> tuple[Tensor, ...]:
        """Segments (N, C, T / segments, H, W) of clips of one class as the step sees them."""
        return self.transform(clips, start, label).chunk(self.real.segments, 2)

    def _gradient(self, label: int, seen: Tensor, create_graph: bool) -> Gradient:
        """Mean gradient of seen clips of the block's class `label`."""
        labels = torch.full((len(seen),), self.classes[label], device=seen.device)
        return mean_gradient(self.net, self.least, seen, labels, create_graph)

    def loss(self, clips: Tensor, labels: Tensor, context: GradientContext) -> Terms:
        """Distance of gradients, summed over classes and segments; the graph of one pair exists at a time."""
        own, total, slopes = classes_of(labels), clips.new_zeros(()), torch.zeros_like(clips)
        for label in range(len(self.classes)):
            rows = (own == label).nonzero().flatten()
            if not len(rows):
                continue
            leaf = clips.detach()[rows].requires_grad_()
            for i, real in enumerate(context.real[label]):
                seen = self._segments(leaf, context.start, label)[i]
                gradient = self._gradient(label, seen, create_graph=True)
                distance = gradient_distance(gradient, real, self.metric, self.conv_only)
                slopes[rows] += torch.autograd.grad(distance, leaf)[0]
                total = total + distance.detach()
        along = (clips * slopes).sum()  # its gradient is `slopes`; its value does not count
        return {"gradients": total + (along - along.detach())}

    def embed(self, clips: Tensor, classes: Tensor, context: GradientContext) -> Tensor:
        """Last maps (N, D) in the step's network, each class augmented as its gradient is."""
        labels, counts = torch.unique_consecutive(classes, return_counts=True)
        parts = zip(labels.tolist(), torch.split(clips, counts.tolist()), strict=True)
        seen = (self.transform(part, context.start, label) for label, part in parts)
        return torch.cat([chunked_features(self.net, part, self.chunk).float() for part in seen])
