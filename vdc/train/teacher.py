"""Pretraining: a network trained on all training videos becomes a teacher folder."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from safetensors.torch import load_file, save_file

from vdc.data import RealData
from vdc.nets.stored import INFO
from vdc.nets.teacher import save_teacher
from vdc.nets.transformers import resolved
from vdc.nets.weights import Weights, find_weights
from vdc.system.files import atomic_write
from vdc.system.processes import first_process
from vdc.system.resume import BEST, once, work_folder
from vdc.system.versions import versions
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol, named
from vdc.train.run import MakeTrainer, Running, apply_protocol

LOOKS = 30  # times the validation split is scored


def pretrain(
    net: str,
    data: RealData,
    out: str,
    protocol: Protocol | None = None,
    *,
    seed: int = 0,
    net_options: dict[str, Any] | None = None,
    weights: Weights | None = None,
    trainer: MakeTrainer = Trainer,
    progress: bool = True,
    checkpoint_every: float = 60.0,
) -> dict[str, Any]:
    """Train a network on the real videos and write it as a teacher. After a kill, the same call goes on.

    With validation videos (`data.val_share`, or a `val` folder) the weights of its best epoch are kept, else those
    of the last.
    The test split is scored once, afterwards.

    Args:
        net: name of the network; the command also takes `interpolator` and `code`.
        data: the real videos.
        out: folder of the teacher; also of the TensorBoard log, and of the checkpoints until it is done.
        protocol: how it is trained; `None` is `named("teacher")`.
        seed: of initial weights, dropout and order.
        net_options: further arguments of the network.
        weights: that it starts from; `None` starts afresh.
        trainer: makes a Lightning Trainer from keyword arguments.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.

    Returns:
        What `teacher.json` holds.
    """
    data.setup("test")  # hours before the test would find that there is nothing to test on
    folder = Path(out)
    settled = (protocol or named("teacher")).with_labels("hard")
    data = apply_protocol(data, settled)
    found = None if weights is None else find_weights(weights, [net])
    module = EvalModule(net, data.num_classes, data.spec, settled, seed, net_options)
    started = {} if found is None else {"weights": module.start_from(found, data.classes)}
    running = Running(trainer, progress, checkpoint_every)
    about = {
        "classes": data.classes,
        "net_options": resolved(net, net_options or {}),
        "recipe": recipe_of(data, settled, seed),
        "source": data.fingerprint(),
        **running.several,
        **started,
    }

    def make(key: str) -> None:
        work = work_folder(folder, key)
        looks = look_epochs(settled.epochs) if data.splits["val"] else []
        best = KeepBest(work / BEST)
        seconds = running.fit_and_test(module, data, work, f"pretrain {net}", looks, best if looks else None)
        scores = {"validation": best.of(module.history) if looks else None, "test": module.outcome()}
        extra = {"seconds": round(seconds, 1), "versions": versions(), "key": key}
        if first_process():
            with module.averaged():
                save_teacher(folder, module.net, about | scores | extra)

    return once(folder / INFO, [net, asdict(data.spec), about], make)


def recipe_of(data: RealData, protocol: Protocol, seed: int) -> dict[str, Any]:
    """How a network is trained and tested on real videos."""
    from_data = ("batch_size", "val_share", "test_clips", "short_video")
    return {"protocol": asdict(protocol), "seed": seed, **{name: getattr(data, name) for name in from_data}}


def look_epochs(epochs: int) -> list[int]:
    """Evenly spread epochs to score the validation split after, counted from 0, the last among them."""
    return sorted({max(round(epochs * (i + 1) / LOOKS), 1) - 1 for i in range(LOOKS)})


class KeepBest(Callback):
    """Keep the weights of the epoch that scored best on the validation split, the earlier one of equals.

    Args:
        path: of the weights.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def of(history: list[dict[str, float]]) -> dict[str, float]:
        """The best look so far."""
        return max(history, key=lambda look: look["top1"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights that were just scored: averaged ones, where the protocol has an EMA."""
        assert isinstance(pl_module, EvalModule)
        if trainer.is_global_zero and self.of(pl_module.history) is pl_module.history[-1]:
            state = {name: tensor.cpu().contiguous() for name, tensor in pl_module.net.state_dict().items()}
            with atomic_write(self.path) as temporary:
                save_file(state, temporary)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on, to the test, with the weights kept."""
        assert isinstance(pl_module, EvalModule)
        pl_module.adopt(load_file(self.path))
