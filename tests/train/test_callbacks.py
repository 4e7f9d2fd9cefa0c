"""Checks and checkpoints at the right epochs, and one bar for all of them."""

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch.utils.data import DataLoader

from vdc.system.files import atomic_write
from vdc.train import callbacks
from vdc.train.callbacks import Checks, EpochBar, Resumable


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.line, self.looks = torch.nn.Linear(1, 1), []

    def training_step(self, batch, _):
        loss = self.line(batch).pow(2).mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        self.looks.append(self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.1)


class Ones(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.ones(3, 1))

    def val_dataloader(self):
        return DataLoader(torch.ones(1, 1))


def fit(epochs, *callbacks, resume=None, bar=False):
    module = Line()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, callbacks=list(callbacks), num_sanity_val_steps=0,
        enable_checkpointing=False, enable_progress_bar=bar, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=Ones(), ckpt_path=resume, weights_only=True)
    return module


@pytest.mark.parametrize("epochs", [(), (0,), (2, 3, 6), (6,)])
def test_checks_happen_at_the_given_epochs_only(epochs):
    assert fit(7, Checks(epochs)).looks == list(epochs)


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_checks_after_a_resume_are_those_left(tmp_path, at):
    class Keep(Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            if trainer.current_epoch == at:
                trainer.save_checkpoint(tmp_path / "kept.ckpt")

    whole = fit(5, Checks((1, 2, 4)), Keep())
    resumed = fit(5, Checks((1, 2, 4)), resume=tmp_path / "kept.ckpt")
    assert resumed.looks == [epoch for epoch in whole.looks if epoch > at]
    assert resumed.line.weight.equal(whole.line.weight)


def test_checkpoints_are_as_rare_as_asked(tmp_path, monkeypatch):
    written = []

    def counting(path):
        written.append(path)
        return atomic_write(path)

    monkeypatch.setattr("vdc.train.callbacks.atomic_write", counting)
    fit(4, Resumable(tmp_path / "last.ckpt", every=0))
    assert len(written) == 4
    fit(4, Resumable(tmp_path / "other.ckpt", every=1000))
    assert len(written) == 4


def test_seconds_add_up_over_runs(tmp_path):
    first = Resumable(tmp_path / "last.ckpt", every=0)
    fit(2, first)
    second = Resumable(tmp_path / "last.ckpt", every=0)
    fit(4, second, resume=tmp_path / "last.ckpt")
    assert second.seconds > first.seconds * 0.9 > 0
    assert second.spent == second.seconds  # the clock stands


def test_one_bar_counts_the_epochs_and_tells_when_all_runs_end(monkeypatch):
    made = []

    class Counted(callbacks.Bar):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            made.append(self)
            self.notes = []

        def move(self, done, note=None):
            super().move(done, note)
            self.notes.append(self.note)

    monkeypatch.setattr(callbacks, "Bar", Counted)
    monkeypatch.setattr(callbacks, "REFRESH", 0.0)
    bar = EpochBar("a title", after=2)
    fit(6, Checks((3,)), bar, bar=True)
    epochs, check = made
    assert (epochs.title, epochs.first, epochs.done, epochs.total) == ("a title", 0, 6, 6)
    assert (check.title, check.done) == ("  check", 1)
    assert "for all 3 runs" not in epochs.notes[2]  # of two epochs nothing follows yet
    assert "for all 3 runs) loss" in epochs.notes[-1]
