"""Weights from elsewhere that a network starts from: a file of tensors, one of torchvision's, or a teacher's."""

import pickle
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import torch
import torchvision
from pydantic import Field
from safetensors import safe_open
from torch import Tensor
from torchvision.models import WeightsEnum, get_model_weights, list_models, video

from vdc.nets.base import Colours, VideoNet
from vdc.nets.stored import INFO, StoredTeacher
from vdc.spec import MEAN, STD
from vdc.system.files import sha256
from vdc.system.schema import Fields, Finite, read_fields, read_tensors

TORCHVISION = "torchvision:"
NESTED = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
)  # keys of checkpoints that hold the weights
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")  # what DDP, torch.compile and modules put before names
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


class Shown(Fields):
    """`preprocessor_config.json` of transformers."""

    image_mean: Annotated[list[Finite], Field(min_length=3, max_length=3)]
    image_std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]


class Labelled(Fields):
    """`config.json` of transformers."""

    id2label: dict[Annotated[str, Field(pattern=r"^[0-9]{1,6}$")], str] | None = None


@dataclass(frozen=True)
class Weights:
    """Which weights a network starts from, and what of it learns.

    Args:
        file: a state_dict as `.safetensors` or `.pth`, the folder of a teacher or of transformers, or
            `torchvision:NAME`, a network (its default weights) or weights of torchvision, whose file must be in the
            cache of torch.hub.
        freeze: train the last layer only; all others stay as they are, in eval mode.
        normalisation: mean and deviation of the colours in 0..1 that they were trained with; `None`: as
            torchvision or the teacher says, which are known by their files' hashes, else those of ImageNet.
    """

    file: str
    freeze: bool = False
    normalisation: Colours | None = None


@dataclass(frozen=True)
class Found:
    """Weights that are there.

    Args:
        name: of their file or in torchvision; no folder of this machine.
        path: of the file.
        sha256: of the file.
        colours: that they want.
        licence: what is known of it.
        classes: of their last layer, where known.
        freeze: see `Weights`.
    """

    name: str
    path: Path
    sha256: str
    colours: Colours
    licence: str
    classes: list[str] | None
    freeze: bool

    @property
    def about(self) -> dict[str, Any]:
        """What results say of them."""
        mean, std = (list(part) for part in self.colours)
        told = {"name": self.name, "sha256": self.sha256, "licence": self.licence, "frozen": self.freeze}
        return told | {"mean": mean, "std": std}


def start_key(about: Mapping[str, Any]) -> dict[str, Any]:
    """What of `Found.about` decides what a network becomes: not the name of the file."""
    return {key: about[key] for key in ("sha256", "frozen", "mean", "std")}


def find_weights(wanted: Weights, nets: Sequence[str]) -> Found:
    """The file of weights, and what is known of it.

    Args:
        wanted: which.
        nets: names of the networks that would take them.

    Raises:
        FileNotFoundError: no such file; of torchvision's, with where to get it.
        ValueError: an unknown name, weights of another network, several networks, or a file that is not what its name
            says.
    """
    given, known = wanted.file, None
    if len(nets) > 1:
        raise ValueError(f"--weights {given} are of one network: give one, not {', '.join(nets)}")
    if given.startswith(TORCHVISION):
        known = _of_torchvision(given, nets[0])
        path = _cached(known)
    else:
        path = Path(given)
    for inside in ("weights.safetensors", "model.safetensors"):  # of a teacher, of transformers
        path = path / inside if (path / inside).is_file() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"--weights {given}: no such file, nor folder of a teacher or of transformers; torchvision's are named "
            f"{TORCHVISION}NAME"
        )
    digest = sha256(path)
    known = known or _by_hash(digest)
    name = path.name if Path(given) == path else f"{path.resolve().parent.name}/{path.name}"
    name = name if known is None else f"{TORCHVISION}{known}"
    colours, classes, licence = _told_beside(path, digest) if known is None else _told_by(known)
    return Found(
        name, path.absolute(), digest, wanted.normalisation or colours, licence, classes, wanted.freeze
    )


def _told_by(known: WeightsEnum) -> tuple[Colours, list[str] | None, str]:
    """Colours, classes and licence of weights of torchvision."""
    preset, meta = known.transforms(), known.meta
    licence = meta.get("license") or (
        f"torchvision {torchvision.__version__} states none for these weights, trained on Kinetics-400 "
        f"({meta['recipe']}): the terms of that set may apply"
    )
    return (tuple(preset.mean), tuple(preset.std)), meta["categories"], licence


def _told_beside(path: Path, digest: str) -> tuple[Colours, list[str] | None, str]:
    """Colours, classes and licence of a file, as those beside it tell: of a teacher, or of transformers."""
    colours, classes, licence = (MEAN, STD), None, _own_licence(path)
    about, shown, config = (
        path.with_name(name) for name in (INFO, "preprocessor_config.json", "config.json")
    )
    if about.is_file() and (info := read_fields(about, StoredTeacher))["sha256"] == digest:
        colours = (tuple(info.get("mean", MEAN)), tuple(info.get("std", STD)))
        return colours, info["classes"], (info.get("weights") or {}).get("licence", licence)
    if path.name == "model.safetensors" and shown.is_file():
        told = read_fields(shown, Shown)
        colours = (tuple(told["image_mean"]), tuple(told["image_std"]))
    if path.name == "model.safetensors" and config.is_file():
        names = read_fields(config, Labelled).get("id2label") or {}
        classes = [names[key] for key in sorted(names, key=int)] or None
    return colours, classes, licence


def _of_torchvision(given: str, net: str) -> WeightsEnum:
    """Weights by their name, or by that of their network."""
    name = given.removeprefix(TORCHVISION)
    every = {model: get_model_weights(model) for model in list_models(module=video)}
    members = {str(one): (model, one) for model, them in every.items() for one in them}
    chosen = (name, every[name].DEFAULT) if name in every else members.get(name)
    if chosen is None:
        near = get_close_matches(name, [*every, *members], n=3, cutoff=0.4) or list(every)
        raise ValueError(f"--weights {given} is unknown: did you mean {', '.join(near)}?")
    model, weights = chosen
    if model != net:
        raise ValueError(
            f"--weights {given} is of net {model}, not of {net}: name that net, or other weights"
        )
    found: WeightsEnum = weights
    return found


def _cached(weights: WeightsEnum) -> Path:
    """The file of torchvision's weights in the cache of torch.hub; nothing is downloaded."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: torchvision's {weights} is not there, and vdc downloads nothing: with a network, run "
            f"`curl --create-dirs -Lo {path} {weights.url}`; without one, bring that file from a machine with one"
        )
    told = _hash_in(weights)
    if told and not (found := sha256(path)).startswith(told):
        raise ValueError(
            f"{path}: sha256 {found[:12]}, but its name says {told}: get it again from {weights.url}"
        )
    return path


def _hash_in(weights: WeightsEnum) -> str:
    """The beginning of the hash of a file of torchvision's, as its name tells it."""
    told = re.search(r"-([0-9a-f]{8,})\.", Path(weights.url).name)
    return told[1] if told else ""


def _by_hash(digest: str) -> WeightsEnum | None:
    """The weights of torchvision that a file holds, wherever it lies."""
    every = (one for model in list_models(module=video) for one in get_model_weights(model))
    return next((one for one in every if (told := _hash_in(one)) and digest.startswith(told)), None)


def _own_licence(path: Path) -> str:
    """What a file of safetensors says of its licence."""
    told: dict[str, str] = {}
    if path.suffix == ".safetensors":
        read_tensors(path.resolve())  # refused here if it is damaged
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
    return str(told.get("license") or told.get("licence") or "not stated by the file")


def read_state(path: Path) -> dict[str, Tensor]:
    """Tensors of a file of weights, by name; nothing in it is run.

    Raises:
        ValueError: another kind of file, a damaged one, a pickle, or one without tensors.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path}: weights are read from {', '.join(SUFFIXES)} files: save a state_dict as one"
        )
    if path.suffix == ".safetensors":
        return read_tensors(path.resolve())  # caches hold links
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a reader of damaged bytes may raise anything
        told = re.search(r"(?:GLOBAL|class|function) ([\w.]+\.\w+)", str(error))
        if told is not None and isinstance(error, pickle.UnpicklingError):
            raise ValueError(
                f"{path} holds more than tensors ({told[1]}), and could run code: save its state_dict() alone, with "
                "torch.save or as .safetensors"
            ) from error
        raise ValueError(f"{path} is no file of weights, or a damaged one: get it again") from error
    for key in NESTED:
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(one, Tensor) for one in held.values()):
        raise ValueError(
            f"{path} holds no state_dict: expected names with tensors, or these under {NESTED[0]!r}"
        )
    for name, tensor in held.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ValueError(f"{path}: tensor {name!r} holds numbers that are not finite")
    return dict(held)


def bare(names: Iterable[str]) -> dict[str, str]:
    """Names without the wrappers that all of them begin with -> names."""
    found = {name: name for name in names}
    while prefix := next((one for one in WRAPPERS if found and all(n.startswith(one) for n in found)), ""):
        found = {short.removeprefix(prefix): name for short, name in found.items()}
    return found


def last_layer(net: VideoNet) -> str:
    """Name of the layer that gives logits: the last with weights, in every network here."""
    own = (
        name
        for name, module in net.named_modules()
        if next(module.parameters(recurse=False), None) is not None
    )
    return str(list(own)[-1])


def start_from(net: VideoNet, weights: Found, classes: list[str] | None = None) -> str | None:
    """Give a network weights from elsewhere, its last layer left as it is where that of the file is of other classes.

    Args:
        net: whose weights are replaced, and whose colours become those of the weights.
        weights: the file.
        classes: names the data has, in label order.

    Returns:
        Why the last layer starts afresh, `None` if it does not.

    Raises:
        ValueError: a tensor is missing, of another shape, or none of the network's; the first is named.
    """
    tensors, state = net.tensors_of(weights.path) or read_state(weights.path), net.state_dict()
    ours, theirs = bare(state), bare(tensors)
    layer = last_layer(net)
    head = [short for short, name in ours.items() if name.rpartition(".")[0] == layer]
    afresh = _why_afresh(net, weights, classes, [tensors[theirs[name]] for name in head if name in theirs])
    wanted = [short for short in ours if not (afresh and short in head)]
    found = {short: tensors[name] for short, name in theirs.items() if not (afresh and short in head)}
    path = weights.path
    for short in [*wanted, *found]:
        if short not in found:
            first = next(iter(theirs))
            raise ValueError(
                f"{path}: tensor {short!r} of net {net.name} is missing: the file begins with {first!r}"
            )
        if short not in ours:
            raise ValueError(
                f"{path}: tensor {short!r} is none of net {net.name}'s: it is of another network"
            )
        shape = state[ours[short]].shape
        tensor = net.fitted(short, found[short], shape)
        if tensor.shape != shape:
            raise ValueError(
                f"{path}: {short} is of shape {tuple(tensor.shape)}, net {net.name} has {tuple(shape)}"
            )
        state[ours[short]] = tensor
    net.load_state_dict(state)
    net.recolour(*weights.colours)
    if weights.freeze:
        freeze(net)
    return afresh


def _why_afresh(net: VideoNet, weights: Found, classes: list[str] | None, head: list[Tensor]) -> str | None:
    """Why the last layer of a file does not serve a network."""
    if not head:
        return "the file has none"
    if len(head[0]) != net.num_classes:
        return f"the file's tells {len(head[0])} classes apart, the data has {net.num_classes}"
    if (
        classes is not None
        and weights.classes is not None
        and [*map(plain, classes)] != [*map(plain, weights.classes)]
    ):
        return f"the file's is of {len(head[0])} other classes"
    return None


def plain(name: str) -> str:
    """A class's name as lists of one set spell it differently."""
    return "".join(c for c in name.casefold() if c.isalnum())


def freeze(net: VideoNet) -> None:
    """Leave only the last layer to learn; the others stay in eval mode: Lightning does not wake them."""
    net.requires_grad_(False).eval()
    net.get_submodule(last_layer(net)).requires_grad_(True).train()
