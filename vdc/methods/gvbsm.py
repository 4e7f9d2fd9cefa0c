"""G-VBSM: statistics of several networks, of convolutions and grid cells too."""

from typing import Any

from vdc.methods.statistics import Statistics


class GVBSM(Statistics):
    """Generalized various backbone and statistical matching (Shao 2024a, CVPR; without its data densification).

    `Statistics` of the whole set in norms, convolutions and grid cells of several networks, one per step
    (shaoshitong/G_VBSM_Dataset_Condensation@1ed80b0): 4000 steps from noise, crops of 8 to 100 %.

    Args:
        iterations: steps per block.
        options: see `Statistics`.
    """

    def __init__(
        self,
        *args: Any,
        init: str = "noise",
        iterations: int = 4000,
        alpha: float = 1.0,
        patch: bool = True,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        **options: Any,
    ) -> None:
        options |= {"init": init, "iterations": iterations}
        options |= {"alpha": alpha, "patch": patch, "crop_scale": crop_scale}
        super().__init__(*args, **options)
