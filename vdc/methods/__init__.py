"""Condensation methods: importing a class here is what lets a config name it."""

from vdc.methods.base import Condenser
from vdc.methods.matching import DM, NCFM
from vdc.methods.selection import RDED, Herding, KCenter, Random
from vdc.methods.shard import ShardStrategy
from vdc.methods.statistics import Statistics

__all__ = ["DM", "NCFM", "RDED", "Condenser", "Herding", "KCenter", "Random", "ShardStrategy", "Statistics"]
