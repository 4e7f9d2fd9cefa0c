"""CDA: SRe2L whose crops go from easy to hard."""

from typing import Any

from vdc.methods.sre2l import SRe2L
from vdc.methods.statistics import Curriculum


class CDA(SRe2L):
    """Curriculum data augmentation (Yin 2024, arXiv 2311.18838; VILA-Lab/SRe2L@2e346ff1:CDA).

    Args:
        options: see `SRe2L`.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: Curriculum = "cosine",
        **options: Any,
    ) -> None:
        super().__init__(*args, curriculum=curriculum, **options)
