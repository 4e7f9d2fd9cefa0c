"""One clear line for whatever the user got wrong, with the nearest right name."""

import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vdc.condensed.memory import Memory
from vdc.data import RealData
from vdc.evaluate.evaluate import evaluate
from vdc.methods import Condenser
from vdc.methods.base.options import Augmentation, Network, RealClips
from vdc.methods.base.prefixes import MultiSize
from vdc.methods.base.preview import Preview
from vdc.spec import ClipSpec
from vdc.system.text import nearest
from vdc.train.experts import pretrain_experts
from vdc.train.protocol import Protocol
from vdc.train.teacher import pretrain

NOISE = re.compile(
    r"Does not validate|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>|Expected a path but"
)
SECTIONS = {
    "model",
    "data",
    "trainer",
    "protocol",
    "checkpoint",
    "preview",
    "multisize",
    "init_args",
    "class_path",
}
FLAGS = {
    "config",
    "ckpt_path",
    "resume",
    "seed_everything",
    "student",
    "seeds",
    "condensed",
    "full",
    "labels",
}
WRONG_NAME = re.compile(
    r"[Oo]ption '(?P<key>[^']+)'|dot import path string: (?P<cls>\w+)|unrecognized arguments: --(?P<flag>\S+)"
)


def at_least(least: int, **given: float) -> None:
    """Refuse an option that is too small.

    Raises:
        ValueError: its name, and what was given.
    """
    for name, value in given.items():
        if value < least:
            raise ValueError(f"--{name.split()[0]} must be at least {least}, got {value}")


def subclasses(cls: type) -> set[type]:
    """`cls` and everything below it that has been imported."""
    return {cls}.union(*map(subclasses, cls.__subclasses__()))


def _of_the_parser(error: BaseException) -> bool:
    """Whether the parser raised it, not vdc."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("jsonargparse")


def explain(
    error: BaseException,
    place: Callable[[str], str] = lambda key: "",
    functions: Sequence[Callable[..., Any]] = (),
) -> str:
    """One line of an error, without the parser's noise and with the nearest right name.

    What the parser has wrapped is unwrapped; what was said on purpose about an error below it is kept.

    Args:
        error: that stopped a command.
        place: says of a key where it was read, if that is known.
        functions: whose parameters may have been meant, beside those of the training commands.
    """
    while isinstance(error.__cause__, ValueError | OSError) and _of_the_parser(error):
        error = error.__cause__
    text = str(error)
    if isinstance(error, OSError) and error.strerror is not None:  # str() would say [Errno 28]
        text = error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    if text.startswith("Caught "):  # in a worker: its traceback ends with class and message
        text = text.strip().splitlines()[-1].split(": ", 1)[-1]
    lines = [re.sub(r"^(- )+", "", line.strip()) for line in text.splitlines()]
    message = " ".join(line for line in lines if line and not NOISE.match(line)) or type(error).__name__
    wrong = WRONG_NAME.search(message)
    keys = re.findall(r'[Pp]arser key "([^"]+)"', message)
    if wrong and (said := wrong["key"] or wrong["flag"]):
        keys.append(said.partition("=")[0])
    message = (place(keys[-1]) if keys else "") + message
    if wrong is None:
        return message
    classes = {c for base in (Condenser, RealData, Memory) for c in subclasses(base)}
    if wrong["cls"]:
        return f"no class {wrong['cls']!r}{nearest(wrong['cls'], {c.__name__ for c in classes})}"
    known: list[Any] = [*classes, Trainer, ModelCheckpoint, Protocol, ClipSpec, evaluate, pretrain]
    known += [MultiSize, Augmentation, Network, RealClips, pretrain_experts, Preview, *functions]
    names = {name for item in known for name in inspect.signature(item).parameters} | SECTIONS | FLAGS
    names -= {"students", "self", "args", "kwargs"}
    parts = (wrong["key"] or wrong["flag"]).split(".")
    odd = next((part for part in parts if part not in names), parts[-1])
    return f"{message}{nearest(odd, names)}"
