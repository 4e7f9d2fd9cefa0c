"""The networks in which methods compare real and synthetic clips: freshly drawn, or those of experts."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from vdc.data.clips import ClipLoader
from vdc.data.sampler import Keys
from vdc.nets import VideoNet, channels_last, in_parts
from vdc.nets.experts import Experts
from vdc.ops.unroll import Layout
from vdc.spec import RawBatch

Gradient = dict[str, Tensor]  # parameter name -> gradient


def prepared(net: VideoNet, precision: str | int | None) -> VideoNet:
    """A network for matching: in eval mode, so that nothing in it depends on what else is in a batch.

    Args:
        net: to be changed.
        precision: of the trainer.

    Raises:
        ValueError: it has batch norm, with which features depend on how a step is cut into batches.
    """
    if any(isinstance(module, _BatchNorm) for module in net.modules()):
        raise ValueError(
            f"model.init_args.net {net.name}: with batch norm a clip's features depend on other clips; for "
            "minic3d set net_options.norm to in or none"
        )
    channels_last(net, precision)
    return net.eval()


@torch.no_grad()
def load_flat_parameters(net: nn.Module, theta: Tensor) -> None:
    """Give a network the parameters theta (D,), in the order of `ops.unroll.Layout`."""
    parts = Layout.of(net).unflatten(theta)
    for name, parameter in net.named_parameters():
        parameter.copy_(parts[name])


def renew(net: VideoNet, experts: Experts | None, rng: torch.Generator) -> None:
    """Start a network afresh, or at a random epoch of a random expert."""
    if experts is None:
        net.reset_parameters("default", rng)
        return
    expert = int(torch.randint(len(experts), (), generator=rng))
    load_flat_parameters(
        net, experts.snapshot(expert, int(torch.randint(experts.epochs + 1, (), generator=rng)))
    )


def chunked_features(net: VideoNet, clips: Tensor, chunk: int, pooled: bool = False) -> Tensor:
    """Features (N, D) of clips; with gradients too, activations of `chunk` clips at most are held.

    Args:
        net: the network.
        clips: (N, C, T, H, W).
        chunk: clips forwarded together.
        pooled: the pooled features instead of the flattened last map.
    """
    forward = net.features if pooled else net.embed
    if len(clips) <= chunk:
        return in_parts(forward, clips)
    parts = torch.split(clips, chunk)
    if not torch.is_grad_enabled():
        return torch.cat([in_parts(forward, part) for part in parts])
    return torch.cat([checkpoint(forward, part, use_reentrant=False) for part in parts])


def mean_gradient(
    net: nn.Module, least: int, clips: Tensor, labels: Tensor, create_graph: bool = False
) -> Gradient:
    """Gradient of the mean cross-entropy in the parameters that count.

    Args:
        net: logits (N, K) of clips.
        least: axes of the parameters wanted, at least.
        clips: (N, C, T, H, W).
        labels: (N,) int64.
        create_graph: keep what differentiates the gradient in the clips.
    """
    params = {name: p for name, p in net.named_parameters() if p.ndim >= least}
    loss = nn.functional.cross_entropy(net(clips), labels)
    gradients = torch.autograd.grad(loss, [*params.values()], create_graph=create_graph)
    return dict(zip(params, gradients, strict=True))


def endless(loader: ClipLoader, first: int) -> Iterator[RawBatch]:
    """Batches of epoch after epoch of a shuffled loader, from batch number `first` of all on."""
    epoch, batch = divmod(first, len(loader))
    keys = cast(Keys, loader.sampler)
    keys.resume(epoch, batch * (loader.batch_size or 1))
    while True:
        keys.set_epoch(epoch)
        yield from loader
        epoch += 1
