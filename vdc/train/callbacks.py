"""What a run of hundreds of tiny epochs needs of a trainer: rare checks and checkpoints, one progress bar."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from tqdm.auto import tqdm

from vdc.system.files import atomic_write

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
        self._steps: Any = None
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
        self._steps = tqdm(
            total=total,
            initial=self._done(trainer, 0),
            desc=type(pl_module).__name__,
            unit="step",
            disable=not self._enabled,
            dynamic_ncols=True,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the step; look at the loss only now and then."""
        now = time.monotonic()
        if self._enabled and now - self._looked > REFRESH:
            self._looked = now
            shown = {name: f"{float(v):.4g}" for name, v in trainer.progress_bar_metrics.items()}
            self._steps.set_postfix(shown, refresh=False)
        self._steps.update(self._done(trainer, batch_idx + 1) - self._steps.n)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._steps.close()


class EpochBar(ProgressBar):
    """One bar of epochs per run, and a passing one for each held-out pass.

    Args:
        title: what the run is.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self._enabled = True
        self._epochs: Any = None
        self._passing: Any = None
        self._looked = 0.0

    def disable(self) -> None:
        """Show nothing: on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def _bar(self, total: int | float, title: str, unit: str, **options: Any) -> Any:
        whole = None if total == float("inf") else int(total)
        return tqdm(
            total=whole, desc=title, unit=unit, disable=not self._enabled, dynamic_ncols=True, **options
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show where a resumed run starts."""
        self._epochs = self._bar(trainer.max_epochs or 0, self.title, "epoch", initial=trainer.current_epoch)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the epoch; look at the loss only now and then."""
        now = time.monotonic()
        if self._enabled and now - self._looked > REFRESH:
            self._looked = now
            shown = {name.split("/")[-1]: f"{float(v):.4g}" for name, v in trainer.callback_metrics.items()}
            self._epochs.set_postfix(shown, refresh=False)
        self._epochs.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the finished bar."""
        self._epochs.close()

    def _open(self, batches: Any, title: str) -> None:
        total = sum(batches) if isinstance(batches, list) else batches
        self._passing = self._bar(total, title, "batch", leave=False)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar for this pass."""
        self._open(trainer.num_val_batches, "  check")

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._passing.update()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._passing.close()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A bar for this pass."""
        self._open(trainer.num_test_batches, "  test")

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Count the batch."""
        self._passing.update()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the bar away."""
        self._passing.close()
