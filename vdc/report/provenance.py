"""Where a set or an evaluation comes from: hashes, versions, cost, and the commands that repeat it."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vdc.report.clips import Shown
from vdc.report.tables import size
from vdc.train.protocol import Protocol

POINTS = 200  # of a curve


def about(shown: Shown) -> dict[str, str]:
    """What a set is made of and from, in words."""
    manifest = shown.manifest
    source, cost = manifest.get("source") or {}, manifest.get("cost") or {}
    listed = source.get("train")
    train: dict[str, Any] = listed if isinstance(listed, dict) else {}
    parts = ", ".join(f"{part} {size(count)}" for part, count in shown.nbytes.items() if count)
    told = {
        "method": f"{manifest['method']}, seed {manifest['seed']}",
        "items": f"{manifest['ipc']} per class in {manifest['memory']['class']}, {manifest['per_item']} clip(s) each",
        "clips": shown.frames,
        "bytes": parts,
        "labels": str(manifest["labels"].get("kind", "hard")),
        "cost": ", ".join(f"{name.replace('_', ' ')} {spelled(name, value)}" for name, value in cost.items()),
        "made from": f"{train['videos']} videos, {size(train['bytes'])}" if "bytes" in train else "",
        "list of these": str(train.get("sha256", "")),
        "decoder": str(source.get("decoder", "")),
        "digest of the set": manifest["digest"],
        "versions": ", ".join(f"{name} {number}" for name, number in manifest["versions"].items()),
        "folder": str(shown.path),
    }
    return {name: value for name, value in told.items() if value}


def spelled(name: str, value: Any) -> str:
    """A cost in words: bytes as such, other numbers rounded."""
    if isinstance(value, Mapping):
        return ", ".join(f"{inner} {spelled(inner, number)}" for inner, number in value.items())
    if isinstance(value, int | float) and ("bytes" in name or "memory" in name):
        return size(value)
    return (
        f"{value:,.4g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def fit_command(shown: Shown) -> tuple[str, str]:
    """The command that condenses again, and the configuration it reads, if a command made the set, and it knows it."""
    config = shown.manifest["config"]
    if not config or "python" in config:
        return "", ""
    return "vdc fit --config config.json", json.dumps(config, indent=1)


def evaluate_command(file: str, held: Mapping[str, Any]) -> str:
    """The command that evaluates again, with every setting of the protocol that is not the default."""
    usual = {name: value for name, value in json.loads(json.dumps(asdict(Protocol()))).items()}
    folder = Path(file).parent.parent if Path(file).parent.name == "evaluations" else Path("SET")
    source = ["--full", "--config", "DATA"] if held["ipc"] is None else ["--condensed", str(folder)]
    words = ["vdc", "evaluate", *source, "--student", held["student"], "--seeds", str(len(held["seeds"]))]
    words += ["--seed_everything", str(held["seeds"][0])]
    if held["ipc"] is not None and held.get("stored_ipc", held["ipc"]) != held["ipc"]:
        words += ["--ipc", str(held["ipc"])]
    if held.get("teacher"):
        words += ["--teacher", "TEACHER"]
    if held["net_options"]:
        words += ["--net_options", json.dumps(held["net_options"])]
    if start := held.get("weights"):
        known = start["name"].startswith("torchvision:")
        words += [
            "--weights",
            start["name"] if known else "WEIGHTS",
            *(["--freeze"] if start["frozen"] else []),
        ]
    for name, value in held["protocol"].items():
        if name in usual and value != usual[name] and value is not None:
            words += [f"--protocol.{name}", value if isinstance(value, str) else json.dumps(value)]
    return shlex.join(words)


def fit_losses(folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Losses of a condensation from the TensorBoard log beside its set, by name; steps and values."""
    if not list(folder.parent.glob("events.out.tfevents.*")):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,  # imports much, and only logs need it
    )

    log = EventAccumulator(str(folder.parent), size_guidance={"scalars": POINTS, "images": 1})
    log.Reload()
    tags = [tag for tag in log.Tags()["scalars"] if "loss" in tag]
    return {tag: [(event.step, event.value) for event in log.Scalars(tag)] for tag in tags}
