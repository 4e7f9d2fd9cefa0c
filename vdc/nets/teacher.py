"""Trained networks: saved as a folder, loaded frozen, and tapped for the tensors inside them.

A teacher folder holds `teacher.json` (network, options, classes, clips, normalisation, whatever the trainer
adds, and the hash of the weights) and `weights.safetensors`.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vdc.nets.base import VideoNet, channels_last
from vdc.nets.stored import INFO, StoredTeacher, load_weights
from vdc.nets.zoo import build
from vdc.spec import MEAN, STD, ClipSpec
from vdc.system.files import atomic_write, json_text, sha256
from vdc.system.schema import made_of, read_fields

WEIGHTS = "weights.safetensors"
FORMAT = 1


class Teacher(nn.Module):
    """A trained network that stays as it is: `train` and `requires_grad_` leave it in eval mode and frozen.

    Gradients to its input do flow.

    Args:
        net: with its trained weights.
        info: what `teacher.json` holds.
        path: folder it came from.
    """

    def __init__(self, net: VideoNet, info: dict[str, Any], path: Path) -> None:
        super().__init__()
        self.net = net
        self.info = info
        self.path = path
        self.name = net.name
        self.num_classes = net.num_classes
        self.spec = net.spec
        self.classes: list[str] = info["classes"]
        self.digest: str = info["sha256"]  # of the weights file
        self.train()
        self.requires_grad_()

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        return self.net(x)  # type: ignore[no-any-return]

    def features(self, x: Tensor) -> Tensor:
        """Pooled embedding (N, D) of clips (N, C, T, H, W)."""
        return self.net.features(x)

    def embed(self, x: Tensor) -> Tensor:
        """Flattened last map (N, D') of clips (N, C, T, H, W)."""
        return self.net.embed(x)

    def train(self, mode: bool = True) -> Self:
        """Stay in eval mode."""
        return super().train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Stay without gradients to the weights."""
        return super().requires_grad_(False)

    @property
    def nbytes(self) -> int:
        """Exact bytes of the weights and buffers."""
        return sum(t.numel() * t.element_size() for t in self.net.state_dict().values())


def save_teacher(path: str | Path, net: VideoNet, info: Mapping[str, Any]) -> None:
    """Write a teacher folder; other files in it are left alone.

    Args:
        path: the folder, made if missing.
        net: the trained network; it says its own name, options and clips.
        info: `classes` (K names in label order), and anything else JSON can hold: accuracy, recipe,
            fingerprint.

    Raises:
        ValueError: `classes` is missing or not K names.
    """
    path = Path(path)
    if len(info.get("classes", ())) != net.num_classes:
        raise ValueError(f"a teacher of {net.num_classes} classes needs as many names in info['classes']")
    with atomic_write(path / INFO) as about, atomic_write(path / WEIGHTS) as weights:  # the weights go first
        save_file({key: value.cpu().contiguous() for key, value in net.state_dict().items()}, weights)
        full = {
            **info,
            "format": FORMAT,
            "net": net.name,
            "options": net.options,
            "num_classes": net.num_classes,
            "spec": asdict(net.spec),
            "mean": net.colours[0],
            "std": net.colours[1],
            "sha256": sha256(weights),
        }
        about.write_text(json_text(full), encoding="utf-8")


def load_teacher(path: str | Path, classes: list[str] | None = None, spec: ClipSpec | None = None) -> Teacher:
    """A frozen network from its folder.

    Args:
        path: the folder.
        classes: names the data has, in label order; `None` checks nothing.
        spec: clips it will be shown; `None` checks nothing.

    Raises:
        FileNotFoundError: there is no teacher, with the command that trains one.
        ValueError: another class list, other frames or size, a changed file.
    """
    path = Path(path)
    for name in (INFO, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"no teacher in {path}: {name} is missing; train one with `vdc pretrain --net minic3d ...` "
                "(or another net) on the same data, or name the folder of one"
            )
    info = read_fields(path / INFO, StoredTeacher, ("format", FORMAT))
    stored, known = made_of(lambda: ClipSpec(**info["spec"]), path / INFO), info["classes"]
    if info["num_classes"] != len(known):
        raise ValueError(
            f"{path / INFO}: num_classes is {info['num_classes']}, and classes has {len(known)} names"
        )
    if classes is not None:
        _check_classes(path, known, classes)
    if spec is not None and (spec.frames, spec.size) != (stored.frames, stored.size):
        raise ValueError(
            f"teacher {path} was trained on {stored.frames} frames of {stored.size} px, the data has "
            f"{spec.frames} of {spec.size} px: train one for these clips, or change spec.frames and spec.size"
        )
    net = made_of(lambda: build(info["net"], len(known), stored, **info["options"]), path / INFO)
    load_weights(net, path / WEIGHTS, info["sha256"])
    net.recolour(tuple(info.get("mean", MEAN)), tuple(info.get("std", STD)))
    channels_last(net)
    return Teacher(net, info, path)


def _check_classes(path: Path, known: list[str], classes: list[str]) -> None:
    """Refuse a teacher of another class list."""
    if len(known) != len(classes):
        raise ValueError(
            f"teacher {path} knows {len(known)} classes, the data has {len(classes)}: train one on this data"
        )
    for label, (mine, yours) in enumerate(zip(known, classes, strict=True)):
        if mine != yours:
            raise ValueError(
                f"teacher {path} has another class list: class {label} is {mine!r} there, {yours!r} in the "
                "data; train one on this data"
            )


Kind = Literal["norm", "conv"]
_KINDS: dict[Kind, tuple[type[nn.Module], ...]] = {"norm": (_BatchNorm, nn.GroupNorm), "conv": (nn.Conv3d,)}


@contextmanager
def taps(net: nn.Module, kinds: tuple[Kind, ...] = ("norm", "conv")) -> Iterator[dict[str, Tensor]]:
    """Collect the inputs of 3-D layers while a network runs: what statistics matching compares (EDC, eq. 5).

    Tensors are those of the forward pass itself, not copies: gradients flow through them. Taps may be nested.

    Args:
        net: a network or a `Teacher`; names do not depend on which.
        kinds: `norm`: every batch norm (R(2+1)D's inner ones too) and `GroupNorm` of clips; `conv`: every
            `Conv3d`.

    Yields:
        Layer name -> input (N, C, T, H, W) of the latest forward pass, in forward order.
    """
    inner = net.net if isinstance(net, Teacher) else net
    inputs: dict[str, Tensor] = {}

    def collect(name: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if args[0].ndim == 5:
            inputs.pop(name, None)  # a second pass is in forward order too
            inputs[name] = args[0]

    wanted = tuple(kind for key in kinds for kind in _KINDS[key])
    handles = [
        layer.register_forward_pre_hook(partial(collect, name))
        for name, layer in inner.named_modules()
        if isinstance(layer, wanted)
    ]
    try:
        yield inputs
    finally:
        for handle in handles:
            handle.remove()
