"""What a run will need in memory, said before it starts."""

from pathlib import Path

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from vdc.nets import Teacher


def readable(size: int) -> str:
    """Bytes in the unit one would say them in."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def available(device: torch.device) -> int | None:
    """Bytes free on a device; of the host, what the kernel could free too; `None` where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return None
    fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def check(parts: dict[str, int], device: torch.device, remedy: str) -> None:
    """Say what will be needed, and refuse what cannot fit.

    Args:
        parts: what needs how many bytes.
        device: where.
        remedy: what to change if it does not fit.

    Raises:
        ValueError: more than is available.
    """
    needed, free = sum(parts.values()), available(device)
    said = f"about {readable(needed)} of memory needed on {device}"
    listed = ", ".join(f"{name} {readable(size)}" for name, size in parts.items())
    if free is not None and needed > free:
        raise ValueError(f"{said} ({listed}), but {readable(free)} are free: {remedy}")
    rank_zero_info(f"{said}: {listed}")


@torch.no_grad()
def activation_bytes(teacher: Teacher) -> int:
    """Bytes one clip's forward and backward hold: the outputs of all layers, and twice the largest again."""
    sizes: list[int] = []

    def measure(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        sizes.append(output.numel() * output.element_size())

    leaves = [layer for layer in teacher.modules() if not list(layer.children())]
    handles = [layer.register_forward_hook(measure) for layer in leaves]
    spec, device = teacher.spec, next(teacher.parameters()).device
    try:
        teacher(torch.zeros(1, 3, spec.frames, spec.size, spec.size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return sum(sizes) + 2 * max(sizes)
