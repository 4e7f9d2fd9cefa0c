"""What the commands take: one Lightning CLI each, configs found by name, a run folder."""

import inspect
import json
import os
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from vdc.cli.configs import ConfigByName
from vdc.cli.help import show_if_asked
from vdc.cli.loggers import trainers
from vdc.cli.messages import at_least
from vdc.cli.runs import SET, Run, averaged, data_name, processes, selects
from vdc.data import RealData
from vdc.evaluate import evaluate as evaluation
from vdc.methods import Condenser
from vdc.methods.base.cost import Cost
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.prefixes import MultiSize
from vdc.methods.base.preview import Preview
from vdc.nets.base import Colours
from vdc.nets.weights import Weights
from vdc.system.files import atomic_write
from vdc.system.overlays import first_asked, with_overlays
from vdc.train import experts as experting
from vdc.train import teacher as training
from vdc.train.callbacks import StepBar
from vdc.train.checkpoints import Checkpoint, WholeFiles, check_run
from vdc.train.protocol import Labelling, Protocol, named

SECONDS = 60  # between two checkpoints of `vdc fit`, unless it is told otherwise
HARDWARE = {"accelerator", "strategy", "devices", "num_nodes", "precision", "deterministic", "benchmark"}


class Parser(LightningArgumentParser):
    """A parser that takes whole names only, also of what classes and settings below it take."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False} | kwargs)


def as_list(given: Any) -> list[Any]:
    """What a trainer takes as nothing, one, or several."""
    return [] if given is None else list(given) if isinstance(given, list) else [given]


def flags_last(args: list[str]) -> list[str]:
    """The same options with configs first and wholes before their parts, so that the more special one wins.

    Otherwise a flag before `--config` would be lost in what the file says.
    """
    groups: list[list[str]] = [[]]
    for arg in args:
        if arg.startswith("--") or arg == "-c":
            groups.append([])
        groups[-1].append(arg)

    def depth(group: list[str]) -> int:
        name = group[0].partition("=")[0] if group else ""
        parts = [part for part in name.split(".") if part not in ("init_args", "class_path")]
        return 0 if name in ("", "-c", "--config") else len(parts)

    return [arg for group in sorted(groups, key=depth) for arg in group]


class Command(LightningCLI):
    """What the training commands share: configs by name, data, trainer, a folder in runs/ for all they write.

    Args:
        args: command line without the command's name.
        prog: how it was called.
        description: shown by `--help`.
    """

    given: Any  # the configuration as it was asked for, before folders were filled in

    def __init__(self, args: list[str], prog: str, description: str) -> None:
        super().__init__(
            Condenser,
            RealData,
            args=with_overlays(args),
            run=False,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,  # see `save_config`
            parser_kwargs={
                "exit_on_error": False,
                "allow_abbrev": False,
                "prog": prog,
                "description": description,
            },
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """The parser, with configs found by name."""
        parser = Parser(**kwargs)
        parser.add_argument("-c", "--config", action=ConfigByName, help="YAML file, by path or by name.")
        parser.add_argument("--overlays", type=list[str], default=[], help="In a config: those it builds on.")
        return parser

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What every command takes."""
        parser.add_argument("--seed_everything", type=int, default=0, help="Seed of everything random.")

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Data, and what of the trainer does not belong to the protocol."""
        rest: set[str | int] = {
            name for name in inspect.signature(Trainer).parameters if name not in HARDWARE | {"logger"}
        }
        parser.add_class_arguments(Trainer, "trainer", instantiate=False, fail_untyped=False, skip=rest)
        parser.add_lightning_class_args(RealData, "data", subclass_mode=True)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what the dispatcher passed."""
        show_if_asked(parser, args)
        self.config = parser.parse_args(flags_last(args))
        at_least(0, seed_everything=self.config.seed_everything)

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """What makes the trainers of the networks that will be trained."""
        options = dict(vars(self.config.trainer))
        return trainers(options, options.pop("logger"))

    @property
    def config_name(self) -> str | None:
        """Name of the first config, `None` without one, or with one that a run has written."""
        first = first_asked([str(c) for c in self.config.config or [] if c is not None])
        return None if first is None or Path(first).name == "config.yaml" else Path(first).stem

    def plain_config(self) -> dict[str, Any]:
        """The whole configuration as JSON-able values, re-runnable; without where it came from."""
        text = self.parser.dump(self.config, format="json", skip_none=False)
        own = {"config", "overlays", "ckpt_path", "resume"}
        plain = {key: value for key, value in json.loads(text).items() if key not in own}
        data = plain["data"]["init_args"]
        if data.get("root") is not None:
            data["root"] = os.path.abspath(data["root"])  # wherever it is run again
        return plain

    @rank_zero_only
    def save_config(self, folder: str | Path) -> None:
        """Write the configuration into a run folder, from which it can be run again."""
        with atomic_write(Path(folder) / "config.yaml") as temporary:
            self.parser.save(self.given, str(temporary), skip_none=False, overwrite=True)


def add_weights(parser: LightningArgumentParser) -> None:
    """What a network starts from."""
    parser.add_argument(
        "--weights", type=str | None, help="Start from a state_dict, teacher or torchvision:NAME."
    )
    parser.add_argument("--freeze", action="store_true", help="Train the last layer only, on these weights.")
    parser.add_argument(
        "--normalisation", type=Colours | None, help="Their mean and std, where it is not known."
    )


def weights_of(given: Any) -> Weights | None:
    """The weights that were asked for.

    Raises:
        ValueError: only what to do with them was.
    """
    if given.weights is None and (given.freeze or given.normalisation is not None):
        raise ValueError("--freeze and --normalisation say what to do with --weights: give these")
    return None if given.weights is None else Weights(given.weights, given.freeze, given.normalisation)


class Fit(Command):
    """`vdc fit`."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Trainer, method, data, checkpoints, resuming, and what the method learns from the data."""
        parser.add_lightning_class_args(Trainer, "trainer")
        parser.add_lightning_class_args(Condenser, "model", subclass_mode=True)
        parser.add_lightning_class_args(RealData, "data", subclass_mode=True)
        parser.add_lightning_class_args(Checkpoint, "checkpoint")
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
        """Find the run's folder, and put everything it writes there."""
        self.given, self.plain = self.config.clone(), self.plain_config()
        trainer, checkpoint, model = self.config.trainer, self.config.checkpoint, self.config.model.init_args
        method, options = (
            self.config.model.class_path.rsplit(".", 1)[-1].lower(),
            self.plain["model"]["init_args"],
        )
        words = [
            method,
            data_name(self.plain["data"]),
            f"ipc{options['ipc']}",
            f"seed{self.config.seed_everything}",
        ]
        keys = self.plain | averaged(self.config.model.class_path, trainer)
        self.run = Run.of(keys, words, trainer.default_root_dir, self.config_name)
        if selects(self.config.model.class_path) and trainer.max_epochs is None and trainer.max_steps == -1:
            trainer.max_epochs = 1  # it looks at all clips once
        trainer.default_root_dir = str(self.run.folder)
        checkpoint.dirpath = checkpoint.dirpath or str(self.run.last.parent)
        model.out = model.out or str(self.run.folder / SET)
        if (
            checkpoint.every_n_train_steps
            is checkpoint.every_n_epochs
            is checkpoint.train_time_interval
            is None
        ):
            checkpoint.train_time_interval = timedelta(seconds=SECONDS)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """The trainer, logging to the run folder itself unless told otherwise."""
        trainer = self.config.trainer
        if trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(trainer.default_root_dir, name="", version="")
        callbacks, plugins = as_list(self.config_init.trainer.callbacks), as_list(trainer.plugins)
        if (plan := self.config_init.multisize) is not None:
            callbacks = [MatchPrefixes(plan), *callbacks]
        if trainer.enable_progress_bar is not False and not any(
            isinstance(c, ProgressBar) for c in callbacks
        ):
            callbacks = [*callbacks, StepBar()]
        callbacks = [*callbacks, Cost()]
        kwargs |= {"callbacks": callbacks, "plugins": [*plugins, WholeFiles()]}
        return LightningCLI.instantiate_trainer(self, **kwargs)

    def resume_from(self, keys: dict[str, Any]) -> str | None:
        """The checkpoint to continue from.

        Args:
            keys: all that decides what the run computes.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is of another run, or damaged.
        """
        given, last = self.config.ckpt_path, Path(self.config.checkpoint.dirpath) / "last.ckpt"
        if given is None and not self.config.resume:
            return None
        path = last if given in (None, "last") else Path(given)
        if not path.is_file() and given is None:
            shorter = self.run.shorter()
            if shorter is None:
                return None
            path = shorter
        if not path.is_file():
            raise FileNotFoundError(
                f"--ckpt_path {given}: no checkpoint {path}; without it the run starts anew"
            )
        check_run(path, keys)
        return str(path)

    def own_checkpoint(self, path: str | None) -> bool:
        """Whether a checkpoint is of what this run's folder holds already."""
        places = (self.run.folder, Path(self.config.checkpoint.dirpath))
        return path is not None and any(Path(path).resolve().is_relative_to(one.resolve()) for one in places)


class Pretrain(Command):
    """`vdc pretrain`."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The network and how it is trained."""
        parser.add_argument("--out", type=str | None, default=None, help="Folder of the teacher or experts.")
        own: set[str | int] = {"data", "out", "protocol", "seed", "trainer", "weights"}
        parser.add_function_arguments(training.pretrain, skip=own)
        add_weights(parser)
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
        """Find the run's folder."""
        self.given, plain = self.config.clone(), self.plain_config()
        kind = ["experts"] if self.config.experts else []
        words = [*kind, self.config.net, data_name(plain["data"]), f"seed{self.config.seed_everything}"]
        aside = {"experts", "first"} | (
            {"weights", "freeze", "normalisation"} if plain["weights"] is None else set()
        )
        own = {key: value for key, value in plain.items() if key not in aside}
        own |= {} if self.config.net == "code" else processes(self.config.trainer)
        self.run = Run.of(own, words, self.config.out, self.config_name)
        self.config.out = str(self.run.folder)


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
            "weights",
        }
        parser.add_argument("--condensed", type=str | None, default=None, help="Folder of the condensed set.")
        parser.add_argument("--full", action="store_true", help="Train on all training videos: the bound.")
        parser.add_argument("--student", nargs="+", type=str, default=["minic3d"], help="Networks to train.")
        parser.add_argument("--seeds", type=int, default=3, help="Runs of each, from seed_everything on.")
        parser.add_argument("--ipc", nargs="+", type=int, default=[], help="Use only so many first items.")
        parser.add_argument("--random_twin", action="store_true", help="Also evaluate random clips alike.")
        parser.add_argument(
            "--quick", action="store_true", help="As many epochs as about three minutes hold."
        )
        parser.add_argument("--labels", type=Labelling | None, help="Short for protocol.labels.")
        parser.add_function_arguments(evaluation.evaluate, skip=own)
        add_weights(parser)
        parser.add_argument("--protocol", type=Protocol, default=Protocol())
