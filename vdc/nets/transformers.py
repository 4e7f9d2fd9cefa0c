"""Video classifiers of Hugging Face's `transformers`, which is optional; nothing is ever downloaded."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vdc.nets.base import Scheme, VideoNet
from vdc.spec import ClipSpec
from vdc.system.schema import read_tensors

NAMES = ("timesformer", "videomae", "vivit", "vjepa2")
SHAPES = {"vjepa2": ("frames_per_clip", "crop_size")}  # what its config calls the shape of a clip
USUAL = ("num_frames", "image_size")
CONFIG = "config"  # the option that names a folder or file to take the others from
PLAIN = (str, bool, int, float, type(None))


def library() -> Any:
    """The package.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import transformers  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ValueError(
            f"nets {', '.join(NAMES)} need the package transformers: pip install 'vdcondense[transformers]'"
        ) from error
    return transformers


def _plain(held: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config are options of a network: plain values that are not about labels, files or clips."""
    aside = {
        "model_type",
        "dtype",
        "torch_dtype",
        "transformers_version",
        "architectures",
        "problem_type",
        CONFIG,
    }
    aside |= {*USUAL, *SHAPES["vjepa2"], "num_labels", "_name_or_path", "return_dict", "output_attentions"}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in held.items()
        if name not in aside
        and (
            isinstance(value, PLAIN)
            or (isinstance(value, list | tuple) and all(isinstance(v, PLAIN) for v in value))
        )
    }


def defaults(name: str) -> dict[str, object]:
    """All options of a network, with their defaults; none where `transformers` is not installed."""
    try:
        return _plain(library().AutoConfig.for_model(name).to_dict())
    except ValueError:  # tables are made without it
        return {}


def resolved(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options with those that `config` names a file for, which is then no longer needed; given ones win.

    Args:
        name: of the network.
        options: given; `config` is a folder with `config.json`, or such a file.

    Raises:
        ValueError: the file is not there, no JSON, or of another network.
    """
    if name not in NAMES or options.get(CONFIG) is None:
        return dict(options)
    place = Path(str(options[CONFIG]))
    path = place / "config.json" if place.is_dir() else place
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"net {name}: config {path} is no JSON file of transformers ({error})") from error
    kind = held.get("model_type") if isinstance(held, dict) else None
    if kind != name:
        raise ValueError(f"net {name}: {path} is of model_type {kind!r}, expected {name!r}")
    usual = defaults(name)
    stated = {key: value for key, value in _plain(held).items() if key in usual and value != usual[key]}
    return stated | {key: value for key, value in options.items() if key != CONFIG}


class TransformersNet(VideoNet):
    """A video classifier of `transformers`, built from a config for clips of a shape.

    Attention is computed plainly: what is fused has no second derivative.

    Args:
        num_classes: K.
        spec: the clips it is built for, and the only ones it takes.
        name: its `model_type`.
        options: of its config, or `config`, see `resolved`.
    """

    def __init__(self, num_classes: int, spec: ClipSpec, name: str, **options: Any) -> None:
        stated = resolved(name, options)
        super().__init__(name, num_classes, spec, **stated)
        try:
            self.net: Any = self._make()
        except (IndexError, ZeroDivisionError) as error:
            raise ValueError(
                f"net {name}: clips of {spec.frames} frames of {spec.size} px are smaller than one patch: raise "
                "spec.frames and spec.size, or lower patch_size and tubelet_size"
            ) from error
        last = [module for module in self.net.modules() if isinstance(module, nn.Linear)][-1]
        if last is not self.net.classifier:
            raise ValueError(
                f"net {name}: its last layer is not `classifier`: this version of transformers is unknown"
            )

    def _make(self) -> nn.Module:
        """The network, its weights drawn by its own rule."""
        shape = dict(zip(SHAPES.get(self.name, USUAL), (self.spec.frames, self.spec.size), strict=True))
        config = library().AutoConfig.for_model(
            self.name, **self.options | shape, num_labels=self.num_classes
        )
        made: nn.Module = library().AutoModelForVideoClassification.from_config(
            config, attn_implementation="eager"
        )
        return made.train()

    def maps(self, x: Tensor) -> Tensor:
        """What its last layer classifies, (N, D)."""
        seen: list[Tensor] = []
        handle = self.net.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self(x)
        finally:
            handle.remove()
        return seen[0]

    def pool(self, maps: Tensor) -> Tensor:
        """The same: it is pooled already."""
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        clips = self.entry(x).transpose(1, 2)
        logits: Tensor = self.net(**{self.net.main_input_name: clips}).logits
        return logits

    def tensors_of(self, path: Path) -> dict[str, Tensor] | None:
        """Tensors of `model.safetensors` in a folder of transformers, whose names have changed over its versions."""
        if path.name != "model.safetensors" or not path.with_name("config.json").is_file():
            return None
        read_tensors(path.resolve())  # refused here if it is damaged
        model = library().AutoModelForVideoClassification
        options = {"use_safetensors": True, "local_files_only": True, "dtype": torch.float32}
        made = model.from_pretrained(str(path.parent), **options)
        state: dict[str, Tensor] = made.state_dict()
        return state

    def reset_parameters(self, scheme: Scheme, generator: torch.Generator) -> None:
        """Start afresh by its own rule, whichever the scheme."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh = self._make()
        self.net.load_state_dict(fresh.state_dict())
        own = dict(self.net.named_buffers())
        for name, buffer in fresh.named_buffers():  # also those that no state holds
            own[name].copy_(buffer)


MAKERS = {name: partial(TransformersNet, name=name) for name in NAMES}
