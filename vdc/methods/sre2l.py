"""SRe2L: clips from noise whose statistics inside a trained network are those of its batch norms."""

from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable

from vdc.methods.statistics import Statistics, Taps


def published_adam(parameters: Any) -> torch.optim.Adam:
    """What SRe2L and CDA have for the pixels: 0.25 and betas 0.5, 0.9."""
    return torch.optim.Adam(parameters, lr=0.25, betas=(0.5, 0.9))


class SRe2L(Statistics):
    """Squeeze, recover and relabel (Yin 2023, NeurIPS; VILA-Lab/SRe2L@8d00cba:SRe2L/recover).

    `Statistics` of the whole set in the norms of one network: 4000 steps from noise, crops of 8 to 100 %.

    Args:
        optimizer: of one block's parameters.
        iterations: steps per block.
        options: see `Statistics`.
    """

    def __init__(
        self,
        *args: Any,
        optimizer: OptimizerCallable = published_adam,
        init: str = "noise",
        iterations: int = 4000,
        taps: Taps = "norm",
        alpha: float = 1.0,
        momentum: float = 0.0,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        **options: Any,
    ) -> None:
        options |= {"optimizer": optimizer, "init": init, "iterations": iterations, "taps": taps}
        options |= {"alpha": alpha, "momentum": momentum, "crop_scale": crop_scale}
        super().__init__(*args, **options)
