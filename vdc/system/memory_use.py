"""What a piece of work holds in memory, measured by doing it once."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


def kept_bytes(work: Callable[[], object], own: Iterable[Tensor] = ()) -> int:
    """Bytes of all tensors that graphs keep for their backward pass while `work` runs.

    Args:
        work: a forward pass, or one with a gradient of its own (`create_graph`).
        own: tensors that are there anyway, such as parameters.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in own}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # addresses must not be used twice

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    del result
    return sum(size for address, size in kept.items() if address not in there)


@torch.no_grad()
def layer_bytes(net: nn.Module, work: Callable[[], object]) -> list[int]:
    """Bytes that every layer of a network gives out while `work` runs it."""
    sizes: list[int] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        main: Tensor = output[0] if isinstance(output, tuple) else output  # recurrent layers add their states
        sizes.append(main.numel() * main.element_size())

    leaves = [layer for layer in net.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(measure) for layer in leaves]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return sizes
