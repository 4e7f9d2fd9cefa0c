"""One training run of a network and its test, resumable after a kill."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.utilities import rank_zero_warn

from vdc.data import RealData
from vdc.system.files import sweep
from vdc.train.callbacks import Checks, EpochBar, Resumable
from vdc.train.checkpoints import WholeFiles, going_on
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol
from vdc.train.recovery import Recovery

Trained = EvalModule | Recovery
MakeTrainer = Callable[..., Trainer]
NOISE = (
    ".*does not have many workers",  # small machines want none
    ".*treespec, LeafSpec",  # Lightning 2.6 on torch >= 2.14
)


@dataclass(frozen=True)
class Running:
    """How runs are run, whatever they train.

    Args:
        trainer: makes a Trainer from keyword arguments, e.g. `functools.partial(Trainer, devices=2)`.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.
    """

    trainer: MakeTrainer = Trainer
    progress: bool = True
    checkpoint_every: float = 60.0

    @cached_property
    def processes(self) -> int:
        """How many train a network together; of several, says what that changes.

        Raises:
            ValueError: they would be spawned, and keep what a test finds to themselves.
        """
        world, spawned = processes_of(self.trainer)
        if spawned:
            raise ValueError("processes that are spawned hand no results back: set --trainer.strategy ddp")
        if world > 1:
            rank_zero_warn(
                f"networks are trained by {world} processes, each normalising by its share of a batch and drawing its "
                "own dropout: results differ from those of one process, and have names of their own"
            )
        return world

    @property
    def several(self) -> dict[str, int]:
        """What of this a trained network says: how many processes, where it is not one."""
        return {} if self.processes == 1 else {"processes": self.processes}

    def fit_and_test(
        self,
        module: Trained,
        data: LightningDataModule,
        folder: Path,
        title: str,
        checks: Sequence[int] = (),
        extra: Callback | None = None,
        after: int = 0,
    ) -> float:
        """Train and test, going on from the checkpoint in `folder` if there is one.

        Args:
            module: what is trained; it holds its scores afterwards.
            data: its clips.
            folder: of the checkpoint and the TensorBoard log of this run.
            title: of the progress bar.
            checks: epochs after which to validate, counted from 0.
            extra: a further callback.
            after: runs as long that follow, for the expected end.

        Returns:
            Seconds of training, over all runs it took.
        """
        bar = EpochBar(title, after) if self.progress else None
        resumable = Resumable(folder / "last.ckpt", self.checkpoint_every)
        sweep(folder)
        with quiet_lightning():
            trainer = self.trainer(
                max_epochs=module.protocol.epochs,
                callbacks=[one for one in (Checks(checks), extra, resumable, bar) if one is not None],
                logger=TensorBoardLogger(str(folder), name="", version=""),
                plugins=[WholeFiles()],
                enable_progress_bar=self.progress,
                enable_checkpointing=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                limit_val_batches=1.0 if checks else 0,
                log_every_n_steps=1,
                use_distributed_sampler=False,
            )
            resume = str(resumable.path) if resumable.path.exists() else None
            with going_on(resume):
                trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
            trainer.test(module, datamodule=data, verbose=False)
        return resumable.seconds


def processes_of(trainer: MakeTrainer) -> tuple[int, bool]:
    """How many processes the trainers that `trainer` makes run on, and whether they are spawned."""
    with quiet_lightning():
        off = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        made = trainer(logger=False, **off)
    return made.world_size, isinstance(made.strategy.launcher, _MultiProcessingLauncher)


def apply_protocol(data: RealData, protocol: Protocol) -> RealData:
    """Real videos, whose training clips are augmented, and test clips drawn, as a protocol says.

    Raises:
        ValueError: the protocol wants what only condensed sets offer.
    """
    if protocol.augment == "dsa" or protocol.cutmix:
        raise ValueError(
            f"protocol.augment {protocol.augment}, protocol.cutmix {protocol.cutmix}: real videos train "
            "with augment crop or none, and cutmix 0"
        )
    protocol.with_rate({}, "a run on real videos")
    return data.with_(
        test_passes=protocol.test_passes,
        augment=protocol.augment == "crop",
        crop_scale=protocol.crop_scale,
        flip=protocol.flip,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Without lines about devices, limits and workers, which each of many short runs would repeat."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOISE:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        log.setLevel(level)
