"""Previews: frames of the memory, playable, at the steps asked for."""

from io import BytesIO

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from tests.small import SPEC, K
from vdc.condensed.memory import Pixels
from vdc.methods.base.preview import Preview
from vdc.ops.pixels import to_frames


class Learner(LightningModule):
    def __init__(self):
        super().__init__()
        self.memory = Pixels(K, 2, SPEC)
        self.memory.initialise(torch.randn(K, 2, 3, 4, 16, 16))

    def training_step(self, batch, _):
        return self.memory.render(torch.tensor([0]))[0].pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Steps(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.zeros(5, 1))


def test_videos_play_in_tensorboard(tmp_path):
    module, logger = Learner(), TensorBoardLogger(str(tmp_path), name="", version="")
    preview = Preview(every=2, classes=2, items=1)
    trainer = Trainer(
        max_epochs=1, accelerator="cpu", logger=logger, callbacks=[preview], enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Steps())
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Images("memory")] == [2, 4, 5]
    animation = Image.open(BytesIO(events.Images("memory")[-1].encoded_image_string))
    assert (animation.format, animation.n_frames) == ("GIF", 4)
    first = to_frames(module.memory.render(torch.tensor([0]))[0])[0]
    for time in range(4):
        animation.seek(time)
        shown = np.asarray(animation.convert("RGB"), dtype=float)[: 16 * 6 : 6, : 16 * 6 : 6]
        assert abs(shown - first[time].numpy()).mean() < 12  # 256 colours


def test_rows_are_classes_and_columns_items():
    memory = Pixels(K, 2, SPEC)
    memory.initialise(torch.randn(K, 2, 3, 4, 16, 16))
    film = Preview(classes=2, items=2).film(memory)
    frames = to_frames(memory.render(torch.arange(4))[0])
    pitch = 16 * 6 + 2
    for row in range(4):
        top, left = row // 2 * pitch, row % 2 * pitch
        assert film[:, top : top + 96 : 6, left : left + 96 : 6].equal(frames[row])


def test_names_stand_beside_their_rows_and_clips_are_as_they_were():
    memory = Pixels(K, 2, SPEC)
    memory.initialise(torch.randn(K, 2, 3, 4, 16, 16))
    preview = Preview(classes=2, items=2)
    plain, named = preview.film(memory), preview.film(memory, ["first class", "b", "not shown"])
    assert named[:, :, -plain.shape[2] :].equal(plain)
    margin = named[:, :, : -plain.shape[2]]
    assert margin.shape[2] > 40
    bright = (margin[0].amax(-1) > 128).sum(1)
    letters = [int(bright[row * 98 : (row + 1) * 98].sum()) for row in range(2)]
    assert letters[0] > letters[1] > 0  # the longer name above


def test_impossible_previews_are_refused():
    with pytest.raises(ValueError, match="every 0"):
        Preview(every=0)
