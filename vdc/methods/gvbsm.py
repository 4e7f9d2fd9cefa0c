"""G-VBSM: statistics of several networks, of convolutions and grid cells too."""

from typing import Any

from vdc.methods.statistics import Statistics
from vdc.spec import ClipSpec


class GVBSM(Statistics):
    """Generalized various backbone and statistical matching (Shao 2024a, CVPR; without its data densification).

    `Statistics` of the whole set in norms, convolutions and grid cells of several networks, one per step
    (shaoshitong/G_VBSM_Dataset_Condensation@1ed80b0): 4000 steps from noise, crops of 8 to 100 %.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        teachers: as `Statistics`; several as published.
        init: as `Learner`; noise as published.
        iterations: steps per block.
        alpha: as `Statistics`; 1, the whole set alone, as published.
        patch: as `Statistics`.
        crop_scale: as `Statistics`.
        options: see `Statistics`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        teachers: list[str],
        *,
        init: str = "noise",
        iterations: int = 4000,
        alpha: float = 1.0,
        patch: bool = True,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        **options: Any,
    ) -> None:
        options |= {"init": init, "iterations": iterations}
        options |= {"alpha": alpha, "patch": patch, "crop_scale": crop_scale}
        super().__init__(num_classes, spec, teachers, **options)
