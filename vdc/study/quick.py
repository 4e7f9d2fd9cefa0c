"""A study of a folder of videos that nobody configured: sizes from the videos, steps from the minutes."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vdc.data.doctor import Diagnosis
from vdc.data.settle import Settled
from vdc.evaluate.quick import BATCH, seconds_per_clip
from vdc.nets import build
from vdc.spec import ClipSpec

METHOD = "dm"  # it needs no teacher or experts, and its random networks are those that the students are
FRAMES = 8
SIZES = (48, 56)  # MiniC3D needs 43 px
GAP = 0.5  # seconds between two frames of a clip at most: more, and motion is no longer seen
START = 10.0  # seconds until a step's process has imported everything and built its networks
TEST = 1 / 3  # cost of testing a clip over that of training on it
LOOKS = 6  # passes over the test clips per student: two checks, the last test, three probes
SHARES = {"full": 0.5, METHOD: 0.25, "sets": 0.25}  # of the time that training gets
MOST_STEPS, LEAST_STEPS = 200, 5  # of the method; dm_grid.yaml
FULL_CLIPS = 9000  # that the full-data bound sees: 12 epochs of GRID's 750, after which it learns little more
PACK = 2  # clips per side of an item: random ones of GRID then teach 56 % instead of 27, docs/results/matching.md


@dataclass(frozen=True)
class Choice:
    """How a set is condensed and evaluated.

    Args:
        spec: of clips.
        ipc: items per class.
        factor: an item is this squared clips, of as much less side.
        students: trained on every set.
        per_class: real clips of each class that the method compares with at every step.
        steps: of the method.
        epochs: of students on condensed sets.
        full_epochs: of those on all training videos.
        seconds: that all of it is expected to take.
        memory: bytes of decoded frames that are kept.
        set_bytes: of one condensed set.
    """

    spec: ClipSpec
    ipc: int
    factor: int
    students: int
    per_class: int
    steps: int
    epochs: int
    full_epochs: int
    seconds: float
    memory: int
    set_bytes: int

    @property
    def learns(self) -> bool:
        """Whether the minutes leave students on condensed sets half of the epochs that they learn in."""
        return 2 * self.epochs >= most_epochs(self.factor**2 * self.ipc)


def most_epochs(clips: int) -> int:
    """Epochs of students on so many clips per class, after which they learn little more."""
    return math.ceil(75 * (1 + clips) / clips)


def clip_spec(found: Diagnosis) -> ClipSpec:
    """Shapes of clips: size so that no frame is enlarged, stride so that eight frames span most videos."""
    sides = [min(map(int, size.split(" x "))) for size, n in found.sizes.items() for _ in range(n)]
    size = max((s for s in SIZES if 8 * s <= 7 * statistics.median(sides)), default=SIZES[0])
    rates = [float(rate) for rate, n in found.rates.items() for _ in range(n)]
    longest = max(1, round(GAP * statistics.median(rates))) if rates else FRAMES
    stride = (int(found.frames[1]) - 1) // (FRAMES - 1)
    return ClipSpec(frames=FRAMES, size=size, stride=min(max(stride, 1), longest))


def item_bytes(spec: ClipSpec) -> int:
    """Bytes of one stored item: one per value."""
    return 3 * spec.stored * spec.size**2


def items(settled: Settled, spec: ClipSpec, ipc: int | None, budget: int | None) -> int:
    """Items per class: as asked, as many as the bytes hold, or a tenth of the smallest class, at most five.

    Raises:
        ValueError: more than a class has videos, or fewer bytes than one item per class takes.
    """
    fewest = min(settled.counts)
    if ipc is not None:
        if not 1 <= ipc <= fewest:
            name = settled.classes[settled.counts.index(fewest)]
            raise ValueError(
                f"--ipc {ipc}: must be from 1 to {fewest}, the training videos of class {name!r}"
            )
        return ipc
    if budget is not None:
        least = len(settled.classes) * item_bytes(spec)
        if budget < least:
            raise ValueError(
                f"--budget {budget / 1e6:.3g}MB is too small: one item for each of {len(settled.classes)} classes is "
                f"{math.ceil(least / 1e4) / 100:.2f}MB ({spec.stored} frames of {spec.size} px)"
            )
        return min(budget // least, fewest)
    return max(1, min(5, fewest // 10))


def student_seconds(spec: ClipSpec, classes: int) -> float:
    """Measured: seconds that training the study's student on one clip takes here and now."""
    return seconds_per_clip(build("minic3d", classes, spec, norm="in", width=0.5, dropout=0.0), spec)


def choose(
    found: Diagnosis,
    settled: Settled,
    spec: ClipSpec,
    ipc: int,
    minutes: float,
    per_clip: float,
    looking: float,
) -> Choice:
    """Epochs and steps that fit the minutes; with too few of these, the least that can be done.

    Args:
        found: what the videos are.
        settled: its parts.
        spec: of clips.
        ipc: items per class.
        minutes: that all may take.
        per_clip: seconds of training on one clip.
        looking: seconds of decoding every video once.
    """
    classes, trains = len(settled.classes), sum(settled.counts)
    students = 3 if minutes >= 5 else 1
    per_class = min(8, *settled.counts)
    test = TEST * per_clip
    fixed = 5 * START + 4 * looking + 3 * students * LOOKS * settled.tests * test
    left = max(60 * minutes - fixed, 0.0)
    factor = PACK if min(settled.counts) >= PACK**2 * ipc else 1
    each = factor**2 * ipc
    stored = classes * each
    epochs = _fitting(left * SHARES["sets"], 2 * students * stored * per_clip, most_epochs(each))
    one_step = classes * (per_class * TEST + each) * per_clip
    steps = max(LEAST_STEPS, _fitting(left * SHARES[METHOD], one_step, MOST_STEPS))
    one_epoch = students * trains * per_clip
    full = _fitting(left * SHARES["full"], one_epoch, math.ceil(FULL_CLIPS / trains))
    seconds = fixed + epochs * 2 * students * stored * per_clip + steps * one_step + full * one_epoch
    side = round(8 / 7 * spec.size)
    memory = int(found.frames[1] * (trains + settled.tests) * 3 * side**2)
    return Choice(
        spec,
        ipc,
        factor,
        students,
        per_class,
        steps,
        epochs,
        full,
        seconds,
        memory,
        classes * ipc * item_bytes(spec),
    )


def _fitting(seconds: float, each: float, most: int) -> int:
    """How many of something fit, at least one."""
    return max(1, min(most, int(seconds / each)))


def study_text(settled: Settled, chosen: Choice, heading: str, comments: Sequence[str]) -> str:
    """The study file: Random, the method and the full-data bound."""
    data: dict[str, Any] = {
        "root": settled.root,
        "train": settled.train,
        "test": settled.test,
        "spec.size": chosen.spec.size,
        "spec.stride": chosen.spec.stride,
    }
    if settled.skips:
        data["on_bad_clip"] = "skip"
    stored: dict[str, Any] = {"model.ipc": chosen.ipc}
    if chosen.factor > 1:
        stored |= {"model.memory": "MultiFormation", "model.memory.factor": chosen.factor}
    short: dict[str, Any] = {"protocol.batch_size": BATCH, "protocol.epochs": chosen.epochs}
    study = {
        "version": 1,
        "title": heading,
        "source": "ours",
        "fixed": (
            f"{len(settled.classes)} classes, {sum(settled.counts)} training and {settled.tests} test videos; "
            f"{chosen.spec.frames} frames (stride {chosen.spec.stride}) of {chosen.spec.size} px; half-width MiniC3D "
            "with instance norm, hard labels"
        ),
        "claim": "the learnt set teaches more than random clips of as many bytes, and less than all videos",
        "axes": {"set": ["random", METHOD, "full"]},
        "data": data,
        "steps": {
            "random": {"run": "fit", "config": ["random_grid"], "flags": stored},
            "fit": {"run": "fit", "config": ["{set}_grid"], "flags": stored},
            "evaluate": {
                "run": "evaluate",
                "config": ["protocol_grid_in"],
                "flags": {"condensed": "@fit", "labels": "hard", **short},
            },
        },
        "rules": [
            {
                "when": {"set": METHOD},
                "steps": {
                    "fit": {
                        "flags": {
                            "model.init": "@random",
                            "model.iterations": chosen.steps,
                            "data.per_class": chosen.per_class,
                        }
                    }
                },
            },
            {
                "when": {"set": "full"},
                "steps": {
                    "evaluate": {
                        "config": ["protocol_grid_in", "data_grid"],
                        "flags": {
                            "full": True,
                            "condensed": None,
                            "labels": None,
                            "protocol.epochs": chosen.full_epochs,
                            "protocol.zeta": 1,
                        },
                    }
                },
            },
        ],
        "seeds": {"students": chosen.students},
        "table": {
            "rows": ["set"],
            "names": {"random": "Random", METHOD: METHOD.upper(), "full": "full data"},
        },
    }
    told = "".join(f"# {line}\n" for line in comments)
    return told + yaml.safe_dump(study, sort_keys=False, allow_unicode=True, width=110)
