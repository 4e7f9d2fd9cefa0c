"""What a run will need in memory, said before it starts."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from vdc.nets import Teacher, VideoNet
from vdc.system.memory import free_memory, layer_bytes, saved_bytes


def readable(size: int) -> str:
    """Bytes in the unit one would say them in."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def check(parts: dict[str, int], device: torch.device, remedy: str, sharing: int = 1) -> None:
    """Say what will be needed, and refuse what cannot fit.

    Args:
        parts: what needs how many bytes.
        device: where.
        remedy: what to change if it does not fit.
        sharing: processes of this machine, each of which needs as much.

    Raises:
        ValueError: more than is available.
    """
    needed, free = sum(parts.values()), free_memory(device, sharing)
    said = f"about {readable(needed)} of memory needed on {device}"
    listed = ", ".join(f"{name} {readable(size)}" for name, size in parts.items())
    if needed > free:
        raise ValueError(f"{said} ({listed}), but {readable(free)} are free: {remedy}")
    rank_zero_info(f"{said}: {listed}")


def activation_bytes(teacher: Teacher) -> int:
    """Bytes one clip's forward and backward hold: the outputs of all layers, and twice the largest again."""
    spec, device = teacher.spec, next(teacher.parameters()).device
    clip = torch.zeros(1, 3, spec.frames, spec.size, spec.size, device=device)
    sizes = layer_bytes(teacher, lambda: teacher(clip))
    return sum(sizes) + 2 * max(sizes)


class Load(NamedTuple):
    """What clips cost in a network, in bytes."""

    kept: int  # of one clip, for the backward pass
    fixed: int  # kept whatever the number of clips
    largest: int  # output of a layer, of one clip
    width: int  # features of a clip, in numbers

    def backward(self, clips: int) -> int:
        """Most that the passes of clips hold: what is kept, and two layers' gradients."""
        return self.fixed + clips * (self.kept + 2 * self.largest)

    def forward(self, clips: int) -> int:
        """Most that a forward pass without gradients holds."""
        return 2 * clips * self.largest


def load_of(net: VideoNet, frames: int, work: Callable[[Tensor], object]) -> Load:
    """Measured with one clip and with two.

    Args:
        net: on the host.
        frames: of a clip.
        work: what is done with clips (N, C, T, H, W), up to the backward pass in question.
    """
    side = net.spec.size
    one, two = (torch.zeros(n, 3, frames, side, side, requires_grad=True) for n in (1, 2))
    kept = [saved_bytes(partial(work, clips), net.parameters()) for clips in (one, two)]
    with torch.no_grad():
        width = net.embed(one).shape[1]
    largest = max(layer_bytes(net, partial(net, one)))
    return Load(kept[1] - kept[0], max(2 * kept[0] - kept[1], 0), largest, width)
