"""Real videos: lists, decoding, loaders; and toy ones that make themselves."""

from vdc.data.real import RealData
from vdc.data.toy import ToyData

__all__ = ["RealData", "ToyData"]
