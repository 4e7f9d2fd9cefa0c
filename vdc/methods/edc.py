"""EDC: statistics of classes and of the whole set, from real clips."""

from typing import Any

from vdc.methods.statistics import Statistics


class EDC(Statistics):
    """Elucidating the design space of dataset condensation (Shao 2024b, NeurIPS, arXiv 2404.13733).

    `Statistics` half of classes and half of the whole set, averaged over steps: 1000 steps from real clips, crops of
    50 to 100 % (shaoshitong/EDC@80116a79:Branch_full_ImageNet_1k/recover; for videos Chen 2024, re-implemented).

    Args:
        iterations: steps per block.
        options: see `Statistics`.
    """

    def __init__(
        self,
        *args: Any,
        init: str = "real",
        iterations: int = 1000,
        alpha: float = 0.5,
        momentum: float = 0.8,
        crop_scale: tuple[float, float] = (0.5, 1.0),
        **options: Any,
    ) -> None:
        options |= {"init": init, "iterations": iterations}
        options |= {"alpha": alpha, "momentum": momentum, "crop_scale": crop_scale}
        super().__init__(*args, **options)
