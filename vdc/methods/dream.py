"""DREAM: IDC on the real clips that cover their class."""

from typing import Any

from vdc.methods.base.options import RealClips
from vdc.methods.idc import IDC

REPRESENTATIVE = RealClips("dream", interval=10)


class DREAM(IDC):
    """Dataset distillation by representative matching (Liu 2023, ICCV, arXiv 2302.14416).

    Every 10 steps k-means on the network's features chooses the real clips of the next 10
    (lyq312318224/DREAM@595e3c1). Items start from random clips, the authors' from representatives.

    Args:
        options: see `IDC`.
    """

    def __init__(
        self,
        *args: Any,
        real: RealClips = REPRESENTATIVE,
        **options: Any,
    ) -> None:
        super().__init__(*args, real=real, **options)
