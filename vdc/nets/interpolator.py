"""A trained interpolator: a small divided space-time transformer that makes a clip of its duplicated frames.

Its folder holds `interpolator.json` (options, clips, scores, hash of the weights) and
`interpolator.safetensors`. A condensed set that needs one carries the same two files.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vdc.nets.stored import StoredInterpolator, load_weights
from vdc.spec import INTERPOLATOR, ClipSpec
from vdc.system.files import atomic_write, json_text, sha256
from vdc.system.schema import made_of, read_fields

INFO, WEIGHTS = INTERPOLATOR
FORMAT = 1


class Attention(nn.Module):
    """Multi-head self-attention over the second-last axis, written out so that it has a second derivative.

    Args:
        dim: of the tokens.
        heads: that share it.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (..., L, D) -> what is added to them."""
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(-3, -2)
            for part in self.qkv(self.norm(x)).chunk(3, -1)
        )  # (..., heads, L, D / heads)
        weights = (self.scale * query @ key.transpose(-2, -1)).softmax(-1)
        return self.out((weights @ value).transpose(-3, -2).flatten(-2))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention over time, then over space, then a two-layer network (TimeSformer: Bertasius 2021, sec. 3).

    Args:
        dim: of the tokens.
        heads: of either attention.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.time, self.space = Attention(dim, heads), Attention(dim, heads)
        self.mlp = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (N, T, S, D) -> the same shape."""
        x = x + self.time(x.transpose(1, 2)).transpose(1, 2)
        x = x + self.space(x)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class Interpolator(nn.Module):
    """Recover a clip from evenly spread frames of it, each shown until the next (Wang 2024, sec. 3).

    The authors name a TimeSformer without its size: depth, width and patch here are ours. What it returns is
    the duplicated clip plus a correction, which is zero before training.

    Args:
        frames: T of a clip.
        size: its height and width.
        keys: numbers of key frames it is to be trained for, each in 1..T - 1.
        dim: of the tokens.
        depth: blocks.
        heads: of the attention.
        patch: side of a token in pixels.
    """

    def __init__(
        self,
        frames: int,
        size: int,
        keys: list[int] | None = None,
        dim: int = 192,
        depth: int = 4,
        heads: int = 3,
        patch: int = 8,
    ) -> None:
        super().__init__()
        self.keys = sorted(set(keys or [n for n in (1, 2, 4, 8) if n < frames]))
        self.frames = frames
        self.size = size
        self.patch = patch
        self.options = {"keys": self.keys, "dim": dim, "depth": depth, "heads": heads, "patch": patch}
        if not self.keys or not 1 <= self.keys[0] <= self.keys[-1] < frames:
            raise ValueError(f"interpolator: keys {self.keys} must be in 1..{frames - 1}, below spec.frames")
        if size % patch:
            raise ValueError(
                f"interpolator: patch {patch} does not divide spec.size {size}: choose another patch"
            )
        if dim % heads:
            raise ValueError(
                f"interpolator: heads {heads} do not divide dim {dim}: choose another number of heads"
            )
        self.embed = nn.Conv3d(3, dim, (1, patch, patch), (1, patch, patch))
        self.when = nn.Parameter(torch.zeros(frames, 1, dim))
        self.where = nn.Parameter(torch.zeros((size // patch) ** 2, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 3 * patch * patch)

    def reset_parameters(self, generator: torch.Generator) -> None:
        """Start afresh: matrices and positions normal with deviation 0.02, the last layer zero."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv3d):
                nn.init.normal_(layer.weight, std=0.02, generator=generator)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        for position in (self.when, self.where):
            nn.init.normal_(position, std=0.02, generator=generator)
        nn.init.zeros_(self.head.weight)

    def forward(self, clips: Tensor) -> Tensor:
        """Clips of key frames, each duplicated until the next (N, C, T, H, W), normalised -> smooth ones."""
        if clips.shape[2:] != (self.frames, self.size, self.size):
            raise ValueError(
                f"this interpolator takes {self.frames} frames of {self.size} px, not {tuple(clips.shape[2:])}"
            )
        x = self.embed(clips).flatten(3).permute(0, 2, 3, 1) + self.when + self.where  # (N, T, S, D)
        for block in self.blocks:
            x = block(x)
        side, p = self.size // self.patch, self.patch
        change = self.head(self.norm(x)).view(len(x), self.frames, side, side, 3, p, p)
        change = change.permute(0, 4, 1, 2, 5, 3, 6).reshape(clips.shape)
        return clips + change  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Exact bytes of the weights."""
        return sum(t.numel() * t.element_size() for t in self.state_dict().values())


def save_interpolator(path: str | Path, net: Interpolator, info: Mapping[str, Any], stride: int) -> None:
    """Write an interpolator's two files; others in the folder are left alone.

    Args:
        path: the folder, made if missing.
        net: the trained network.
        info: anything else JSON can hold: scores, recipe, fingerprint.
        stride: `spec.stride` of the clips it was trained on.
    """
    path = Path(path)
    with atomic_write(path / INFO) as about, atomic_write(path / WEIGHTS) as weights:  # the weights go first
        save_file({name: t.detach().cpu().contiguous() for name, t in net.state_dict().items()}, weights)
        spec = {
            name: v for name, v in asdict(ClipSpec(net.frames, net.size, stride)).items() if v is not None
        }
        full = {**info, "format": FORMAT, "options": net.options, "spec": spec, "sha256": sha256(weights)}
        about.write_text(json_text(full), encoding="utf-8")


def load_interpolator(path: str | Path, spec: ClipSpec) -> Interpolator:
    """A frozen interpolator from its folder; gradients to its input do flow, twice if need be.

    Args:
        path: the folder, or that of a condensed set that carries one.
        spec: clips it will be shown.

    Raises:
        FileNotFoundError: there is none, with the command that trains one.
        ValueError: trained for other clips or numbers of key frames, or a changed file.
    """
    path = Path(path)
    for name in INTERPOLATOR:
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"spec.interpolator {path}: {name} is missing; train one with `vdc pretrain --net interpolator "
                "...` on the same data"
            )
    info = read_fields(path / INFO, StoredInterpolator, ("format", FORMAT))
    stored = made_of(lambda: ClipSpec(**info["spec"]), path / INFO)
    net = made_of(lambda: Interpolator(stored.frames, stored.size, **info["options"]), path / INFO)
    if (spec.frames, spec.size, spec.stride) != (stored.frames, stored.size, stored.stride):
        raise ValueError(
            f"spec.interpolator {path} was trained on {stored.frames} frames of {stored.size} px, stride "
            f"{stored.stride}; these clips have {spec.frames} of {spec.size} px, stride {spec.stride}: train one "
            "for them"
        )
    if spec.cut not in net.keys:
        raise ValueError(
            f"spec.interpolator {path} was trained for {', '.join(map(str, net.keys))} key frames, an item has "
            f"{spec.cut}: change spec.stored_frames, or train one with net_options.keys [{spec.cut}]"
        )
    load_weights(net, path / WEIGHTS, info["sha256"])
    return net.eval().requires_grad_(False)


def interpolator_of(spec: ClipSpec, device: torch.device | None = None) -> Interpolator | None:
    """The network that views of `spec` need, on a device; `None` where they need none."""
    if spec.interpolation != "parametric" or spec.cut == spec.frames:
        return None
    assert spec.interpolator is not None  # the spec sees to it
    return load_interpolator(spec.interpolator, spec).to(device)
