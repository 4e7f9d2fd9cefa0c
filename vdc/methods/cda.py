"""CDA: SRe2L whose crops go from easy to hard."""

from typing import Any

from vdc.methods.sre2l import SRe2L
from vdc.methods.statistics import Curriculum
from vdc.spec import ClipSpec


class CDA(SRe2L):
    """Curriculum data augmentation (Yin 2024, arXiv 2311.18838; VILA-Lab/SRe2L@2e346ff1:CDA).

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        teachers: as `Statistics`; one as published.
        curriculum: as `Statistics`.
        options: see `SRe2L`.
    """

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        teachers: list[str],
        *,
        curriculum: Curriculum = "cosine",
        **options: Any,
    ) -> None:
        super().__init__(num_classes, spec, teachers, curriculum=curriculum, **options)
