"""Real videos: lists, decoding, loaders."""

from vdc.data.real import RealData

__all__ = ["RealData"]
