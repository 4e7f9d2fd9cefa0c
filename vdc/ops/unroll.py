"""Gradients through a few training steps of a network, in the clips, labels and step size it trains on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import grad
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from vdc.ops.rng import derive

Mode = Literal["exact", "full", "tesla"]
StepLoss = Callable[..., Tensor]  # (theta (D,), *tensors of a batch) -> scalar
OuterLoss = Callable[[Tensor], Tensor]  # theta (D,) -> scalar


@dataclass(frozen=True)
class Layout:
    """Order and shapes of a network's parameters in one flat vector theta (D,)."""

    shapes: dict[str, torch.Size]

    @classmethod
    def of(cls, net: nn.Module) -> "Layout":
        """The layout of a network's own parameters."""
        return cls({name: p.shape for name, p in net.named_parameters()})

    def flatten(self, params: Mapping[str, Tensor]) -> Tensor:
        """Parameters by name -> theta (D,), whatever their order in `params`."""
        if params.keys() != self.shapes.keys():
            unmatched = sorted(params.keys() ^ self.shapes.keys())
            raise ValueError(f"parameters of another network: {unmatched} on one side only")
        for name, shape in self.shapes.items():
            if params[name].shape != shape:
                raise ValueError(
                    f"parameter {name} is {tuple(params[name].shape)}, the network has {tuple(shape)}"
                )
        return torch.cat([params[name].reshape(-1) for name in self.shapes])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Theta (D,) -> parameters by name, as views."""
        parts = torch.split_with_sizes(theta, [shape.numel() for shape in self.shapes.values()])
        return {
            name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def step_loss(net: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor]) -> StepLoss:
    """Inner loss (theta, clips, labels) -> criterion(net with theta (clips), labels).

    Buffers are copied for each call: running statistics must not leak from one step into another.
    """
    layout = Layout.of(net)

    def loss(theta: Tensor, clips: Tensor, labels: Tensor) -> Tensor:
        buffers = {name: b.clone() for name, b in net.named_buffers()}
        return criterion(functional_call(net, {**layout.unflatten(theta), **buffers}, (clips,)), labels)

    return loss


def trajectory_loss(theta: Tensor, start: Tensor, target: Tensor) -> Tensor:
    """||theta - target||^2 / ||start - target||^2, all (D,): 1 for no step (MTT: Cazenavette et al. 2022)."""
    return (theta - target).square().sum() / (start - target).square().sum()


def unroll(
    loss: StepLoss,
    theta0: Tensor,
    batches: Sequence[tuple[Tensor, ...]],
    lr: Tensor,
    outer_loss: OuterLoss,
    mode: Mode = "exact",
    seed: int = 0,
    offload: bool = False,
    keep: int = 1,
) -> Tensor:
    """Outer loss after N plain gradient steps theta <- theta - lr * grad loss(theta, *batch).

    Its `backward` reaches the tensors in `batches` and `lr`:

    * `full`: autograd through all steps; memory grows by one step's second-order graph per step.
    * `exact`: the same gradient. Keeps the theta_i and walks back through one step's graph at a time, from
      lam = d outer / d theta_N: (h, v) = grad of (g_i . lam) in (theta_i, batch_i); d batch_i -= lr v;
      d lr -= g_i . lam; lam <- lam - lr h.
    * `tesla` (Cui et al., ICML 2023): the same walk with lam held, which drops what a batch changes in the
      gradients of later steps; equal to the others for one step only.

    A step costs a walk 4/3 of what it costs `full`, whose graph it makes anew: three passes (a forward, and a
    backward of two) beside the nine of a step with its second-order gradient. `keep` saves them for some steps.

    The walk happens here, not in `backward`, so that it sees the caller's autocast; without gradients it is
    left out.

    Args:
        loss: inner loss; may draw from the global random state (dropout): each step starts from its own seed.
        theta0: start (D,), held constant.
        batches: per step, what `loss` takes after theta; tensors may be shared between steps.
        lr: step size, a scalar tensor.
        outer_loss: of theta_N; nothing but theta_N gets a gradient through it.
        mode: see above.
        seed: of the steps' random state.
        offload: keep the theta_i in host memory.
        keep: last steps whose graphs a walk keeps, instead of making them anew, at the memory of `full` for each.

    Returns:
        The outer loss, a scalar.
    """
    if mode not in ("exact", "full", "tesla"):
        raise ValueError(f"mode {mode!r}: choose exact, full or tesla")
    if keep < 1:
        raise ValueError(f"keep must be at least 1, the last step; got {keep}")
    if not batches:
        raise ValueError("an inner loop of no steps: there is nothing to learn from")
    theta = theta0.detach()
    steps = [_Step(loss, tuple(batch), derive(seed, "inner", i)) for i, batch in enumerate(batches)]
    if not torch.is_grad_enabled():
        return outer_loss(_path(steps, theta, lr)[-1])
    if mode == "full":
        theta.requires_grad_()
        for step in steps:
            theta = theta - lr * step.gradient(theta, step.batch, create_graph=True)
        return outer_loss(theta)
    value, d_lr, found = _walk(steps, theta, lr.detach(), outer_loss, mode == "exact", offload, keep)
    learnt = {id(t): t for step in steps for t in step.batch if t.requires_grad}
    grads = [d_lr, *(found.get(key, torch.zeros_like(t)) for key, t in learnt.items())]
    return _Attach.apply(value, grads, lr, *learnt.values())  # type: ignore[no-any-return]


class _Graph(NamedTuple):
    """An inner step whose gradient can be differentiated."""

    start: Tensor  # theta_i
    batch: list[Tensor]
    gradient: Tensor


@dataclass(frozen=True)
class _Step:
    """One inner step: its loss, batch and random seed."""

    loss: StepLoss
    batch: tuple[Tensor, ...]
    seed: int

    def leaves(self) -> list[Tensor]:
        """The batch cut off from its history, as leaves where it is learnt."""
        return [t.detach().requires_grad_(t.requires_grad) for t in self.batch]

    def graph(self, start: Tensor) -> "_Graph":
        """The step from `start` with the graph of its gradient."""
        leaf, batch = start.detach().requires_grad_(), self.leaves()
        return _Graph(leaf, batch, self.gradient(leaf, batch, create_graph=True))

    def gradient(self, theta: Tensor, batch: Sequence[Tensor], create_graph: bool = False) -> Tensor:
        """Gradient of the loss at theta, a tensor that requires it; the same random draws at every call."""
        with torch.enable_grad(), _seeded(self.seed, theta.device):
            return grad(self.loss(theta, *batch), theta, create_graph=create_graph)[0]


def _path(steps: Sequence[_Step], theta: Tensor, lr: Tensor, offload: bool = False) -> list[Tensor]:
    """Every theta_i, theta_0 to theta_N, without a graph; all but the last in host memory where asked."""
    path = [theta]
    for step in steps:
        start = path[-1]
        leaf = start.detach().requires_grad_()
        path.append(start - lr.detach() * step.gradient(leaf, [t.detach() for t in step.batch]))
        if offload:
            path[-2] = start.cpu()
    return path


def _walk(
    steps: Sequence[_Step],
    theta: Tensor,
    lr: Tensor,
    outer_loss: OuterLoss,
    carry: bool,
    offload: bool,
    keep: int,
) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
    """Outer loss, its gradient in lr, and its gradient in every learnt tensor, by the tensor's id."""
    starts, kept = _path(steps[:-keep], theta, lr, offload), list[_Graph]()
    end = starts.pop()
    for step in steps[-keep:]:
        kept.append(step.graph(end))
        end = (kept[-1].start - lr * kept[-1].gradient).detach()
    value = outer_loss(end.requires_grad_())
    (lam,) = grad(value, end)
    d_lr, found = torch.zeros_like(lr), dict[int, Tensor]()
    for i, step in reversed(list(enumerate(steps))):
        start, batch, g = kept.pop() if kept else step.graph(starts.pop().to(theta.device))
        slope = (g * lam).sum()
        d_lr -= slope.detach()
        learnt = [
            (id(given), leaf) for given, leaf in zip(step.batch, batch, strict=True) if leaf.requires_grad
        ]
        targets = [leaf for _, leaf in learnt] + ([start] if carry and i > 0 else [])
        if targets and slope.requires_grad:
            slopes = grad(slope, targets, materialize_grads=True)
            for (key, _), v in zip(learnt, slopes, strict=False):
                found[key] = found[key] - lr * v if key in found else -lr * v
            if carry and i > 0:
                lam = lam - lr * slopes[-1]
        del g, slope  # what is left of this graph, before the next one is built
    return value.detach(), d_lr, found


class _Attach(torch.autograd.Function):
    """A value whose gradient in `inputs` is known already."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, grads: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*grads)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_value: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(d_value * g for g in ctx.saved_tensors)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draws from the global random state follow from `seed`; the state before comes back afterwards."""
    cuda = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda):
        torch.default_generator.manual_seed(seed)
        for d in cuda:
            with torch.cuda.device(d):
                torch.cuda.manual_seed(seed)
        yield
