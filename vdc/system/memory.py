"""Memory of the machine: what is free, and what a piece of work takes, measured by doing it once."""

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # the memory limit of a container
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes of what `getrusage` counts memory in
HOST = torch.device("cpu")


def free_memory(device: torch.device = HOST, sharing: int = 1) -> int:
    """Bytes that this process can still use.

    Args:
        device: of the host, what the kernel could free counts too, and a container's limit holds.
        sharing: processes of this machine that share the host's memory.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not MEMINFO.is_file():  # no Linux: half of what is built in
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2 // sharing
    fields = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    free = 1024 * int(fields["MemAvailable"].split()[0])
    if (GROUP / "memory.current").exists() and (limit := (GROUP / "memory.max").read_text().strip()) != "max":
        stat = dict(line.split() for line in (GROUP / "memory.stat").read_text().splitlines())
        used = int((GROUP / "memory.current").read_text()) - int(stat["inactive_file"])
        free = min(free, int(limit) - used)
    return max(free, 0) // sharing


def memory_error(error: BaseException | None) -> str | None:
    """What to say where memory is short behind an error; `None` of other errors.

    A `MemoryError` below another error is none: a decoder's says that a header is damaged.
    """
    short = isinstance(error, MemoryError)
    while error is not None:
        told = re.search(r"you tried to allocate (\d+) bytes", str(error))  # as torch says it of the host
        on_device = isinstance(error, torch.OutOfMemoryError)
        if short or told is not None or on_device:
            asked = "" if told is None else f": {int(told[1]) / 2**30:.1f} GiB asked for at once"
            free = "" if on_device else f"; {free_memory() / 2**30:.1f} GiB are free on this machine"
            less = "fewer items (ipc), smaller clips or a smaller batch need less"
            return f"not enough memory{asked}{free}; {less}"
        error = error.__cause__ or error.__context__
    return None


def saved_bytes(work: Callable[[], object], own: Iterable[Tensor] = ()) -> int:
    """Bytes of all tensors that graphs save for their backward pass while `work` runs.

    Args:
        work: a forward pass, or one with a gradient of its own (`create_graph`).
        own: tensors that are there anyway, such as parameters.
    """
    there = {tensor.untyped_storage().data_ptr() for tensor in own}
    saved: dict[int, int] = {}
    alive: list[Tensor] = []  # addresses must not be used twice

    def save(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        result = work()
    del result
    return sum(size for address, size in saved.items() if address not in there)


@torch.no_grad()
def layer_bytes(net: nn.Module, work: Callable[[], object]) -> list[int]:
    """Bytes that every layer of a network gives out while `work` runs it."""
    sizes: list[int] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...], output: Any) -> None:
        main: Tensor = output[0] if isinstance(output, tuple) else output  # recurrent layers add their states
        sizes.append(main.numel() * main.element_size())

    leaves = [layer for layer in net.modules() if not list(layer.children())]
    leaves = [layer for layer in leaves if not isinstance(layer, nn.Identity)]  # which makes nothing
    handles = [layer.register_forward_hook(measure) for layer in leaves]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return sizes
