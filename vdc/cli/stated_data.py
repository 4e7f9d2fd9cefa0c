"""The data that a condensed set names: read where it lies, on a stranger's word never imported or made."""

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from vdc.condensed.manifest import MANIFEST
from vdc.data import RealData
from vdc.data.toy import ToyData
from vdc.system.schema import short

READ = {f"{prefix}{cls.__name__}": cls for cls in (RealData, ToyData) for prefix in ("", "vdc.", "vdc.data.")}
TOY = ("train_videos", "test_videos", "video_seed")  # what makes the toy videos, of no use to what is there


def stated_data(manifest: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The data that a set was made from, as a configuration of `RealData`.

    Toy videos are read like any others: only who asks for `ToyData` has them made.

    Args:
        manifest: of the set.
        path: of the set.

    Raises:
        ValueError: the data is of a class of its own, or configured by other than plain values of the right types.
    """
    held = manifest["config"].get("data")
    if held is None:
        return {"class_path": "RealData", "init_args": {"spec": manifest["spec"]}}
    where = path / MANIFEST
    if not isinstance(held, dict) or READ.get(str(held.get("class_path"))) is None:
        found = short(held.get("class_path") if isinstance(held, dict) else held)
        raise ValueError(
            f"{where}: config.data is {found}, and nothing is imported on a set's word: give --data and its options"
        )
    options, toy = held.get("init_args", {}), READ[held["class_path"]] is ToyData
    if not isinstance(options, dict):
        raise ValueError(f"{where}: config.data.init_args: an object is needed, found {short(options)}")
    plain = {name: value for name, value in options.items() if not (toy and name in TOY)}
    known = inspect.signature(RealData).parameters
    for name, value in plain.items():
        if name not in known:
            raise ValueError(f"{where}: config.data.{name[:100]} is no option of RealData")
        try:  # a text where something else is needed, the parser would take for a file to read
            TypeAdapter(known[name].annotation).validate_json(json.dumps(value), strict=True)
        except ValidationError as error:
            told = error.errors()[0]["msg"]
            raise ValueError(f"{where}: config.data.{name}: {told}, found {short(value)}") from None
    if toy:
        plain |= {"train": "train.txt", "test": "test.txt", "format": "list"}
    return {"class_path": "RealData", "init_args": plain}


def check_root(data: RealData, path: Path) -> None:
    """Refuse a set whose videos are not where it says.

    Raises:
        FileNotFoundError: with the flag to give.
    """
    if not isinstance(data, ToyData) and not os.path.isdir(data.root):
        raise FileNotFoundError(
            f"the videos of {path} are not in {data.root}: give --data.root DIR, or --data ToyData --data.root DIR "
            "for the built-in ones"
        )
