"""What a run of hundreds of tiny epochs needs of a trainer: rare checks and checkpoints, one progress bar."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar

from vdc.system.files import atomic_write
from vdc.system.progress import Bar, span

FORECAST = 3  # epochs after which the end of all runs is worth telling
REFRESH = 0.5  # seconds between two looks at the loss: each waits for the device


class Checks(Callback):
    """Validate after the given epochs only; the trainer itself knows equal intervals.

    Args:
        epochs: counted from 0.
    """

    def __init__(self, epochs: Iterable[int]) -> None:
        self.epochs = frozenset(epochs)

    def _aim(self, trainer: Trainer, epoch: int) -> None:
        trainer.check_val_every_n_epoch = (
            1 if epoch in self.epochs else epoch + 2
        )  # epoch + 1 is no multiple of it

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide for the first epoch."""
        self._aim(trainer, trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Decide for the next epoch."""
        self._aim(trainer, trainer.current_epoch + 1)


class Resumable(Callback):
    """One checkpoint, renewed at epoch ends, so that a killed run loses little.

    Args:
        path: of the checkpoint.
        every: seconds between two; 0 writes after every epoch.
    """

    def __init__(self, path: Path, every: float = 60.0) -> None:
        self.path, self.every = path, every
        self.spent = 0.0  # seconds of training, over all runs
        self._since = self._written = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clocks."""
        self._since = self._written = time.monotonic()

    @property
    def seconds(self) -> float:
        """Of training so far, over all runs."""
        return self.spent + time.monotonic() - self._since if self._since else self.spent

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write if it is time."""
        due = time.monotonic() - self._written >= self.every
        if trainer.world_size > 1:  # the processes' clocks differ, and all must take part
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if not due:
            return
        if trainer.is_global_zero:
            with atomic_write(self.path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
        else:
            trainer.save_checkpoint(self.path, weights_only=False)  # takes part in gathering, writes nothing
        self._written = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        self.spent, self._since = self.seconds, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Seconds so far."""
        return {"spent": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.spent = state_dict["spent"]


class StepBar(ProgressBar):
    """One bar of all steps of a run, which starts where a resumed one was left.

    Lightning's own counts the batches of an epoch, and a run of so many steps has epochs of a length of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Bar
        self._looked = 0.0

    def disable(self) -> None:
        """Show nothing: on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    @staticmethod
    def _done(trainer: Trainer, batches: int) -> int:
        """Steps so far, or batches where no optimiser counts: methods that choose clips."""
        return trainer.global_step or trainer.current_epoch * int(trainer.num_training_batches) + batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where the run starts."""
        steps, epochs, batches = trainer.max_steps, trainer.max_epochs or -1, trainer.num_training_batches
        total = (
            steps if steps > 0 else epochs * int(batches) if epochs > 0 and batches != float("inf") else None
        )
        done = self._done(trainer, 0)
        self._bar = Bar(type(pl_module).__name__, total, done, "steps", self._enabled)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; look at the loss only now and then."""
        now, note = time.monotonic(), None
        if self._enabled and now - self._looked > REFRESH:
            self._looked = now
            note = " ".join(f"{name} {float(v):.4g}" for name, v in trainer.progress_bar_metrics.items())
        self._bar.move(self._done(trainer, batch_idx + 1), note)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._bar.close()


class EpochBar(ProgressBar):
    """One bar of epochs per run, with the expected end of all runs, and a passing one for each held-out pass.

    Args:
        title: what the run is.
        after: runs as long as this one that follow it.
    """

    def __init__(self, title: str, after: int = 0) -> None:
        super().__init__()
        self.title, self.after = title, after
        self._enabled = True
        self._epochs: Bar
        self._passing: Bar
        self._looked = 0.0

    def disable(self) -> None:
        """Show nothing: on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where a resumed run starts."""
        epochs, done = trainer.max_epochs or 0, trainer.current_epoch
        self._epochs = Bar(self.title, epochs, done, "epochs", self._enabled)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epoch; look at the loss only now and then."""
        now, note = time.monotonic(), None
        if self._enabled and now - self._looked > REFRESH:
            self._looked = now
            metrics = {name.split("/")[-1]: float(v) for name, v in trainer.callback_metrics.items()}
            told = [f"{name} {metrics[name]:.4g}" for name in ("loss", "top1") if name in metrics]
            note = " ".join([*self.whole(), *told])
        self._epochs.move(self._epochs.done + 1, note)

    def whole(self) -> list[str]:
        """When all runs will have ended, if others follow and the pace of this one is known."""
        made, left = self._epochs.done - self._epochs.first, self._epochs.left()
        if not self.after or left is None or made < FORECAST:
            return []
        total = left + self.after * self._epochs.pace() * (self._epochs.total or 0)
        return [f"({span(total)} for all {self.after + 1} runs)"]

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._epochs.close()

    def _open(self, batches: Any, title: str) -> None:
        total = sum(batches) if isinstance(batches, list) else batches
        whole = None if total == float("inf") else int(total)
        self._passing = Bar(title, whole, unit="batches", show=self._enabled, delay=1.0, leave=False)

    def _count(self) -> None:
        self._passing.move(self._passing.done + 1)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar for this pass."""
        self._open(trainer.num_val_batches, "  check")

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._count()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._passing.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar for this pass."""
        self._open(trainer.num_test_batches, "  test")

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._count()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._passing.close()
