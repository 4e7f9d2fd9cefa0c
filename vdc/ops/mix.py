"""CutMix for clips: one box through all frames."""

from random import Random

import torch
from torch import Tensor


def cutmix(
    clips: Tensor, labels: Tensor, generator: torch.Generator, alpha: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Paste a box of other clips of the batch; the box is the same for all frames and clips.

    Yun 2019, alg. A1: the kept share is Beta(alpha, alpha), the box centred anywhere, cut at borders; as in
    MCG-NJU/Video-DC@d51660d8:rded/validation/utils.py.

    Args:
        clips: (N, C, T, H, W).
        labels: (N,) int64, or (N, K).
        generator: on the CPU.
        alpha: of the Beta distribution, > 0.

    Returns:
        mixed clips (N, C, T, H, W); labels of the pasted clips, shaped like `labels`; share of the pixels
        that a clip keeps, scalar in [0, 1].
    """
    height, width = clips.shape[3:]
    order = torch.randperm(len(clips), generator=generator).to(clips.device, non_blocking=True)
    seed = int(torch.randint(2**62, (), generator=generator))
    dice = Random(seed)  # torch draws from Beta without taking a generator
    side = (1 - dice.betavariate(alpha, alpha)) ** 0.5
    y, x = dice.randrange(height), dice.randrange(width)
    tall, wide = int(height * side), int(width * side)
    top, bottom = max(y - tall // 2, 0), min(y + tall // 2, height)
    left, right = max(x - wide // 2, 0), min(x + wide // 2, width)
    mixed = clips.clone()
    mixed[..., top:bottom, left:right] = clips[..., top:bottom, left:right][order]
    kept = torch.tensor(1 - (bottom - top) * (right - left) / (height * width))
    return mixed, labels[order], kept.to(clips.device, non_blocking=True)
