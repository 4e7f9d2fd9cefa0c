"""A code of clips: the law of their cosine coefficients, and the decoder of so many bytes that follows from it.

Its folder holds `code.json` (options, clips, quality, hash) and `code.safetensors`, the mean and the deviation of
every coefficient of training clips. What a condensed set needs of it, it carries itself: see `Decoder.state`.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vdc.ops.coding import allot, levels, middles, pack, quantiser, unpack
from vdc.ops.pixels import valid_range
from vdc.ops.transform import colours, dct_matrix, log_bands, separable
from vdc.ops.windows import kept_frames
from vdc.spec import ClipSpec
from vdc.system.files import atomic_write, json_text, sha256
from vdc.system.schema import Digest, Fields, plain_file, read_fields, read_tensors, short

INFO, WEIGHTS = "code.json", "code.safetensors"
FORMAT = 1
BANDS, LOW = 16, 16  # a decoder of a few kB: hundreds of clips have room for a larger one
STEPS = 8  # of a deviation, stored as its logarithm: an eighth of an octave each
LOWEST = -16  # octaves: the smallest deviation told from 0, in grey levels


class Cosines(nn.Module):
    """Clips as cosine coefficients of their YCbCr frames, in grey levels, and back.

    A coefficient is that of the orthonormal transform over the root of T * H * W: the first is the mean level.

    Args:
        shape: T, H and W of a clip.
    """

    forth: Tensor  # (3, 3), normalised RGB to YCbCr in grey levels, and `offset`
    back: Tensor  # (3, 3)
    offset: Tensor  # (3, 1)

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        for name, matrix in zip(("forth", "back", "offset"), colours(torch.device("cpu")), strict=True):
            self.register_buffer(name, matrix.float(), persistent=False)
        for axis, n in enumerate(shape):
            waves = dct_matrix(n) * math.sqrt(n)  # row k is the wave of k half periods, of mean square 1
            self.register_buffer(f"waves{axis}", waves.float(), persistent=False)

    def waves(self, axis: int) -> Tensor:
        """Waves of an axis, (n, n), one per row."""
        return self.get_buffer(f"waves{axis}")

    def forward(self, clips: Tensor) -> Tensor:
        """Coefficients (N, 3, T, H, W) of normalised clips of the same shape."""
        ycbcr = (self.forth @ clips.flatten(2) + self.offset).view(clips.shape)
        return separable(ycbcr, *(self.waves(axis) / n for axis, n in enumerate(self.shape)))

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of their lowest coefficients (N, 3, t, h, w); the others are 0."""
        lowest = (self.waves(axis)[:n].mT for axis, n in enumerate(coefficients.shape[2:]))
        ycbcr = separable(coefficients, *lowest)
        return (self.back @ (ycbcr.flatten(2) - self.offset)).view(ycbcr.shape)


@dataclass(frozen=True)
class Law:
    """What is known of the coefficients of clips.

    Args:
        mean: (3, T, H, W) float32.
        deviation: about it, alike.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, batches: Iterable[Tensor], shape: tuple[int, int, int]) -> Self:
        """The law of clips in batches (n, 3, T, H, W), normalised; one pass, sums in double precision."""
        cosines = Cosines(shape)
        count, total, squares = 0, torch.zeros(3, *shape).double(), torch.zeros(3, *shape).double()
        for clips in batches:
            found = cosines.to(clips.device)(clips).double()
            count += len(found)
            total += found.sum(0).cpu()
            squares += found.square().sum(0).cpu()
        if not count:
            raise ValueError("a code needs clips to be fitted to, and there are none")
        mean = total / count
        return cls(mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float())


class Decoder(nn.Module):
    """Clips as a fixed number of bytes: quantised cosine coefficients, the more bits the more they vary.

    Bits are given by reverse water-filling (`ops.coding.allot`). What both sides must know is stored beside the
    clips: the mean clip (its lowest frequencies, constant in time), which bands of frequencies have bits at all,
    and the deviation in those.

    Args:
        shape: T, H and W of a clip.
        nbytes: of a coded clip.
        bands: of frequencies along each axis, as wide as they are high, whose coefficients share a deviation;
            0 gives every coefficient its own.
        mean: lowest coefficients of the mean clip, (3, m, m) float16.
        mask: bands that have bits, packed, (bytes,) uint8.
        octaves: deviation in each of those, in eighths of an octave, (n,) uint8.
    """

    index: Tensor  # (n,) int64: where the coefficients that have bits lie in the box of the lowest
    bits: Tensor  # (n,) int64 of each
    deviation: Tensor  # (n,)
    limits: Tensor  # (n,) of their quantisers, in deviations
    steps: Tensor  # (n,)
    centre: Tensor  # (3, t, h, w): the mean clip in that box
    low: Tensor  # (3, 1, 1, 1), normalised black
    high: Tensor  # (3, 1, 1, 1), normalised white

    def __init__(
        self,
        shape: tuple[int, int, int],
        nbytes: int,
        bands: int,
        mean: Tensor,
        mask: Tensor,
        octaves: Tensor,
    ) -> None:
        super().__init__()
        band = band_of(shape, bands)
        check_stored(mean, mask, octaves, int(band.max()) + 1)
        self.nbytes, self.bands = nbytes, bands
        self.cosines = Cosines(shape)
        self.stored = {"mean": mean, "mask": mask, "octaves": octaves}
        held = unpack(mask[None], torch.ones(8 * len(mask), dtype=torch.int64))[
            0, : int(band.max()) + 1
        ].bool()
        place = held.cumsum(0) - 1
        coefficients = held[band].nonzero().flatten()
        log = LOWEST + octaves[place[band[coefficients]]].double() / STEPS
        bits = allot(log, 8 * nbytes)
        coefficients, log, bits = (part[bits > 0] for part in (coefficients, log, bits))
        where = torch.stack(torch.unravel_index(coefficients, (3, *shape)))
        low = max(mean.shape[1], mean.shape[2])
        self.box = [
            max(int(axis.max()) + 1, least) for axis, least in zip(where[1:], (1, low, low), strict=True)
        ]
        strides = torch.tensor([math.prod(self.box[i:]) for i in range(4)])
        centre = torch.zeros(3, *self.box)
        centre[:, 0, : mean.shape[1], : mean.shape[2]] = mean.float()
        limits, steps = quantiser(bits)
        named = {
            "index": (where * strides[:, None]).sum(0),
            "bits": bits,
            "deviation": torch.exp2(log).float(),
        }
        low_high = dict(zip(("low", "high"), valid_range(torch.device("cpu")), strict=True))
        for name, tensor in (named | low_high | {"limits": limits, "steps": steps, "centre": centre}).items():
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def of(cls, law: Law, nbytes: int, bands: int = BANDS, mean: int = LOW) -> Self:
        """The decoder for clips that follow a law.

        Args:
            law: of their coefficients.
            nbytes: of a coded clip.
            bands: see the class.
            mean: lowest frequencies kept of the mean clip, along height and width.
        """
        shape = (law.mean.shape[1], law.mean.shape[2], law.mean.shape[3])
        low = law.mean[:, 0, :mean, :mean].half()
        centre = torch.zeros_like(law.mean)
        centre[:, 0, :mean, :mean] = low.float()
        power = (law.deviation.double().square() + (law.mean - centre).double().square()).flatten()
        band = band_of(shape, bands)
        shared = torch.zeros(int(band.max()) + 1).double().index_add_(0, band, power) / torch.bincount(band)
        octaves = ((shared.sqrt().log2() - LOWEST) * STEPS).round().clamp(0, 255)
        bits = allot(LOWEST + octaves[band] / STEPS, 8 * nbytes)
        held = torch.zeros(len(octaves), dtype=torch.int64).index_add_(0, band, bits) > 0
        mask = pack(held[None].long(), torch.ones(len(held), dtype=torch.int64))[0]
        return cls(shape, nbytes, bands, low, mask, octaves[held].byte())

    def __len__(self) -> int:
        """Coefficients that have bits."""
        return len(self.index)

    @property
    def digest(self) -> Tensor:
        """SHA-256 of what is stored, (32,) uint8."""
        found = hashlib.sha256(f"{self.nbytes} {self.bands}".encode())
        for tensor in self.stored.values():
            found.update(tensor.contiguous().numpy().tobytes())
        return torch.tensor(list(found.digest()), dtype=torch.uint8)

    def encode(self, clips: Tensor) -> Tensor:
        """The coefficients that have bits, in deviations, (N, n), of normalised clips (N, 3, T, H, W)."""
        t, h, w = self.box
        found: Tensor = self.cosines(clips)[:, :, :t, :h, :w] - self.centre
        return found.flatten(1)[:, self.index] / self.deviation

    def decode(self, numbers: Tensor) -> Tensor:
        """Clips (N, 3, T, H, W) of coefficients (N, n) in deviations."""
        box = numbers.new_zeros(len(numbers), 3 * math.prod(self.box))
        box = box.index_copy(1, self.index, numbers * self.deviation).view(-1, 3, *self.box)
        clips: Tensor = self.cosines.inverse(box + self.centre)
        return clips

    def clips(self, numbers: Tensor) -> Tensor:
        """The same between black and white, as a player shows them."""
        return torch.minimum(torch.maximum(self.decode(numbers), self.low), self.high)

    def levels(self, numbers: Tensor) -> Tensor:
        """The levels that coefficients (N, n) are stored as."""
        return levels(numbers, self.limits, self.steps)

    def rounded(self, numbers: Tensor) -> Tensor:
        """Coefficients (N, n) as they are once stored; the gradient passes straight through."""
        stored = middles(self.levels(numbers.detach()), self.limits, self.steps)
        return stored + (numbers - numbers.detach())  # exactly the stored ones: the difference is 0

    def pack(self, numbers: Tensor) -> Tensor:
        """Coefficients (N, n) as bytes (N, nbytes) uint8."""
        return pack(self.levels(numbers).long(), self.bits)

    def unpack(self, codes: Tensor) -> Tensor:
        """Coefficients (N, n) of bytes (N, nbytes) uint8."""
        return middles(unpack(codes, self.bits).float(), self.limits, self.steps)


def check_stored(mean: Tensor, mask: Tensor, octaves: Tensor, bands: int) -> None:
    """Refuse parts of a decoder that do not fit together.

    Raises:
        ValueError: which, and what was expected.
    """
    held = sum(int(byte).bit_count() for byte in mask.tolist())
    wanted = {
        "mean": (mean, (3, *mean.shape[-1:] * 2), torch.float16),
        "mask": (mask, (-(-bands // 8),), torch.uint8),
        "octaves": (octaves, (held,), torch.uint8),
    }
    for name, (tensor, shape, dtype) in wanted.items():
        if tensor.shape != shape or tensor.dtype != dtype:
            raise ValueError(
                f"the code's {name} is {tuple(tensor.shape)} {tensor.dtype}, expected {shape} {dtype}"
            )


def band_of(shape: tuple[int, int, int], count: int) -> Tensor:
    """The band of every coefficient (3, T, H, W), flat: that of its frequency along each axis, per colour."""
    axes = [log_bands(n, count or n) for n in shape]
    many = [3, *(int(axis.max()) + 1 for axis in axes)]
    found = torch.zeros(1, dtype=torch.int64)
    for axis, size in zip((torch.arange(3), *axes), many, strict=True):
        found = (found[:, None] * size + axis).flatten()
    return found


def save_code(path: str | Path, law: Law, info: Mapping[str, Any], spec: ClipSpec) -> None:
    """Write a code's two files; others in the folder are left alone.

    Args:
        path: the folder, made if missing.
        law: of the coefficients.
        info: anything else JSON can hold: quality, fingerprint.
        spec: of the clips.
    """
    path = Path(path)
    with atomic_write(path / INFO) as about, atomic_write(path / WEIGHTS) as weights:  # the weights go first
        save_file({"mean": law.mean.contiguous(), "deviation": law.deviation.contiguous()}, weights)
        full = {**info, "format": FORMAT, "spec": coded_spec(spec), "sha256": sha256(weights)}
        about.write_text(json_text(full), encoding="utf-8")


class StoredCode(Fields):
    """`code.json`."""

    format: int
    spec: dict[str, Any]
    sha256: Digest


def coded_spec(spec: ClipSpec) -> dict[str, Any]:
    """How stored clips are cut from videos: what a code is fitted to."""
    length, kept = kept_frames(spec)
    return {"size": spec.size, "stride": spec.stride, "frames": list(kept or range(length))}


def load_code(path: str | Path, spec: ClipSpec) -> Law:
    """The law that a folder holds.

    Args:
        path: the folder.
        spec: of the clips to be coded.

    Raises:
        FileNotFoundError: there is none, with the command that fits one.
        ValueError: fitted to other clips, or a changed file.
    """
    path = Path(path)
    for name in (INFO, WEIGHTS):
        if not (path / name).is_file():
            raise FileNotFoundError(
                f"memory.code {path}: {name} is missing; fit one with `vdc pretrain --net code ...` on the same data"
            )
    info = read_fields(path / INFO, StoredCode, ("format", FORMAT))
    fitted = info["spec"]
    if fitted != (wanted := coded_spec(spec)):
        raise ValueError(
            f"memory.code {path} was fitted to clips of {fitted}, these are of {wanted}: fit one to them"
        )
    if (found := sha256(plain_file(path / WEIGHTS))) != info["sha256"]:
        raise ValueError(
            f"{path / WEIGHTS} changed since it was written: sha256 {found[:12]}, expected {info['sha256'][:12]}"
        )
    tensors, shape = read_tensors(path / WEIGHTS), (3, spec.stored, spec.size, spec.size)
    if {name: t.shape for name, t in tensors.items()} != {"mean": shape, "deviation": shape}:
        odd = {name: tuple(t.shape) for name, t in tensors.items()}
        raise ValueError(f"{path / WEIGHTS} holds {short(odd)}, expected mean and deviation of {shape}")
    return Law(**tensors)
