"""Condensation methods: importing a class here is what lets a config name it."""

from vdc.methods.base import Condenser
from vdc.methods.datm import DATM
from vdc.methods.frepo import FRePo
from vdc.methods.gradient import DC, DSA
from vdc.methods.idc import IDC
from vdc.methods.matching import DM, NCFM
from vdc.methods.selection import RDED, Herding, KCenter, Random
from vdc.methods.shard import ShardStrategy
from vdc.methods.static import StaticDC
from vdc.methods.statistics import Statistics
from vdc.methods.trajectory import MTT

__all__ = [
    "DATM",
    "DC",
    "DM",
    "DSA",
    "IDC",
    "MTT",
    "NCFM",
    "RDED",
    "Condenser",
    "FRePo",
    "Herding",
    "KCenter",
    "Random",
    "ShardStrategy",
    "StaticDC",
    "Statistics",
]
