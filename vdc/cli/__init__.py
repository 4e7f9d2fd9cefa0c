"""The command line: a small dispatcher before one Lightning CLI per command."""

import inspect
import json
import os
import sys
import warnings
from argparse import ArgumentError, ArgumentParser
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities import rank_zero_only

from vdc.cli.commands import Evaluate, Fit, Pretrain
from vdc.cli.doctor import doctor
from vdc.cli.messages import explain, nearest
from vdc.cli.study import run as study
from vdc.condensed import describe as describing
from vdc.condensed import join as joining
from vdc.condensed.format import verify
from vdc.data import RealData
from vdc.data import prepare as preparing
from vdc.evaluate import evaluate as evaluation
from vdc.evaluate import relabel as relabelling
from vdc.report import report as reporting
from vdc.system.processes import first_process
from vdc.train import code as coding
from vdc.train import experts as experting
from vdc.train import interpolator as interpolating
from vdc.train import teacher as training

IGNORED = (
    "You passed in a `val_dataloader` but have no `validation_step`",  # condensing validates nothing
    "`LightningModule.configure_optimizers` returned `None`",  # selection learns nothing
    "in eval mode at the start of training",  # teachers
    "The number of training batches",  # sets are tiny
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # inside Lightning 2.6
)


@rank_zero_only
def prepare_data(data: RealData) -> None:
    """Make what is not there yet: the lists are read before any trainer asks for it."""
    data.prepare_data()


@rank_zero_only
def say(text: str) -> None:
    """Print once, whatever the number of processes."""
    print(text)


def pretrain(args: list[str]) -> None:
    """Train on all training videos: a teacher, experts with snapshots, an interpolator; or fit a code."""
    cli = Pretrain(args, "vdc pretrain", summary(pretrain))
    given = cli.config_init
    if not given.dry_run:
        cli.save_config(given.out)
    prepare_data(given.data)
    options = {key: given[key] for key in ("net", "protocol", "net_options", "progress", "checkpoint_every")}
    options |= {"data": given.data, "out": given.out, "seed": given.seed_everything, "trainer": cli.trainer}
    if given.experts or given.dry_run:
        chosen = {key: given[key] for key in ("experts", "first", "snapshots", "dry_run")}
        found = experting.pretrain_experts(**options, **chosen)
        scores = ", ".join(f"{info['test']['top1']:.1f}" for info in found)
        say(f"experts {given.out}: top-1 {scores} % of the test videos" if found else "nothing was trained")
        return
    if given.net == "code":
        if given.net_options:
            raise ValueError("--net code takes no --net_options: bytes and bands are chosen by memory Coded")
        psnr = coding.fit_code(given.data, given.out, progress=given.progress)["psnr"].items()
        told = ", ".join(f"{ratio:.1f} dB in {size}" for size, ratio in psnr)
        say(f"code {given.out}: held-out clips by bytes of each: {told or 'none are held out'}")
        return
    if given.net == "interpolator":
        del options["net"]
        errors = interpolating.pretrain_interpolator(**options)["error"].items()
        told = "; ".join(
            f"{keys}: " + ", ".join(f"{how} {e:.3f}" for how, e in by.items()) for keys, by in errors
        )
        say(f"interpolator {given.out}: squared error of the test clips by key frames: {told}")
        return
    info = training.pretrain(**options)
    say(f"teacher {given.out}: top-1 {info['test']['top1']:.1f} % of the test videos")


def fit(args: list[str]) -> None:
    """Condense: learn or choose a few videos per class."""
    cli = Fit(args, "vdc fit", summary(fit))
    cli.model.config = cli.plain_config()
    cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=cli.resume_from(), weights_only=True)
    say(f"condensed set {cli.model.out}; next: vdc evaluate --condensed {cli.model.out}")


def evaluate(args: list[str]) -> None:
    """Train students on a condensed set, or on all videos, and test them."""
    cli = Evaluate([*of_condensed(args), *args], "vdc evaluate", summary(evaluate))
    given = cli.config_init
    labels = {} if given.labels is None else {"labels": given.labels}
    options = {key: given[key] for key in ("net_options", "progress", "checkpoint_every", "name")} | {
        "students": given.student,
        "seeds": range(given.seed_everything, given.seed_everything + given.seeds),
        "protocol": replace(given.protocol, **labels),
        "trainer": cli.trainer,
    }
    if given.full == (given.condensed is not None):
        raise ValueError("give either --condensed DIR or --full")
    prepare_data(given.data)
    if given.full:
        folder = place = given.out or cli.run_folder
        evaluation.evaluate_full(given.data, folder, **options)
    else:
        chosen = {key: given[key] for key in ("ipc", "teacher", "random_twin", "out")}
        evaluation.evaluate_sizes(given.condensed, given.data, **options, **chosen)
        folder = given.out or given.condensed
        place = given.out or f"{given.condensed}/evaluations"
    if first_process():
        reporting.report([folder], html=f"{place}/report.html")


def of_condensed(args: list[str]) -> list[str]:
    """The data that the condensed set among `args` was made from, as a config which `args` then override."""
    flags = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--condensed")
    condensed = flags.parse_known_args(args)[0].condensed
    if condensed is None:
        return []
    manifest = verify(condensed)
    bare = {"class_path": "RealData", "init_args": {"spec": manifest["spec"]}}
    return ["--config", json.dumps({"data": manifest["config"].get("data", bare)})]


def summary(function: Callable[..., Any]) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def call(
    function: Callable[..., Any],
    args: list[str],
    positional: str = "",
    nargs: str | None = None,
    pair: str = "",
) -> None:
    """Run a function with arguments from its signature, described by its docstring."""
    parser = LightningArgumentParser(
        prog=f"vdc {function.__name__}",
        description=summary(function),
        exit_on_error=False,
        allow_abbrev=False,
    )
    if positional:
        parser.add_argument(positional, nargs=nargs, type=str)
    if pair:  # two words, which a tuple of the signature would want as one
        parser.add_argument(f"--{pair}", nargs=2, type=str, metavar=("A", "B"), help="Compare A with B.")
    parser.add_function_arguments(function, skip={positional, pair}, fail_untyped=False)
    function(**parser.instantiate_classes(parser.parse_args(args)))


COMMANDS: dict[str, Callable[[list[str]], Any]] = {
    "pretrain": pretrain,
    "fit": fit,
    "evaluate": evaluate,
    "study": study,
    "relabel": partial(call, relabelling.relabel),
    "report": partial(call, reporting.report, positional="dirs", nargs="*", pair="paired"),
    "prepare": partial(call, preparing.prepare),
    "doctor": partial(call, doctor, positional="path"),
    "show": partial(call, describing.show, positional="condensed"),
    "export": partial(call, describing.export, positional="condensed"),
    "join": partial(call, joining.join, positional="sets", nargs="+"),
}


def usage() -> str:
    """All commands, each with the first line of its docstring."""
    lines = []
    for name, command in COMMANDS.items():
        described = command.args[0] if isinstance(command, partial) else command
        lines.append(f"  {name:<10} {summary(described)}")
    configs = "Configs are found by path, in ./configs, or among those shipped: --config rded_toy.yaml"
    return "\n".join(["usage: vdc COMMAND [options]; options: vdc COMMAND --help", "", *lines, "", configs])


def main(args: list[str] | None = None) -> None:
    """Run one command; wrong input ends with one line and exit code 2.

    Args:
        args: command and its options; `None` takes them from the command line.
    """
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if name in ("-h", "--help"):
        print(usage())
        return
    for message in IGNORED:
        warnings.filterwarnings("ignore", f".*{message}")
    if "" not in sys.path:  # classes of one's own, `--model mine.MeanColour`, lie where the command is called
        sys.path.append("")
    try:
        if name not in COMMANDS:
            raise ValueError(f"no command {name!r}{nearest(name, COMMANDS)}")
        COMMANDS[name](rest)
    except (ArgumentError, MisconfigurationException, ValueError, OSError) as error:
        if os.environ.get("JSONARGPARSE_DEBUG"):  # the parser's own switch for tracebacks
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        raise SystemExit(2) from None
