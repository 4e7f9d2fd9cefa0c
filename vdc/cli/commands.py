"""What the commands take: one Lightning CLI each, configs found by name, a run folder."""

import inspect
import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]  # exported at run time
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from vdc.data import RealData
from vdc.evaluate import evaluate as evaluation
from vdc.methods import Condenser
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.prefixes import MultiSize
from vdc.methods.base.preview import Preview
from vdc.system.overlays import first_asked, with_overlays
from vdc.system.shipped import find
from vdc.train import experts as experting
from vdc.train import teacher as training
from vdc.train.protocol import Labelling, Protocol, named

HARDWARE = {"accelerator", "strategy", "devices", "num_nodes", "precision", "deterministic", "benchmark"}


def find_config(name: str) -> Path:
    """A configuration file by its path, else by its name in `./configs`, else the copy shipped with vdc.

    Raises:
        TypeError: there is none, with the nearest names; what the parser takes for wrong input.
    """
    try:
        return find(name)
    except FileNotFoundError as error:
        raise TypeError(str(error)) from error


class ConfigByName(ActionConfigFile):
    """`--config rded_toy.yaml` finds it in configs/ when it is not a path."""

    @staticmethod
    def apply_config(parser: Any, cfg: Any, dest: str, value: str) -> None:
        """Read the file, or the JSON text that a command itself passes."""
        source = value if value.startswith("{") else str(find_config(value))
        ActionConfigFile.apply_config(parser, cfg, dest, source)


class Command(LightningCLI):
    """What the training commands share: configs by name, data, trainer, a folder in runs/ for all they write.

    Args:
        args: command line without the command's name.
        prog: how it was called.
        description: shown by `--help`.
    """

    def __init__(self, args: list[str], prog: str, description: str) -> None:
        super().__init__(
            Condenser,
            RealData,
            args=with_overlays(args),
            run=False,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "prog": prog,
                "description": description,
            },
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, with configs found by name."""
        parser = LightningArgumentParser(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigByName, help="YAML file, by path or by name.")
        parser.add_argument("--overlays", type=list[str], default=[], help="In a config: those it builds on.")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What every command takes."""
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of everything random.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Data, and what of the trainer does not belong to the protocol."""
        rest: set[str | int] = {
            name for name in inspect.signature(Trainer).parameters if name not in HARDWARE
        }
        parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False, skip=rest)
        parser.add_lightning_class_args(RealData, "data", subclass_mode=True)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what the dispatcher passed."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """What makes the trainers of the networks that will be trained."""
        return partial(Trainer, **self.config.trainer)

    @property
    def run_folder(self) -> str:
        """`runs/<name of the first config>`."""
        config = first_asked([str(c) for c in self.config.config or [] if c is not None])
        return f"runs/{Path(config).stem if config else 'unnamed'}"

    def plain_config(self) -> dict[str, Any]:
        """The whole configuration as JSON-able values, re-runnable; without where it came from."""
        text = self.parser.dump(self.config, format="json", skip_none=False)
        own = {"config", "overlays", "ckpt_path", "resume"}
        return {key: value for key, value in json.loads(text).items() if key not in own}

    @rank_zero_only
    def save_config(self, folder: str) -> None:
        """Write the configuration into a run folder, from which it can be run again."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.parser.save(self.config, str(Path(folder) / "config.yaml"), skip_none=False, overwrite=True)


class Fit(Command):
    """`vdc fit`."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Trainer, method, data, checkpoints, resuming, and what the method learns from the data."""
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_lightning_class_args(Condenser, "model", subclass_mode=True)
        parser.add_lightning_class_args(RealData, "data", subclass_mode=True)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(Preview, "preview")
        parser.add_argument("--multisize", type=MultiSize | None, help="Make every size good, in one run.")
        parser.add_argument("--ckpt_path", type=str | None, help="Resume from it; `last` is this run's.")
        parser.add_argument("--resume", action="store_true", help="Resume from this run's last, if any.")
        parser.set_defaults(
            {
                "trainer.use_distributed_sampler": False,  # our samplers know the ranks
                "trainer.enable_model_summary": False,
                "trainer.log_every_n_steps": 10,
                "checkpoint.save_last": True,
                "checkpoint.save_top_k": 0,
                "checkpoint.enable_version_counter": False,  # last.ckpt is always the newest
            }
        )
        parser.link_arguments("data.init_args.spec", "model.init_args.spec")
        parser.link_arguments("data.num_classes", "model.init_args.num_classes", apply_on="instantiate")
        parser.link_arguments("seed_everything", "model.init_args.seed")

    def before_instantiate_classes(self) -> None:
        """Put everything the run writes in its folder."""
        trainer, checkpoint, model = self.config.trainer, self.config.checkpoint, self.config.model.init_args
        trainer.default_root_dir = trainer.default_root_dir or self.run_folder
        checkpoint.dirpath = checkpoint.dirpath or f"{trainer.default_root_dir}/checkpoints"
        model.out = model.out or f"{trainer.default_root_dir}/condensed"

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, logging to the run folder itself unless told otherwise."""
        trainer = self.config.trainer
        if trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(trainer.default_root_dir, name="", version="")
        if (plan := self.config_init.multisize) is not None:
            given = self.config_init.trainer.callbacks or []
            kwargs["callbacks"] = [MatchPrefixes(plan), *(given if isinstance(given, list) else [given])]
        return LightningCLI.instantiate_trainer(self, **kwargs)

    def resume_from(self) -> str | None:
        """The checkpoint to continue from."""
        given, last = self.config.ckpt_path, Path(self.config.checkpoint.dirpath) / "last.ckpt"
        if given is None:
            return str(last) if self.config.resume and last.is_file() else None
        path = last if given == "last" else Path(given)
        if not path.is_file():
            raise FileNotFoundError(
                f"--ckpt_path {given}: no checkpoint {path}; without it the run starts anew"
            )
        return str(path)


class Pretrain(Command):
    """`vdc pretrain`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The network and how it is trained."""
        parser.add_argument("--out", type=str | None, default=None, help="Folder of the teacher or experts.")
        own: set[str | int] = {"data", "out", "protocol", "seed", "trainer"}
        parser.add_function_arguments(training.pretrain, skip=own)
        shared: set[str | int] = {*inspect.signature(training.pretrain).parameters, "dry_run"}
        parser.add_function_arguments(experting.pretrain_experts, skip=shared)
        parser.add_argument("--dry_run", action="store_true", help="Only say what experts will take.")
        parser.add_argument("--protocol", type=Protocol, default=named("teacher"))
        parser.set_defaults({"net": "minic3d"})

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse; an interpolator has a protocol of its own to start from."""
        super().parse_arguments(parser, args)
        if self.config.net == "interpolator":
            own = asdict(named("interpolator"))
            parser.set_defaults({f"protocol.{key}": value for key, value in own.items()})
            super().parse_arguments(parser, args)

    def before_instantiate_classes(self) -> None:
        """Say in the saved configuration where the run went."""
        self.config.out = self.config.out or self.run_folder


class Evaluate(Command):
    """`vdc evaluate`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Students, protocol and seeds."""
        own: set[str | int] = {
            "condensed",
            "data",
            "ipc",
            "students",
            "seeds",
            "protocol",
            "random_twin",
            "trainer",
        }
        parser.add_argument("--condensed", type=str | None, default=None, help="Folder of the condensed set.")
        parser.add_argument("--full", action="store_true", help="Train on all training videos: the bound.")
        parser.add_argument("--student", nargs="+", type=str, default=["minic3d"], help="Networks to train.")
        parser.add_argument("--seeds", type=int, default=3, help="Runs of each, from seed_everything on.")
        parser.add_argument("--ipc", nargs="+", type=int, default=[], help="Use only so many first items.")
        parser.add_argument("--random_twin", action="store_true", help="Also evaluate random clips alike.")
        parser.add_argument("--labels", type=Labelling | None, help="Short for protocol.labels.")
        parser.add_function_arguments(evaluation.evaluate, skip=own)
        parser.add_argument("--protocol", type=Protocol, default=Protocol())
