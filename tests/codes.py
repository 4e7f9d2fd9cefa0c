"""A code of smooth clips: what memories and methods need of one, in a second."""

import torch
import torch.nn.functional as F

from vdc.condensed.code import Law, save_code


def smooth(n, spec, seed=0):
    """Clips (n, 3, T_c, H, W) whose neighbours are alike, as those of videos are."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, -(-spec.stored // 2), -(-spec.size // 4), -(-spec.size // 4), generator=rng)
    clips = F.interpolate(coarse, (spec.stored, spec.size, spec.size), mode="trilinear", align_corners=False)
    return clips + 0.02 * torch.randn(clips.shape, generator=rng)


def make_code(path, spec, clips=None):
    """A code folder, fitted to `clips` or smooth ones."""
    clips = smooth(64, spec, 9) if clips is None else clips
    save_code(path, Law.of(clips.split(10), tuple(clips.shape[2:])), {"key": "k"}, spec)
    return str(path)
