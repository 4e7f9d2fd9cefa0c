"""Any video network of torchvision, for clips of other lengths and sizes than it was published for, too."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import get_model

from vdc.nets.base import Scheme, VideoNet
from vdc.spec import ClipSpec

S3D_POOL = (2, 7, 7)  # torchvision's, for clips of at least 13 frames of 209 px


class PoolUpTo(nn.Module):
    """Average pooling at stride 1 with a kernel that smaller maps shrink.

    Args:
        kernel: frames, height and width.
    """

    def __init__(self, kernel: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, t, h, w)."""
        kernel = [min(most, side) for most, side in zip(self.kernel, x.shape[2:], strict=True)]
        return F.avg_pool3d(x, kernel, stride=1)


def make(name: str, num_classes: int, spec: ClipSpec) -> nn.Module:
    """Torchvision's network for clips of a shape, its weights drawn by torchvision's own rule.

    MViT v1 has a table of positions for exactly these clips; that of v2, of positions relative to one another, stays
    as it is published, and torchvision interpolates it. S3D's last pooling is no larger than the map.
    """
    frames, side = -(-spec.frames // 2), -(-spec.size // 4)  # cells that MViT cuts a clip into
    net: Any = get_model(name, weights=None, num_classes=num_classes)
    if name.startswith("mvit"):
        place = net.pos_encoding  # torchvision's own functions of MViT take no sizes
        place.temporal_size, place.spatial_size = frames, (side, side)
        for table, cells in (("temporal_pos", frames), ("spatial_pos", side**2)):
            old = getattr(place, table)
            if old is not None and len(old) != cells:
                setattr(
                    place,
                    table,
                    nn.Parameter(nn.init.trunc_normal_(torch.empty(cells, old.shape[1]), std=0.02)),
                )
    if name == "s3d":
        net.avgpool = PoolUpTo(S3D_POOL)
    made: nn.Module = net
    return made


class TorchvisionNet(VideoNet):
    """A video network of torchvision, without pretrained weights.

    Args:
        num_classes: K.
        spec: the clips it is built for; MViT takes no others.
        name: in `torchvision.models.video`.
    """

    def __init__(self, num_classes: int, spec: ClipSpec, name: str) -> None:
        super().__init__(name, num_classes, spec)
        self.net = make(name, num_classes, spec)

    def maps(self, x: Tensor) -> Tensor:
        """What the network pools (N, C', t, h, w); in MViT, which pools nothing, its class token (N, C')."""
        seen: list[Tensor] = []
        pooling = self.net.get_submodule("head" if self.name.startswith("mvit") else "avgpool")
        handle = pooling.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            self.net(self.entry(x))
        finally:
            handle.remove()
        return seen[0]

    def pool(self, maps: Tensor) -> Tensor:
        """Mean over time and space, (N, C')."""
        return maps.flatten(2).mean(2) if maps.ndim > 2 else maps

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        return self.net(self.entry(x))  # type: ignore[no-any-return]

    def reset_parameters(self, scheme: Scheme, generator: torch.Generator) -> None:
        """Start afresh by torchvision's own rule, whichever the scheme; for its ResNets that is `kaiming`."""
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            fresh = make(self.name, self.num_classes, self.spec)
        self.net.load_state_dict(fresh.state_dict())

    def fitted(self, name: str, tensor: Tensor, shape: torch.Size) -> Tensor:
        """MViT v1's table of positions for other clips, interpolated: bicubic in space, linear in time.

        As torchvision's `vision_transformer.interpolate_embeddings`, with aligned corners.
        """
        if tensor.shape == shape or tensor.ndim != 2 or tensor.shape[1] != shape[1]:
            return tensor
        table = tensor.float().T[None].contiguous()  # (1, D, cells)
        if name == "pos_encoding.temporal_pos":
            found = F.interpolate(table, shape[0], mode="linear", align_corners=True)
        elif name == "pos_encoding.spatial_pos":
            sides = [round(cells**0.5) for cells in (len(tensor), shape[0])]
            if sides[0] ** 2 != len(tensor):
                return tensor
            grid = table.view(1, -1, sides[0], sides[0])
            found = F.interpolate(grid, (sides[1], sides[1]), mode="bicubic", align_corners=True).flatten(2)
        else:
            return tensor
        return found[0].T
