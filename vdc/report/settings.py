"""What tells two evaluations apart: the settings of their resolved configurations in which they differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vdc.condensed.manifest import MANIFEST
from vdc.report.results import Result
from vdc.system.files import read_json

MOST = 4  # settings that are told; sets that differ in more are named by their folders
PLACES = (  # say where things lie and how fast they are made, not what they are
    "out", "root", "seed", "config", "num_workers", "cache", "cache_gb", "interpolator", "num_classes", "dirpath",
)  # fmt: skip
COLUMNS = ("protocol.name", "protocol.labels")  # stand in columns of their own
TRAINER = ("max_steps", "max_epochs", "precision", "gradient_clip_val", "accumulate_grad_batches")


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Leaves of a configuration by their dotted names; `class_path` names the whole, `init_args` adds nothing."""
    if isinstance(value, list | tuple):
        return {prefix: [basename(one) for one in value]}
    if not isinstance(value, Mapping):
        return {prefix: basename(value)}
    found: dict[str, Any] = {}
    if "class_path" in value:
        found[prefix] = str(value["class_path"]).rpartition(".")[2]
        value = value.get("init_args") or {}
    for name, inner in value.items():
        if name not in PLACES:
            found |= flat(inner, f"{prefix}.{name}" if prefix else name)
    return found


def basename(value: Any) -> Any:
    """The run or list that a path leads to: `rded_grid` of `runs/rded_grid/condensed`; other values as they are."""
    if not isinstance(value, str) or "/" not in value:
        return value
    parts = [part for part in Path(value).parts if part != "condensed"]
    return parts[-1] if parts else value


def config_of(file: str, held: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration that made the condensed set of a result: from the result, else from the set around it."""
    if "config" in held:
        return held["config"] or {}
    for folder in Path(file).parents[:3]:
        if (folder / MANIFEST).is_file():
            manifest = read_json(folder / MANIFEST)
            if isinstance(manifest, dict) and manifest.get("method") == held["method"]:
                return manifest.get("config") or {}
    return {}


def settings_of(file: str, held: Mapping[str, Any]) -> dict[str, Any]:
    """All settings that a result depends on, by dotted names."""
    config = config_of(file, held)
    trainer, labels = config.get("trainer") or {}, held.get("labels") or {}
    found = {**flat(held["protocol"], "protocol"), **flat(held["spec"], "spec")}
    found |= flat({part: config[part] for part in ("model", "data") if part in config})
    found |= {f"trainer.{name}": trainer[name] for name in TRAINER if name in trainer}
    found |= flat({name: labels[name] for name in ("views", "top", "recipe") if name in labels}, "labels")
    found |= {"per_item": held["per_item"]} if "per_item" in held else {}
    found |= {"teacher": held["teacher"]["net"]} if held.get("teacher") else {}
    return found | ({"start": held["condensed_seed"]} if held.get("condensed_seed") is not None else {})


def differences(group: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the settings in which members of a group differ, where they have them at all."""
    names = dict.fromkeys(name for member in group for name in member if name not in COLUMNS)
    found = []
    for name in names:
        values = {repr(member[name]) for member in group if name in member}
        twin = name.removeprefix("data.spec.").removeprefix("model.spec.")
        if len(values) > 1 and not (twin != name and f"spec.{twin}" in names):
            found.append(name)
    return found


def shown(value: Any) -> str:
    """A value in a table: `0.1`, `none`, `yes`, `0.5-1`."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "-".join(map(shown, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def told_apart(results: Sequence[Result], kinds: Sequence[Any]) -> list[str]:
    """Of every result the settings in which it differs from those of its kind: `alpha 0.1, loss kl`.

    Results that differ in nothing, or in too much to be told, are named by the folders of their runs.

    Args:
        results: evaluations.
        kinds: what the columns of a table say of each.
    """
    members: dict[Any, list[int]] = {}
    for number, kind in enumerate(kinds):
        members.setdefault(kind, []).append(number)
    told = [""] * len(results)
    for group in members.values():
        settings = [settings_of(*results[number]) for number in group]
        names = differences(settings) if len(group) > 1 else []
        short = [name.rpartition(".")[2] for name in names]
        names_shown = [
            leaf if short.count(leaf) == 1 else ".".join(name.split(".")[-2:])
            for leaf, name in zip(short, names, strict=True)
        ]
        for number, own in zip(group, settings, strict=True):
            parts = [
                f"{label} {shown(own[name])}"
                for label, name in zip(names_shown, names, strict=True)
                if name in own
            ]
            told[number] = ", ".join(parts) if len(names) <= MOST else folder_of(results[number][0])
        texts = [told[number] for number in group]
        for number in group:
            if texts.count(told[number]) > 1 and len({results[n][0] for n in group}) > 1:
                folder = folder_of(results[number][0])
                told[number] = f"{told[number]}, {folder}" if told[number] else folder
    return told


def folder_of(file: str) -> str:
    """The run's folder: `edc-1` of `runs/edc-1/condensed/evaluations/soft.json`."""
    parts = [part for part in Path(file).parent.parts if part not in ("condensed", "evaluations")]
    return parts[-1] if parts else ""
