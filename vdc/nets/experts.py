"""Expert trajectories: every parameter of trained networks at the start and after each epoch, on disk.

A folder of experts holds `experts.json` (what they have in common) and, per expert, `expert_0000.safetensors`
(`theta`, (epochs + 1, D): all parameters in one row per snapshot; `buffers`, of the last epoch) and
`expert_0000.json` (accuracy, hash). Processes that train different experts into one folder share no file but
`experts.json`, which each would write alike.
"""

import json
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vdc.nets.base import VideoNet
from vdc.nets.stored import StoredExpert, StoredExperts
from vdc.nets.zoo import build
from vdc.ops.unroll import Layout
from vdc.spec import MEAN, STD, ClipSpec
from vdc.system.files import sha256, write_json
from vdc.system.schema import made_of, plain_file, read_fields

COMMON = "experts.json"
FORMAT = 1
Precision = Literal["fp32", "fp16"]
DTYPES: dict[Precision, tuple[torch.dtype, str, int]] = {
    "fp32": (torch.float32, "F32", 4),
    "fp16": (torch.float16, "F16", 2),
}


def weights_file(folder: str | Path, number: int) -> Path:
    """Snapshots of an expert."""
    return Path(folder) / f"expert_{number:04d}.safetensors"


def info_file(folder: str | Path, number: int) -> Path:
    """What an expert scored; there once it is finished."""
    return Path(folder) / f"expert_{number:04d}.json"


def flat_buffers(net: VideoNet) -> Tensor:
    """All buffers in one vector (B,) float32 on the host: running statistics, where a network has them."""
    parts = [b.detach().float().cpu().reshape(-1) for b in net.buffers()]
    return torch.cat(parts) if parts else torch.zeros(0)


def flat_parameters(net: VideoNet) -> Tensor:
    """A copy of all parameters in one vector theta (D,) on the host, in the order of `Layout`."""
    return Layout.of(net).flatten({name: p.detach() for name, p in net.named_parameters()}).cpu()


def snapshot_bytes(net: VideoNet, precision: Precision) -> int:
    """Bytes of one snapshot."""
    return sum(p.numel() for p in net.parameters()) * DTYPES[precision][2]


class Recorder:
    """The snapshots of an expert that is being trained: a safetensors file, written row by row in place.

    The file has its full size from the start, so host memory never holds more than one snapshot, and a
    resumed training goes on in the same file.

    Args:
        path: of the file, kept if it is one of this network, number of epochs and precision.
        net: the network.
        epochs: snapshots after the first.
        precision: of the stored parameters.
    """

    def __init__(self, path: Path, net: VideoNet, epochs: int, precision: Precision) -> None:
        self.path = path
        self.epochs = epochs
        self.precision = precision
        layout = {name: list(shape) for name, shape in Layout.of(net).shapes.items()}
        held, row = 4 * flat_buffers(net).numel(), snapshot_bytes(net, precision)
        end = held + (epochs + 1) * row
        width = DTYPES[precision][2]
        fields = {
            "__metadata__": {"layout": json.dumps(layout)},
            "buffers": {"dtype": "F32", "shape": [held // 4], "data_offsets": [0, held]},
            "theta": {
                "dtype": DTYPES[precision][1],
                "shape": [epochs + 1, row // width],
                "data_offsets": [held, end],
            },
        }
        text = json.dumps(fields).encode()
        text += b" " * (-len(text) % 8)
        header = struct.pack("<Q", len(text)) + text
        self._buffers = len(header)
        self._theta = len(header) + held
        self._row = row
        if not self._is(header, len(header) + end):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.write(header)
                file.truncate(len(header) + end)

    def _is(self, header: bytes, size: int) -> bool:
        """Whether the file is one that this recorder would have made."""
        if not self.path.is_file() or self.path.stat().st_size != size:
            return False
        with self.path.open("rb") as file:
            return file.read(len(header)) == header

    def write(self, epoch: int, net: VideoNet) -> None:
        """Store the parameters after `epoch` epochs, and the buffers in place of earlier ones.

        Raises:
            ValueError: a parameter is not finite in the stored precision.
        """
        theta = flat_parameters(net).to(DTYPES[self.precision][0])
        if not torch.isfinite(theta).all():
            raise ValueError(
                f"parameters after epoch {epoch} are not finite in {self.precision}: "
                "lower protocol.lr, or set --snapshots fp32"
            )
        with self.path.open("r+b") as file:
            for place, values in (
                (self._theta + epoch * self._row, theta),
                (self._buffers, flat_buffers(net)),
            ):
                file.seek(place)
                file.write(values.numpy().data)

    def finish(self, folder: str | Path, number: int, info: Mapping[str, Any]) -> dict[str, Any]:
        """Move the file into the folder of experts and write what it is; the expert then counts."""
        full = {**info, "bytes": self.path.stat().st_size, "sha256": sha256(self.path)}
        os.replace(self.path, weights_file(folder, number))
        write_json(info_file(folder, number), full)
        return full


def describe(
    net: VideoNet, classes: list[str], epochs: int, precision: Precision, recipe: Mapping[str, Any]
) -> dict[str, Any]:
    """What `experts.json` holds: what all experts of a folder have in common."""
    return {
        "format": FORMAT,
        "net": net.name,
        "options": net.options,
        "num_classes": net.num_classes,
        "classes": classes,
        "spec": asdict(net.spec),
        "mean": MEAN,
        "std": STD,
        "epochs": epochs,
        "precision": precision,
        "parameters": sum(p.numel() for p in net.parameters()),
        "recipe": recipe,
    }


class Experts:
    """Finished experts of a folder; snapshots are read one at a time, when asked for.

    Args:
        path: the folder.
        common: what `experts.json` holds.
        numbers: of the finished experts.
    """

    def __init__(self, path: Path, common: dict[str, Any], numbers: list[int]) -> None:
        self.path, self.numbers = path, numbers
        self.name: str = common["net"]
        self.options: dict[str, Any] = common["options"]
        self.classes: list[str] = common["classes"]
        self.spec, self.epochs = ClipSpec(**common["spec"]), int(common["epochs"])

    def __len__(self) -> int:
        """Finished experts."""
        return len(self.numbers)

    def build(self) -> VideoNet:
        """A fresh network like the experts."""
        return build(self.name, len(self.classes), self.spec, **self.options)

    def snapshot(self, expert: int, epoch: int) -> Tensor:
        """Parameters (D,) float32 of the `expert`-th finished one after `epoch` epochs; no more is read."""
        return self._row(expert, epoch).float()

    def trained(self, expert: int) -> VideoNet:
        """The `expert`-th finished one as it was after the last epoch, in eval mode."""
        net = self.build()
        parameters = Layout.of(net).unflatten(self.snapshot(expert, self.epochs))
        with safe_open(weights_file(self.path, self.numbers[expert]), "pt") as file:
            held = file.get_tensor("buffers")
        buffers = dict(net.named_buffers())
        parts = held.split([b.numel() for b in buffers.values()])
        buffers = {
            name: part.view(b.shape).to(b.dtype)
            for (name, b), part in zip(buffers.items(), parts, strict=True)
        }
        net.load_state_dict({**parameters, **buffers}, strict=False)  # strict: some buffers are not stored
        return net.eval().requires_grad_(False)

    def _row(self, expert: int, epoch: int) -> Tensor:
        if not 0 <= epoch <= self.epochs:
            raise ValueError(f"snapshot {epoch} asked of experts of {self.epochs} epochs")
        with safe_open(weights_file(self.path, self.numbers[expert]), "pt") as file:
            row: Tensor = file.get_slice("theta")[epoch]
        return row


def load_experts(
    path: str | Path,
    classes: list[str] | None = None,
    spec: ClipSpec | None = None,
    net: str | None = None,
    epochs: int = 1,
) -> Experts:
    """The finished experts of a folder.

    Args:
        path: the folder.
        classes: names the data has, in label order; `None` checks nothing.
        spec: clips they will be shown; `None` checks nothing.
        net: name of the network they must be; `None` takes any.
        epochs: they must have been trained for.

    Raises:
        FileNotFoundError: there are none, with the command that trains some.
        ValueError: another network, class list, frames or size; too few epochs; a damaged file.
    """
    path = Path(path)
    if not (path / COMMON).is_file():
        raise FileNotFoundError(
            f"no experts in {path}: {COMMON} is missing; train some with `vdc pretrain --experts 10 "
            f"--out {path} ...` on the same data, or name the folder of others"
        )
    common = read_fields(path / COMMON, StoredExperts, ("format", FORMAT))
    numbers = sorted(int(p.stem[7:]) for p in path.glob("expert_[0-9][0-9][0-9][0-9].json"))
    experts = made_of(lambda: Experts(path, common, numbers), path / COMMON)
    if not numbers:
        raise FileNotFoundError(
            f"no finished expert in {path}: go on with the `vdc pretrain` that began them"
        )
    _check_kind(experts, classes, spec, net)
    if experts.epochs < epochs:
        raise ValueError(
            f"experts {path} were trained for {experts.epochs} epochs, {epochs} are needed: lower "
            "max_start_epoch or expert_epochs, or train longer ones"
        )
    layout = Layout.of(made_of(experts.build, path / COMMON))
    for number in numbers:
        _check_file(path, number, layout, experts.epochs)
    return experts


def _check_kind(experts: Experts, classes: list[str] | None, spec: ClipSpec | None, net: str | None) -> None:
    """Refuse experts of another network, class list, or clips."""
    path, mine, known = experts.path, experts.spec, experts.classes
    if net is not None and net != experts.name:
        raise ValueError(f"experts {path} are of net {experts.name!r}, not {net!r}")
    if classes is not None and len(classes) != len(known):
        raise ValueError(
            f"experts {path} know {len(known)} classes, the data has {len(classes)}: train others on it"
        )
    for label, (theirs, ours) in enumerate(zip(known, classes or known, strict=True)):
        if theirs != ours:
            raise ValueError(
                f"experts {path} have another class list: class {label} is {theirs!r} there, {ours!r} in "
                "the data"
            )
    if spec is not None and (spec.frames, spec.size) != (mine.frames, mine.size):
        raise ValueError(
            f"experts {path} were trained on {mine.frames} frames of {mine.size} px, the data has "
            f"{spec.frames} of {spec.size} px: train others, or change spec.frames and spec.size"
        )


def _check_file(path: Path, number: int, layout: Layout, epochs: int) -> None:
    """Refuse a file that is missing, cut short, or of other parameters."""
    file, info = weights_file(path, number), read_fields(info_file(path, number), StoredExpert)
    expected = {name: list(shape) for name, shape in layout.shapes.items()}
    try:
        with safe_open(plain_file(file), "pt") as opened:
            found = json.loads(opened.metadata()["layout"])
            shape = opened.get_slice("theta").get_shape()
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{file} is missing or damaged ({error}): remove {info_file(path, number)} "
            "and train this expert again"
        ) from error
    size = sum(math.prod(shape) for shape in layout.shapes.values())
    if (
        not isinstance(found, dict)
        or list(found.items()) != list(expected.items())
        or shape != [epochs + 1, size]
    ):
        raise ValueError(f"{file} holds another network or number of epochs than {path / COMMON} says")
    if (digest := sha256(file)) != info["sha256"]:
        raise ValueError(
            f"{file} changed since it was written: sha256 {digest[:12]}, expected {info['sha256'][:12]}"
        )
