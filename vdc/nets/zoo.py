"""Every network by its name: our own, those of transformers, and any video network of torchvision."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from typing import Any

import torch
from torchvision.models import list_models, video

from vdc.nets import transformers
from vdc.nets.base import VideoNet
from vdc.nets.convnet import ConvNet2d, FrameNet
from vdc.nets.minic3d import MiniC3D
from vdc.nets.resnet3d import LAYOUTS, ResNet3d
from vdc.nets.torchvision import TorchvisionNet
from vdc.spec import ClipSpec

OWN: dict[str, partial[Any]] = {
    "minic3d": partial(MiniC3D),
    **{name: partial(ResNet3d, name=name) for name in LAYOUTS},
    "cnn_mean": partial(FrameNet, head="mean"),
    "cnn_gru": partial(FrameNet, head="gru"),
    "cnn_lstm": partial(FrameNet, head="lstm"),
    "convnet2d": partial(ConvNet2d),
}


def names() -> list[str]:
    """Names that `build` knows: our own first, then those of transformers and of torchvision."""
    return [*OWN, *transformers.NAMES, *list_models(module=video)]


def build(name: str, num_classes: int, spec: ClipSpec, **options: object) -> VideoNet:
    """A fresh network, in training mode on the CPU, its weights drawn from torch's global generator.

    Args:
        name: one of `names()`.
        num_classes: K.
        spec: the clips it will see.
        options: of that network, e.g. `norm` and `head` of minic3d.

    Raises:
        ValueError: an unknown name or option, or clips too short or too small for the network.
    """
    if name not in names():
        near = get_close_matches(name, names(), n=3, cutoff=0.4) or names()
        raise ValueError(f"net {name!r} is unknown: did you mean {', '.join(near)}?")
    if num_classes < 1:
        raise ValueError(f"net {name}: num_classes must be at least 1, got {num_classes}")
    if name in transformers.NAMES:
        transformers.library()  # refused here if it is not installed
    maker, known = _maker(name), settings(name).keys()
    if unknown := sorted(options.keys() - known):
        allowed = f"its options are {', '.join(sorted(known))}" if known else "it has none"
        raise ValueError(f"net {name} has no option {unknown[0]!r}: {allowed}")
    make = partial(maker, num_classes, **options)
    with torch.device("meta"):  # neither memory nor arithmetic until the clips are known to fit
        try:
            net: VideoNet = make(spec=spec)
        except (
            TypeError,
            AttributeError,
            OverflowError,
        ) as error:  # of options that are no numbers, or too large
            raise ValueError(f"net {name} cannot be built with {options}: {error}") from error
    if not _takes(net):
        raise ValueError(_refusal(name, make, spec))
    net.to_empty(device="cpu")
    net.reset_parameters("default", torch.default_generator)
    return net


def _maker(name: str) -> partial[Any]:
    """What makes networks of a name."""
    return OWN.get(name) or transformers.MAKERS.get(name) or partial(TorchvisionNet, name=name)


def settings(name: str, **options: object) -> dict[str, object]:
    """All options of a network: those given, and the defaults of the others."""
    if name in transformers.NAMES:
        return {transformers.CONFIG: None} | transformers.defaults(name) | options
    maker = _maker(name)
    known = inspect.signature(maker).parameters.values()
    fixed = {"num_classes", "spec", *maker.keywords}
    defaults: dict[str, object] = {
        option.name: option.default for option in known if option.name not in fixed
    }
    return defaults | options


def _takes(net: VideoNet) -> bool:
    """Whether a network on the meta device accepts the clips it was built for."""
    clips = torch.empty(2, 3, net.spec.frames, net.spec.size, net.spec.size, device="meta")
    try:
        net.eval()(clips)
    except RuntimeError:  # a kernel larger than its input, or an empty output
        return False
    finally:
        net.train()
    return True


def _refusal(name: str, make: Callable[..., VideoNet], spec: ClipSpec) -> str:
    """Why `spec` does not fit, with the least frames and pixels that do."""

    def fits(frames: int, size: int) -> bool:
        with torch.device("meta"):
            return _takes(make(spec=ClipSpec(frames=frames, size=size)))

    size = _least(lambda size: fits(64, size), 512)  # every net takes 64 frames of 512 px
    frames = _least(lambda frames: fits(frames, 512), 64)
    limits = (("spec.frames", spec.frames, frames), ("spec.size", spec.size, size))
    short = " and ".join(
        f"{flag} at least {least}, not {given}" for flag, given, least in limits if given < least
    )
    return f"net {name} needs {short}: its strides and poolings leave nothing of a smaller clip"


def _least(fits: Callable[[int], bool], limit: int) -> int:
    """The least number in 1..`limit` that fits, by bisection."""
    low, high = 1, limit
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle + 1, high)
    return low
