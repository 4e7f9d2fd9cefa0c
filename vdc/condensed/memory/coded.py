"""Coded: clips as a few hundred bytes each, from a transform code fitted to the training clips."""

from typing import Self

import torch
from torch import Tensor, nn

from vdc.condensed.code import BANDS, LOW, Decoder, load_code
from vdc.condensed.memory.base import SHARED, Memory
from vdc.spec import ClipSpec

CHUNK = 256  # clips packed at a time
CODE = f"{SHARED}code."


class Coded(Memory):
    """Items of `clips_per_item` clips, each a fixed number of bytes of a transform code.

    What is learnt are cosine coefficients in units of their deviation, so that a step of the optimiser weighs as
    much in all frequencies; rounding to what is stored is passed straight through by gradients. What is rendered,
    also while it learns, is what will be stored. See `condensed.code` for the code.

    Args:
        num_classes: K.
        ipc: items per class.
        spec: shapes of the stored and seen clips.
        code: folder of the code, from `vdc pretrain --net code`.
        clip_bytes: of every coded clip.
        clips_per_item: coded clips that an item holds.
        bands: of frequencies along each axis that share a deviation in the stored decoder; 0 stores one per
            coefficient: a larger decoder, worth it for sets of hundreds of clips.
        mean: lowest frequencies of the mean clip in the stored decoder, along height and width.
    """

    coefficients: nn.Parameter  # (rows, n), in deviations; absent from a restored memory
    codes: Tensor | None  # (K * ipc, clips_per_item, clip_bytes) uint8; only in a restored memory

    def __init__(
        self,
        num_classes: int,
        ipc: int,
        spec: ClipSpec,
        code: str,
        clip_bytes: int = 690,
        clips_per_item: int = 1,
        bands: int = BANDS,
        mean: int = LOW,
    ) -> None:
        super().__init__(num_classes, ipc, spec)
        counts = {"clip_bytes": clip_bytes, "clips_per_item": clips_per_item, "bands": bands, "mean": mean}
        for name, count in counts.items():
            least = 0 if name == "bands" else 1
            if count < least:
                raise ValueError(f"memory.{name} must be at least {least}, got {count}")
        with torch.device("cpu"):  # also where the rest is built on the meta device
            self._adopt(Decoder.of(load_code(code, spec), clip_bytes, bands, mean), clips_per_item)
        self.coefficients = nn.Parameter(torch.zeros(len(self), len(self.decoder)))

    def _adopt(self, decoder: Decoder, clips_per_item: int) -> None:
        """Decode by `decoder` from now on."""
        self.decoder, self.per_item = decoder, clips_per_item
        self.register_buffer("codes", None, persistent=False)

    def clips(self, rows: Tensor) -> Tensor:
        """Clips of `rows`, (N, C, T_c, H, W) normalised."""
        if self.codes is not None:
            numbers = self.decoder.unpack(self.codes.flatten(0, 1)[rows])
        else:
            numbers = self.decoder.rounded(self.coefficients[rows])
        return self.decoder.clips(numbers)

    def as_stored(self, clips: Tensor) -> Tensor:
        """Real clips (n, C, T_c, H, W), coded and decoded again."""
        return self.decoder.clips(self.decoder.rounded(self.decoder.encode(clips)))

    @torch.no_grad()
    def initialise(self, clips: Tensor) -> None:
        """Code clips (K, n, C, T_c, H, W), normalised, in the order of clip rows.

        Raises:
            ValueError: the clips have another shape.
        """
        wanted = (
            self.num_classes,
            self.init_clips_per_class,
            3,
            self.spec.stored,
            self.spec.size,
            self.spec.size,
        )
        if clips.shape != wanted:
            raise ValueError(
                f"memory of (K, init_clips_per_class, C, T, H, W) {wanted} cannot start from {tuple(clips.shape)}"
            )
        for first, part in zip(
            range(0, len(self), CHUNK), torch.split(clips.flatten(0, 1), CHUNK), strict=True
        ):
            self.coefficients[first : first + CHUNK] = self.decoder.encode(part)
        self.clamp()

    @torch.no_grad()
    def clamp(self) -> None:
        """Bring coefficients back into the range of their quantisers, in place."""
        if self.codes is None:
            limits = self.decoder.limits
            self.coefficients.clamp_(-limits, limits)

    @torch.no_grad()
    def state(self) -> dict[str, Tensor]:
        """`codes` (K * ipc, clips_per_item, clip_bytes) uint8, and the decoder under `shared.code.`, on the host."""
        if self.codes is not None:
            codes = self.codes.cpu()
        else:
            parts = [self.decoder.pack(part).cpu() for part in torch.split(self.coefficients, CHUNK)]
            codes = torch.cat(parts).view(-1, self.per_item, self.decoder.nbytes)
        return {"codes": codes} | {CODE + name: tensor for name, tensor in self.decoder.stored.items()}

    @classmethod
    def restore(
        cls, state: dict[str, Tensor], num_classes: int, ipc: int, spec: ClipSpec, **options: object
    ) -> Self:
        """A memory that renders exactly the stored clips, decoded row by row when asked for.

        Raises:
            ValueError: tensors are missing, or not of the shape and type that the arguments tell.
        """
        parts = {name.removeprefix(CODE): tensor for name, tensor in state.items() if name != "codes"}
        bands, clips, size = (int(str(options[name])) for name in ("bands", "clips_per_item", "clip_bytes"))
        memory = cls.__new__(cls)  # without the folder of the code, of which the set holds what it needs
        Memory.__init__(memory, num_classes, ipc, spec)
        memory._adopt(Decoder((spec.stored, spec.size, spec.size), size, bands, **parts), clips)
        found, wanted = state.get("codes"), (num_classes * ipc, clips, size)
        if found is None or found.shape != wanted or found.dtype != torch.uint8:
            told = "missing" if found is None else f"{tuple(found.shape)} {found.dtype}"
            raise ValueError(f"stored codes are {told}, expected {wanted} torch.uint8")
        memory.register_parameter("coefficients", None)
        memory.codes = found
        return memory

    def options(self) -> dict[str, object]:
        """The layout, and how the decoder is read."""
        layout: dict[str, object] = {"clip_bytes": self.decoder.nbytes, "clips_per_item": self.per_item}
        return layout | {"bands": self.decoder.bands}

    def get_extra_state(self) -> Tensor:
        """Which code a checkpoint's coefficients are of, (32,) uint8."""
        return self.decoder.digest

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse coefficients of another code.

        Raises:
            ValueError: they are.
        """
        if not torch.equal(state.cpu(), self.decoder.digest):
            raise ValueError(
                "--ckpt_path is of another code: its memory.code was fitted anew since, or is another"
            )
