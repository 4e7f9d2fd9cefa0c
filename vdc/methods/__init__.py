"""Condensation methods: importing a class here is what lets a config name it."""

from vdc.methods.base.condenser import Condenser
from vdc.methods.base.features import FeatureMatching
from vdc.methods.base.learner import Learner
from vdc.methods.base.selection import Selection
from vdc.methods.base.shard import ShardStrategy
from vdc.methods.cda import CDA
from vdc.methods.datm import DATM
from vdc.methods.dc import DC, DSA
from vdc.methods.dm import DM
from vdc.methods.dream import DREAM
from vdc.methods.edc import EDC
from vdc.methods.frepo import FRePo
from vdc.methods.gvbsm import GVBSM
from vdc.methods.idc import IDC
from vdc.methods.mtt import MTT
from vdc.methods.ncfm import NCFM
from vdc.methods.selection import CAD, RDED, Confidence, Herding, KCenter, Random
from vdc.methods.sre2l import SRe2L
from vdc.methods.static_dc import StaticDC
from vdc.methods.statistics import Statistics

__all__ = [
    "CAD",
    "CDA",
    "DATM",
    "DC",
    "DM",
    "DREAM",
    "DSA",
    "EDC",
    "GVBSM",
    "IDC",
    "MTT",
    "NCFM",
    "RDED",
    "Condenser",
    "Confidence",
    "FRePo",
    "FeatureMatching",
    "Herding",
    "KCenter",
    "Learner",
    "Random",
    "SRe2L",
    "Selection",
    "ShardStrategy",
    "StaticDC",
    "Statistics",
]
