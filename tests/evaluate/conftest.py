"""Fixtures of `small.py`: a tiny network, videos in memory, a condensed set."""

from tests.small import condensed, teacher, tiny, videos

__all__ = ["condensed", "teacher", "tiny", "videos"]
