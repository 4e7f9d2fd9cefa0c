"""Training an interpolator: to recover real clips from a few of their frames."""

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from vdc.nets.interpolator import Interpolator
from vdc.ops.rng import derive, generator
from vdc.ops.windows import interpolate, key_frames
from vdc.spec import Batch, ClipSpec
from vdc.train.module import optimisation
from vdc.train.protocol import Protocol


def duplicated(clips: Tensor, keys: int) -> Tensor:
    """Clips (N, C, T, H, W) of which only `keys` frames are known, each shown until the next."""
    known = clips[:, :, key_frames(clips.shape[2], keys)]
    return interpolate(known, clips.shape[2], "duplicate")


def linear(clips: Tensor, keys: int) -> Tensor:
    """Clips (N, C, T, H, W) of which only `keys` frames are known, from end to end, and blended between them."""
    known = clips[:, :, key_frames(clips.shape[2], keys, ends=True)]
    return interpolate(known, clips.shape[2], "linear_ends")


class Recovery(LightningModule):
    """Train an interpolator on whatever a DataModule yields as `Batch`, by squared error of normalised pixels.

    Every step draws how many key frames it is given.

    Args:
        spec: clip shapes.
        protocol: how it is trained; its loss and labels are not used.
        seed: of initial weights and of everything drawn.
        options: further arguments of the interpolator.
    """

    batches: ClassVar[str] = "shuffled"

    def __init__(self, spec: ClipSpec, protocol: Protocol, seed: int, options: dict[str, Any]) -> None:
        super().__init__()
        self.net = Interpolator(spec.frames, spec.size, **options)
        self.protocol = protocol
        self.seed = seed
        self.net.reset_parameters(generator(seed, "init"))
        self.errors: dict[
            str, dict[str, float]
        ] = {}  # of the last test: number of key frames -> method -> error
        self._sums: dict[tuple[int, str], Tensor] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of the network."""
        rng = generator(self.seed, "keys", self.global_step)
        keys = self.net.keys[int(torch.randint(len(self.net.keys), (), generator=rng))]
        made: Tensor = self.net(duplicated(batch.clips, keys))
        loss = (made - batch.clips).square().mean()
        self.log("train/error", loss.detach(), on_step=False, on_epoch=True)
        return loss

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Nothing depends on what was drawn before, so that a resumed run repeats it."""
        torch.manual_seed(derive(self.seed, "step", self.global_step, self.global_rank))

    def configure_optimizers(self) -> Any:
        """By the protocol."""
        return optimisation(self.net, self.protocol)

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the protocol, else by the trainer's own setting."""
        limit = gradient_clip_val if self.protocol.clip_grad is None else self.protocol.clip_grad
        self.clip_gradients(optimizer, limit, gradient_clip_algorithm)

    # -- testing -----------------------------------------------------------------------------------

    def on_test_start(self) -> None:
        """Forget the last test."""
        self._sums = {}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Errors of test clips, also of what needs no training."""
        clips = batch.clips
        for keys in self.net.keys:
            known = duplicated(clips, keys)
            found = {"interpolator": self.net(known), "duplicate": known}
            if keys > 1:
                found["linear_ends"] = linear(clips, keys)
            for name, made in found.items():
                error = (made - clips).square().mean((1, 2, 3, 4)).sum()
                held = self._sums.get((keys, name), torch.zeros(2, device=self.device))
                self._sums[keys, name] = held + torch.stack([error, error.new_tensor(len(clips))])

    def on_test_epoch_end(self) -> None:
        """Mean squared error of normalised pixels, over all processes."""
        self.errors = {}
        for (keys, name), held in self._sums.items():
            total, count = self.trainer.strategy.reduce(held, reduce_op="sum")
            self.errors.setdefault(str(keys), {})[name] = round(float(total / count), 6)
