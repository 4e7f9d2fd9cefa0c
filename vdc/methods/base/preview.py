"""What a condenser has learnt so far, as videos that play in TensorBoard."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # no stubs shipped
from torch import Tensor

from vdc.condensed.memory import Memory
from vdc.condensed.preview import enlarge, grid, write_gif
from vdc.ops.pixels import to_frames

SIDE = 96  # pixels a clip is shown at


class Preview(Callback):
    """Log clips of the memory as animated images; plays in the Images tab and needs no moviepy.

    Args:
        every: steps between two previews; one more is logged at the end.
        classes: shown at most, a row each.
        items: shown at most of a class.
    """

    def __init__(self, every: int = 500, classes: int = 8, items: int = 4) -> None:
        if min(every, classes, items) < 1:
            raise ValueError(
                f"preview every {every}, classes {classes}, items {items}: all must be at least 1"
            )
        self.every, self.classes, self.items = every, classes, items

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log if it is time."""
        if trainer.global_step and trainer.global_step % self.every == 0:  # 0: a selection's whole pass
            self.show(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the result."""
        self.show(trainer, pl_module)

    def show(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the memory as it is."""
        memory = pl_module.memory
        assert isinstance(memory, Memory)
        for logger in trainer.loggers:
            if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
                log_video(logger, "memory", self.film(memory), trainer.global_step)

    @torch.no_grad()
    def film(self, memory: Memory) -> Tensor:
        """The shown clips side by side, (T, H, W, C) uint8."""
        columns = min(self.items, memory.ipc) * memory.per_item
        rows = memory.prefix(min(self.items, memory.ipc))[: columns * self.classes]
        device = next((t.device for t in (*memory.parameters(), *memory.buffers())), torch.device("cpu"))
        frames = to_frames(memory.render(rows.to(device))[0]).cpu()
        return grid(enlarge(frames, SIDE), columns)


def log_video(logger: TensorBoardLogger, tag: str, frames: Tensor, step: int) -> None:
    """Add an animation of `frames` (T, H, W, C) uint8 to a TensorBoard log.

    `SummaryWriter.add_video` would need moviepy; an image summary may hold an animated GIF just as well.
    """
    image = Summary.Image(
        height=frames.shape[1], width=frames.shape[2], colorspace=3, encoded_image_string=write_gif(frames)
    )
    writer = logger.experiment._get_file_writer()
    writer.add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)
