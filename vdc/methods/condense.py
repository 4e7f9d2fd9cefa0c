"""`vdc.condense`: a method, on real videos, to a folder; what `vdc fit` does, from Python."""

from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vdc.condensed.format import check_target
from vdc.data import RealData
from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.condenser import Condenser
from vdc.methods.base.cost import Cost
from vdc.methods.base.selection import Selection
from vdc.system.files import as_json


def condense(
    method: type[Condenser],
    data: RealData,
    out: str | Path,
    *,
    ipc: int = 1,
    steps: int | None = None,
    seed: int = 0,
    trainer: dict[str, Any] | None = None,
    **options: Any,
) -> Path:
    """Condense real videos into a set, in one process unless `trainer` says otherwise.

    Args:
        method: its class, e.g. `vdc.DM`; the number of classes and the clip shapes are the data's.
        data: the real videos.
        out: folder of the set; an older set there moves aside.
        ipc: items per class.
        steps: of learning; of methods that learn block by block (SRe2L, DM, ...), of every block, where `None` is
            the method's own number. Selection takes one pass instead.
        seed: of everything random.
        trainer: arguments of Lightning's Trainer.
        options: of the method.

    Returns:
        The folder of the set.

    Raises:
        ValueError: steps of a selection, no steps of a method that has none of its own, or `out` holds other things.
    """
    check_target(out)
    data.prepare_data()
    asked = as_json({"ipc": ipc, "steps": steps, "trainer": trainer, **options})
    if issubclass(method, Selection):
        if steps is not None:
            raise ValueError(
                f"steps {steps} of {method.__name__}, which chooses in one pass: leave steps out"
            )
        length = {"max_epochs": 1}
    elif issubclass(method, BlockCondenser):
        length = {}
        options |= {} if steps is None else {"iterations": steps}
    elif steps is None:
        raise ValueError(f"{method.__name__} has no number of steps of its own: give steps")
    else:
        length = {"max_steps": steps}
    module = method(data.num_classes, data.spec, ipc=ipc, seed=seed, out=str(out), **options)
    module.config = {"python": {"method": f"{method.__module__}.{method.__name__}", "options": asked}}
    usual = {
        "logger": False, "enable_checkpointing": False, "enable_model_summary": False,
        "use_distributed_sampler": False,
    }  # fmt: skip
    made = Trainer(**usual | length | (trainer or {}))
    made.callbacks.append(Cost())  # type: ignore[attr-defined]  # a list
    made.fit(module, datamodule=data)
    return Path(out)
