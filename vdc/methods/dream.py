"""DREAM: IDC on the real clips that cover their class."""

from typing import Any, Literal

from vdc.methods.idc import IDC
from vdc.spec import ClipSpec


class DREAM(IDC):
    """Dataset distillation by representative matching (Liu 2023, ICCV, arXiv 2302.14416).

    Every 10 steps k-means on the network's features chooses the real clips of the next 10
    (lyq312318224/DREAM@595e3c1). Items start from random clips, the authors' from representatives.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        sampling: as `Classwise`.
        dream_interval: likewise.
        options: see `IDC`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        *,
        sampling: Literal["random", "dream"] = "dream",
        dream_interval: int = 10,
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, sampling=sampling, dream_interval=dream_interval, **options)
