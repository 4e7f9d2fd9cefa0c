"""Results of an evaluation on disk: per seed as soon as there are any, and one summary over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vdc.evaluate.stored import SeedResult, read_result
from vdc.nets import settings
from vdc.nets.weights import Found, start_key
from vdc.spec import ClipSpec
from vdc.system.files import digest, sweep, write_json
from vdc.system.processes import first_process
from vdc.system.resume import claim, drop_checkpoints
from vdc.system.versions import versions
from vdc.train.protocol import Protocol

FORMAT = "vdc evaluation"
Made = Literal["plain", "joined", "multi-size"]
SCORES = ("top1", "top5", "still_top1", "still_top5")  # percent; still: of the middle frame, repeated
ORDERS = (
    "reversed_top1",
    "reversed_top5",
    "shuffled_top1",
    "shuffled_top5",
)  # of frames, unknown before version 0.3


def student_of(held: Mapping[str, Any]) -> str:
    """The network of an evaluation, with what is not the default: `minic3d, norm in`, `r3d_18, weights x.pth`."""
    defaults = settings(held["student"])
    unusual = {name: value for name, value in held["net_options"].items() if value != defaults.get(name)}
    words = [f"{name} {value}" for name, value in sorted(unusual.items())]
    if weights := held.get("weights"):
        words.append(f"weights {weights['name']}" + (", frozen" if weights["frozen"] else ""))
    return ", ".join([held["student"], *words])


@dataclass(frozen=True)
class Task:
    """A network to be trained with several seeds on one thing, and where its results are.

    Args:
        student: name of the network.
        net_options: its further arguments.
        protocol: with labels and loss decided.
        spec: clip shapes.
        about: of the data, for readers of the results.
        identity: of the data, to know results again.
        folder: of all results.
        name: of these; `None` makes one.
        processes: that train a student together: each normalises by its own share of a batch and draws its own
            dropout, so that scores differ from those of one process.
        weights: that the network starts from; `None` starts afresh.
    """

    student: str
    net_options: dict[str, Any]
    protocol: Protocol
    spec: ClipSpec
    about: dict[str, Any]
    identity: dict[str, Any]
    folder: Path
    name: str | None = None
    processes: int = 1
    weights: Found | None = None

    @property
    def key(self) -> str:
        """Hash of everything a score depends on, except the seed."""
        spec = {name: value for name, value in asdict(self.spec).items() if name != "interpolator"}
        parts: list[Any] = [self.student, self.net_options, asdict(self.protocol), spec, self.identity]
        parts += [self.processes] if self.processes > 1 else []
        return digest(parts if self.weights is None else [*parts, start_key(self.weights.about)], 16)

    @property
    def title(self) -> str:
        """Name of the results."""
        parts = (self.student, self.protocol.name, self.protocol.labels, self.key[:6])
        return self.name or "-".join(str(part) for part in parts)

    @property
    def work(self) -> Path:
        """Folder of the seeds: results, TensorBoard logs, checkpoints of unfinished ones."""
        return self.folder / self.title

    def finished(self) -> dict[int, dict[str, Any]]:
        """Results of the seeds that are done, by seed.

        Raises:
            ValueError: the name is taken by results of something else.
        """
        if self.work.exists():
            claim(self.work / "key.json", self.key, "results of another set, protocol or network", "--name")
        files = self.work.glob("seed*/result.json")
        found = [result for path in files if (result := read_result(path, SeedResult)) is not None]
        for result in found if first_process() else ():  # a kill may have come between the end and this
            drop_checkpoints(self.work / f"seed{result['seed']}")
        return {result["seed"]: result for result in sorted(found, key=lambda result: int(result["seed"]))}

    def open(self, seed: int) -> Path:
        """The folder of a seed's run."""
        folder = self.work / f"seed{seed}"
        if first_process():
            folder.mkdir(parents=True, exist_ok=True)
            for place in (self.folder, self.work, folder):
                sweep(place)
            claim(self.work / "key.json", self.key, "results of another set, protocol or network", "--name")
        return folder

    def close(self, seed: int, outcome: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Store what a run found, and drop its checkpoint."""
        result = {"seed": seed, **outcome, "seconds": round(seconds, 2)}
        if first_process():
            folder = self.work / f"seed{seed}"
            write_json(folder / "result.json", result)
            drop_checkpoints(folder)
        return result

    def _start(self, run: dict[str, Any]) -> dict[str, Any]:
        """What is said of the weights that networks started from, in one run as in all."""
        if self.weights is None:
            return {}
        return {"weights": self.weights.about | {"last_layer": run["last_layer"]}}

    def summarise(self, runs: dict[int, dict[str, Any]], with_checks: bool) -> dict[str, Any]:
        """Write and return the summary of all runs.

        Args:
            runs: results by seed.
            with_checks: the test set was looked at during training, as the published habit does.
        """
        every = [runs[seed] for seed in sorted(runs)]
        cost = self.about["bytes"]
        summary = {
            "format": FORMAT,
            "version": 1,
            "name": self.title,
            **self.about,
            "bytes": {**cost, "total": sum(cost.values())},
            "student": self.student,
            "net_options": self.net_options,
            **self._start(every[0]),
            "spec": asdict(self.spec),
            "protocol": asdict(self.protocol),
            "processes": self.processes,
            "unit": "percent",
            "seeds": [run["seed"] for run in every],
            **{score: spread([run[score] for run in every]) for score in SCORES},
            **{score: spread(known) for score in ORDERS if (known := optional(score, every, {})) is not None},
            "reference_best": reference_best(every) if with_checks else None,
            "per_class": per_class_means(self.about["classes"], every),
            "confusion": torch.tensor([run["confusion"] for run in every]).sum(0).tolist(),
            "test_videos": every[0]["videos"],
            **{name: optional(name, every) for name in ("steps", "final_loss", "correct", "curve", "checks")},
            "seconds": spread([run["seconds"] for run in every]),
            "versions": versions(),
            "key": self.key,
        }
        if first_process():
            write_json(self.folder / f"{self.title}.json", summary)
        return summary


def optional(name: str, runs: Sequence[dict[str, Any]], missing: Any = None) -> list[Any] | None:
    """What every run holds under a name, `None` where one was made by a version that knew it not.

    Args:
        name: of the field.
        runs: of all seeds.
        missing: what stands for a run without the field.
    """
    found = [run.get(name, missing) for run in runs]
    return None if missing in found else found


def reference_best(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The published habit: the best of each run's last looks at the test set. Never the primary number."""
    looks = [[*run["checks"], run] for run in runs]
    best = {score: [[look[score] for look in run] for run in looks] for score in ("top1", "top5")}
    return {
        score: spread([None if None in run else max(run) for run in every]) for score, every in best.items()
    }


def per_class_means(classes: Sequence[str], runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Mean accuracy of every class over runs, `None` without test videos."""
    columns = zip(*(run["per_class"] for run in runs), strict=True)
    means = [None if None in column else round(statistics.fmean(column), 4) for column in columns]
    return dict(zip(classes, means, strict=True))


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean and sample standard deviation (`None` of one value, or without values), and the values themselves."""
    known = [value for value in values if value is not None]
    mean = round(statistics.fmean(known), 4) if known else None
    deviation = round(statistics.stdev(known), 4) if len(known) > 1 else None
    return {"mean": mean, "std": deviation, "values": list(values)}


def made(manifest: dict[str, Any]) -> Made:
    """How a condensed set came to have several sizes."""
    learnt = manifest.get("learnt", {})
    return "multi-size" if "multisize" in learnt else "joined" if "joined" in learnt else "plain"
