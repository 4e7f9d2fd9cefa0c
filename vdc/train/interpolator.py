"""Pretraining of an interpolator, which becomes a folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vdc.data import RealData
from vdc.nets.interpolator import INFO, save_interpolator
from vdc.system.processes import first_process
from vdc.system.resume import once, work_folder
from vdc.system.versions import versions
from vdc.train.protocol import Protocol, named
from vdc.train.recovery import Recovery
from vdc.train.run import MakeTrainer, Running, apply_protocol
from vdc.train.teacher import recipe_of


def pretrain_interpolator(
    data: RealData,
    out: str,
    protocol: Protocol | None = None,
    *,
    seed: int = 0,
    net_options: dict[str, Any] | None = None,
    trainer: MakeTrainer = Trainer,
    progress: bool = True,
    checkpoint_every: float = 60.0,
) -> dict[str, Any]:
    """Train an interpolator on the real videos and write it. After a kill, the same call goes on.

    The test split is scored once, afterwards, beside what duplication and end-aligned blending reach.

    Args:
        data: the real videos.
        out: folder of the interpolator; also of the TensorBoard log, and of the checkpoint until it is done.
        protocol: how it is trained; `None` is `named("interpolator")`.
        seed: of everything random.
        net_options: further arguments of `nets.interpolator.Interpolator`.
        trainer: makes a Lightning Trainer from keyword arguments.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.

    Returns:
        What `interpolator.json` holds.
    """
    data.setup("test")  # hours before the test would find that there is nothing to test on
    folder, settled = Path(out), (protocol or named("interpolator")).with_labels("hard")
    if settled.ema or settled.standardise or settled.test_passes:
        raise ValueError(
            "protocol.ema, protocol.standardise and protocol.test_passes are not for interpolators"
        )
    data = apply_protocol(data, settled)
    module = Recovery(data.spec, settled, seed, net_options or {})
    running = Running(trainer, progress, checkpoint_every)
    about = {"recipe": recipe_of(data, settled, seed), "source": data.fingerprint(), **running.several}

    def make(key: str) -> None:
        work = work_folder(folder, key)
        seconds = running.fit_and_test(module, data, work, "pretrain interpolator")
        extra = {"error": module.errors, "seconds": round(seconds, 1), "versions": versions(), "key": key}
        if first_process():
            save_interpolator(folder, module.net, about | extra, data.spec.stride)

    return once(folder / INFO, [asdict(data.spec), module.net.options, about], make)
