"""VideoNet: what every network promises, how its weights start, and the memory layout it runs best in."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from vdc.spec import MEAN, STD, ClipSpec

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]  # mean and deviation, RGB in 0..1
Scheme = Literal["default", "kaiming"]
PART = 16 * 3 * 8 * 48 * 48  # numbers of the clips that a CPU forwards together


class Recolour(nn.Module):
    """Clips normalised as all are here become clips normalised by another mean and deviation.

    Args:
        mean: of each colour in 0..1.
        std: deviation of each.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        ours, other = torch.tensor([MEAN, STD]).double(), torch.tensor([mean, std]).double()
        self.register_buffer("scale", (ours[1] / other[1]).float().view(3, 1, 1, 1), persistent=False)
        self.register_buffer(
            "shift", ((ours[0] - other[0]) / other[1]).float().view(3, 1, 1, 1), persistent=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W)."""
        return x * self.scale + self.shift  # type: ignore[operator]


class VideoNet(nn.Module, ABC):
    """A classifier of clips.

    Args:
        name: what `vdc.nets.build` knows it by.
        num_classes: K.
        spec: the clips it is built for; most nets take other lengths and sizes too.
        options: keyword arguments that rebuild it.
    """

    kaiming_convs: ClassVar[bool] = False  # convolutions start Kaiming-normal under scheme `default` too

    def __init__(self, name: str, num_classes: int, spec: ClipSpec, **options: object) -> None:
        super().__init__()
        self.name = name
        self.num_classes = num_classes
        self.spec = spec
        self.options = options
        self.colours: Colours = (MEAN, STD)
        self.entry: nn.Module = nn.Identity()  # what `maps` sends clips through first

    def recolour(self, mean: tuple[float, float, float], std: tuple[float, float, float]) -> None:
        """From here on show clips in other colours to the layers, as weights from elsewhere were trained with."""
        self.colours = (mean, std)
        self.entry = nn.Identity() if self.colours == (MEAN, STD) else Recolour(mean, std)

    def fitted(self, name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        """A tensor of weights from elsewhere, resized where that makes sense of it, such as a table of positions."""
        return tensor

    def tensors_of(self, path: Path) -> dict[str, Tensor] | None:
        """Tensors of a file that the library it is of translates while it reads; `None` of any other."""
        return None

    @abstractmethod
    def maps(self, x: Tensor) -> Tensor:
        """Last feature map before pooling and dropout.

        Args:
            x: clips (N, C, T, H, W), normalised.
        """

    @abstractmethod
    def pool(self, maps: Tensor) -> Tensor:
        """Pooled embedding (N, D) of the last map."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""

    def features(self, x: Tensor) -> Tensor:
        """Pooled embedding (N, D) of clips (N, C, T, H, W)."""
        return self.pool(self.maps(x))

    def embed(self, x: Tensor) -> Tensor:
        """Flattened last map (N, D') of clips (N, C, T, H, W), before pooling and dropout (DM, FRePo)."""
        return self.maps(x).flatten(1)

    def reset_parameters(self, scheme: Scheme, generator: torch.Generator) -> None:
        """Start every weight afresh; the same numbers on any device and in any memory layout.

        Args:
            scheme: `default` is how the published students start: PyTorch's own rule, except that residual
                nets have Kaiming convolutions, as mmcv builds them. `kaiming` is how the published teachers
                start: convolutions Kaiming-normal over fan-out, classifier normal with deviation 0.01, biases
                    0.
            generator: source of the numbers; they are drawn on its device.
        """
        if scheme not in get_args(Scheme):
            raise ValueError(f"initialisation {scheme!r} is unknown: choose default or kaiming")
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                reset_layer(module, "kaiming" if self.kaiming_convs else scheme, generator)
            elif isinstance(module, nn.Linear | nn.RNNBase):
                reset_layer(module, scheme, generator)
            elif isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
                module.reset_parameters()  # ones, zeros and fresh running statistics: nothing is drawn


Layer = nn.Conv2d | nn.Conv3d | nn.Linear | nn.RNNBase


def reset_layer(layer: Layer, scheme: Scheme, generator: torch.Generator) -> None:
    """Start one layer afresh, see `VideoNet.reset_parameters`; recurrent ones have one rule for both."""
    if isinstance(layer, nn.RNNBase):
        bound = 1 / math.sqrt(layer.hidden_size)
        for parameter in layer.parameters():
            _fill(parameter, lambda t: nn.init.uniform_(t, -bound, bound, generator=generator), generator)
        return
    weight: Tensor = layer.weight
    bias: Tensor | None = layer.bias
    if scheme == "default":
        bound = 1 / math.sqrt(weight[0].numel())
        for values in (weight, bias):
            if values is not None:
                _fill(values, lambda t: nn.init.uniform_(t, -bound, bound, generator=generator), generator)
        return
    if isinstance(layer, nn.Linear):
        _fill(weight, lambda t: nn.init.normal_(t, std=0.01, generator=generator), generator)
    else:
        _fill(
            weight,
            lambda t: nn.init.kaiming_normal_(t, mode="fan_out", nonlinearity="relu", generator=generator),
            generator,
        )
    if bias is not None:
        nn.init.zeros_(bias)


def _fill(parameter: Tensor, draw: Callable[[Tensor], object], generator: torch.Generator) -> None:
    """Draw on the generator's device in plain layout, then copy: the parameter's own do not matter."""
    values = torch.empty(parameter.shape, dtype=parameter.dtype, device=generator.device)
    draw(values)
    with torch.no_grad():
        parameter.copy_(values, non_blocking=True)  # a new network at every step must not make the host wait


def channels_last(net: nn.Module, precision: str | int | None = "32-true") -> None:
    """Put 3-D convolution weights into `channels_last_3d` where that is faster; inputs need no change.

    Time of it over plain, MiniC3D at 8x48, one thread of a CPU with AVX512 and AMX: forward 0.50-0.65; forward and
    backward 0.75 (instance norm), 0.84 (batch norm), 1.0 at half width. In bf16 0.83 with batch norm, but 1.5-1.9 with
    instance norm. A rule and not a timing at start: runs that go on elsewhere would end in other bits. Not measured on
    a GPU.

    Args:
        net: whose weights change their layout.
        precision: that it is trained in, as the trainer says it.
    """
    bf16 = str(precision).startswith("bf16")
    if not (bf16 and any(isinstance(module, nn.GroupNorm) for module in net.modules())):
        for module in net.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)


def in_parts(forward: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """`forward(clips)` (N, D) of a net in eval mode; on a CPU without gradients, in parts that caches like.

    16 clips at 8x48, 3 at 8x112: as fast as 64 in `channels_last`, up to 0.7 of the time without, a quarter of the
    memory.

    Args:
        forward: of each clip by itself.
        clips: (N, C, T, H, W).
    """
    part = max(PART // clips[0].numel(), 1) if len(clips) and clips.device.type == "cpu" else len(clips)
    if torch.is_grad_enabled() or len(clips) <= part:
        return forward(clips)
    return torch.cat([forward(some) for some in torch.split(clips, part)])
