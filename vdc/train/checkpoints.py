"""Checkpoints that are written whole, know their run, and say in one line why they cannot be continued from."""

import io
import traceback
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from vdc.system.files import atomic_write

RUN = "run"  # key of a checkpoint under which it says what it is of
RESTORING = "lightning.pytorch.trainer.connectors.checkpoint_connector"  # where Lightning takes one over
REACHED = {"trainer.max_steps": "global_step", "trainer.max_epochs": "epoch"}  # a run may be given more


class WholeFiles(TorchCheckpointIO):
    """Checkpoints beside their target until they are complete, so that a full disk leaves the older one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            OSError: the disk is full.
        """
        with atomic_write(path) as temporary, _File(temporary) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError:  # PyTorch's writer hides what the file said
                raise file.failure or RuntimeError from file.failure

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> Any:
        """Read a checkpoint, or weights that a spawned process hands back, without running code in them.

        Raises:
            ValueError: it is damaged.
        """
        check_sums(path)
        return _read(path)


class _File(io.FileIO):
    """A file that remembers why it could not be written."""

    failure: OSError | None = None

    def __init__(self, path: Path) -> None:
        super().__init__(path, "wb")

    def write(self, part: Any) -> int:
        """All of `part`, or an error."""
        rest = memoryview(part).cast("B")
        try:
            while rest:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.failure = error
            raise
        return memoryview(part).nbytes


def read_checkpoint(path: str | Path, mmap: bool = False) -> dict[str, Any]:
    """A Lightning checkpoint on the host; nothing in it is run.

    Args:
        path: the file.
        mmap: leave its tensors on the disk until they are used.

    Raises:
        ValueError: it is damaged, or no checkpoint at all.
    """
    checkpoint = _read(path, mmap)
    if not isinstance(checkpoint, dict) or not {"state_dict", "loops", "global_step"} <= checkpoint.keys():
        raise ValueError(f"{path} is no checkpoint of a training run: give another")
    return checkpoint


def _read(path: str | Path, mmap: bool = False) -> Any:
    """What a file of PyTorch holds, on the host."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except Exception as error:  # a reader of damaged bytes may raise anything
        raise _damaged(path) from error


def check_sums(path: str | Path) -> None:
    """Refuse a file of which a part is not what was written: PyTorch reads it without a look at its checksums.

    Raises:
        ValueError: it is.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            odd = parts.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise _damaged(path) from error
    if odd is not None:
        raise _damaged(path)


def _damaged(path: str | Path) -> ValueError:
    return ValueError(f"{path} is no checkpoint, or a damaged one: remove it to begin anew, or give another")


@contextmanager
def going_on(path: str | None) -> Iterator[None]:
    """Have whatever PyTorch or Lightning raises while it takes over a checkpoint name the file.

    Args:
        path: of the checkpoint; `None` where a run begins anew.

    Raises:
        ValueError: what it holds is not what a run like this one writes.
    """
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        if path is None or not any(frame.f_globals.get("__name__") == RESTORING for frame, _ in frames):
            raise
        if isinstance(error, ValueError):  # said on purpose
            raise
        told = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} is not what this run writes ({type(error).__name__}: {told}): remove it to begin anew, or give "
            "another"
        ) from error


class KnowsItsRun(Callback):
    """Have checkpoints say what they are of.

    Args:
        run: all that decides what the run computes, by key.
    """

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = dict(run)
        self._source: Any = None

    def _data(self, trainer: Trainer) -> Any:
        """The fingerprint of the data, read once."""
        if self._source is None:
            self._source = trainer.datamodule.fingerprint()  # type: ignore[attr-defined]
        return self._source

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add it."""
        checkpoint[RUN] = {"keys": self.run, "data": self._data(trainer)}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Refuse other videos; `check_run` has compared what was known before.

        Raises:
            ValueError: the data was changed.
        """
        before, now = checkpoint[RUN]["data"], self._data(trainer)
        odd = [part for part in now if now[part] != before.get(part)]
        if odd:
            raise ValueError(
                f"the checkpoint is of other data: {odd[0]} is {now[odd[0]]} now and was {before.get(odd[0])}; "
                "without --resume or --ckpt_path the run starts anew"
            )


def check_run(path: str | Path, run: Mapping[str, Any]) -> None:
    """Refuse to go on from the checkpoint of another run.

    Args:
        path: of the checkpoint.
        run: all that decides what this run computes, by key.

    Raises:
        ValueError: the first key that differs, with both values; or a file that is no checkpoint of a run.
    """
    checkpoint = read_checkpoint(path, mmap=True)
    before = checkpoint.get(RUN)
    if not isinstance(before, dict) or not isinstance(before.get("keys"), dict):
        raise ValueError(f"{path} does not say which run it is of: it was not written by this `vdc fit`")
    for key in dict.fromkeys((*run, *before["keys"])):
        then, now = before["keys"].get(key), run.get(key)
        if then == now or (key in REACHED and _not_passed(now, checkpoint[REACHED[key]])):
            continue
        if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
            place = next(i for i, one in enumerate(now) if one != then[i])
            key, then, now = f"{key}[{place}]", then[place], now[place]
        raise ValueError(
            f"{path} is of another run: {key} was {_short(then)} there and is {_short(now)} here; without --resume "
            "or --ckpt_path the run starts anew"
        )


def _not_passed(limit: Any, reached: int) -> bool:
    """Whether a run to `limit` steps or epochs can go on from where another one is; `None` and -1 limit nothing."""
    return limit is None or limit == -1 or limit >= reached


def _short(value: Any) -> str:
    """A value in an error message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Checkpoint(ModelCheckpoint):
    """Lightning's own, which also saves after the very last step, so that a finished run can be given more."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time, and at the end."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        ends = 0 < trainer.fit_loop.epoch_loop.max_steps <= trainer.global_step
        if ends and self.save_last and not self._should_skip_saving_checkpoint(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
