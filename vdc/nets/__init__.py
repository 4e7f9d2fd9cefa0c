"""Networks: every one by its name, trained ones as frozen teachers, and the tensors inside them."""

from vdc.nets.base import Scheme, VideoNet, channels_last, in_parts
from vdc.nets.teacher import Teacher, load_teacher, save_teacher, taps
from vdc.nets.zoo import build, names, settings

__all__ = [
    "Scheme",
    "Teacher",
    "VideoNet",
    "build",
    "channels_last",
    "in_parts",
    "load_teacher",
    "names",
    "save_teacher",
    "settings",
    "taps",
]
