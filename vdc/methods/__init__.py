"""Condensation methods: importing a class here is what lets a config name it."""

from vdc.methods.base.condenser import Condenser
from vdc.methods.base.shard import ShardStrategy
from vdc.methods.datm import DATM
from vdc.methods.dc import DC, DSA
from vdc.methods.dm import DM
from vdc.methods.frepo import FRePo
from vdc.methods.idc import IDC
from vdc.methods.mtt import MTT
from vdc.methods.ncfm import NCFM
from vdc.methods.selection import RDED, Herding, KCenter, Random
from vdc.methods.static_dc import StaticDC
from vdc.methods.statistics import Statistics

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
