"""Commands that train or read what trainings left: each behind one Lightning CLI."""

import json
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from vdc.cli.commands import Evaluate, Fit, Pretrain, weights_of
from vdc.cli.messages import at_least
from vdc.cli.runs import RUNS, Linked, data_name
from vdc.cli.signatures import summary
from vdc.cli.stated_data import check_root, stated_data
from vdc.condensed.format import check_target, find_set, verify
from vdc.data import RealData
from vdc.evaluate import evaluate as evaluation
from vdc.evaluate.quick import shortened
from vdc.report import report as reporting
from vdc.system.processes import first_process
from vdc.system.progress import is_quiet
from vdc.train import code as coding
from vdc.train import experts as experting
from vdc.train import interpolator as interpolating
from vdc.train import teacher as training
from vdc.train.checkpoints import KnowsItsRun, going_on
from vdc.train.protocol import Protocol


@rank_zero_only
def prepare_data(data: RealData) -> None:
    """Make what is not there yet: the lists are read before any trainer asks for it."""
    data.prepare_data()


@rank_zero_only
def say(text: str) -> None:
    """Print once, whatever the number of processes."""
    print(text)


@rank_zero_only
def tell(text: str) -> None:
    """Print what is worth knowing on the way, unless only results are wanted."""
    if not is_quiet():
        print(text)


def pretrain(args: list[str]) -> None:
    """Train on all training videos: a teacher, experts with snapshots, an interpolator; or fit a code."""
    cli = Pretrain(args, "vdc pretrain", summary(pretrain))
    given = cli.config_init
    prepare_data(given.data)
    at_least(0, checkpoint_every=given.checkpoint_every, experts=given.experts, first=given.first)
    if not given.dry_run:
        tell(f"run {given.out}")
        cli.run.enter()
        cli.save_config(given.out)
    say(trained(cli))
    if not given.dry_run:
        cli.run.point()  # not where it was refused


def trained(cli: Pretrain) -> str:
    """Train what is asked for, and say how good it is."""
    given = cli.config_init
    options = {key: given[key] for key in ("net", "protocol", "net_options", "progress", "checkpoint_every")}
    options |= {"data": given.data, "out": given.out, "seed": given.seed_everything, "trainer": cli.trainer}
    if given.weights and (given.experts or given.dry_run or given.net in ("code", "interpolator")):
        raise ValueError("--weights are for teachers: experts, interpolators and codes start afresh")
    if given.experts or given.dry_run:
        chosen = {key: given[key] for key in ("experts", "first", "snapshots", "dry_run")}
        found = experting.pretrain_experts(**options, **chosen)
        scores = ", ".join(f"{info['test']['top1']:.1f}" for info in found)
        return f"experts {given.out}: top-1 {scores} % of the test videos" if found else "nothing was trained"
    if given.net == "code":
        if given.net_options:
            raise ValueError("--net code takes no --net_options: bytes and bands are chosen by memory Coded")
        psnr = coding.fit_code(given.data, given.out, progress=given.progress)["psnr"].items()
        told = ", ".join(f"{ratio:.1f} dB in {size}" for size, ratio in psnr)
        return f"code {given.out}: held-out clips by bytes of each: {told or 'none are held out'}"
    if given.net == "interpolator":
        del options["net"]
        errors = interpolating.pretrain_interpolator(**options)["error"].items()
        told = "; ".join(
            f"{keys}: " + ", ".join(f"{how} {e:.3f}" for how, e in by.items()) for keys, by in errors
        )
        return f"interpolator {given.out}: squared error of the test clips by key frames: {told}"
    info = training.pretrain(**options, weights=weights_of(given))
    return f"teacher {given.out}: top-1 {info['test']['top1']:.1f} % of the test videos"


def fit(args: list[str]) -> None:
    """Condense: learn or choose a few videos per class."""
    cli = Fit(args, "vdc fit", summary(fit))
    model, data, run = cli.model, cli.datamodule, cli.run
    check_target(model.out)  # not only when there is a set to write
    prepare_data(data)
    keys = run.keys | {"classes": data.classes}
    checkpoint = cli.resume_from(keys)
    model.config = cli.plain
    with run.opened(goes_on=cli.own_checkpoint(checkpoint)):
        cli.save_config(run.folder)
        tell(f"run {run.folder}" + ("" if checkpoint is None else f", from {checkpoint}"))
        cli.trainer.callbacks[:0] = [KnowsItsRun(keys), Linked(run)]  # type: ignore[attr-defined]  # a list
        with going_on(checkpoint):
            cli.trainer.fit(model, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    say(f"condensed set {model.out}; next: vdc evaluate --condensed {run.shown}")


def evaluate(args: list[str]) -> None:
    """Train students on a condensed set, or on all videos, and test them."""
    condensed, stated = of_condensed(args)
    cli = Evaluate([*stated, *args], "vdc evaluate", summary(evaluate))
    given = cli.config_init
    if given.full == (given.condensed is not None):
        raise ValueError("give either --condensed DIR or --full")
    at_least(1, seeds=given.seeds, **{f"ipc {size}": size for size in given.ipc})
    at_least(0, checkpoint_every=given.checkpoint_every)
    labels = {} if given.labels is None else {"labels": given.labels}
    options = {key: given[key] for key in ("net_options", "progress", "checkpoint_every", "name")} | {
        "students": given.student,
        "seeds": range(given.seed_everything, given.seed_everything + given.seeds),
        "protocol": replace(given.protocol, **labels),
        "trainer": cli.trainer,
        "weights": weights_of(given),
    }
    if condensed is not None:
        check_root(given.data, condensed)
    prepare_data(given.data)
    if given.quick:
        options["protocol"] = quick(options["protocol"], given, condensed)
    if condensed is None:
        folder = place = given.out or str(RUNS / f"full-{data_name(cli.plain_config()['data'])}")
        evaluation.evaluate_full(given.data, folder, **options)
    else:
        folder = given.out or str(condensed)
        chosen = {key: given[key] for key in ("ipc", "teacher", "random_twin", "out")}
        evaluation.evaluate_sizes(str(condensed), given.data, **options, **chosen)
        place = given.out or str(condensed / "evaluations")
    if first_process():
        reporting.report([folder], html=f"{place}/report.html")


def quick(asked: Protocol, given: Any, condensed: Path | None) -> Protocol:
    """The protocol with as many epochs as fit, said if there are fewer."""
    data = given.data
    if condensed is None:
        clips = len(data.labels)
    else:
        manifest = verify(condensed)
        clips = data.num_classes * manifest["per_item"] * sum(given.ipc or [manifest["ipc"]])
    nets = given.net_options or {}
    held = shortened(asked, given.student, nets, data.spec, data.num_classes, clips, given.seeds)
    if held is not asked:
        tell(f"quick: {held.epochs} of {asked.epochs} epochs; results say protocol {held.name}")
    return held


def of_condensed(args: list[str]) -> tuple[Path | None, list[str]]:
    """The condensed set among `args`, and the data it was made from, as a config which `args` then override."""
    flags = ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    flags.add_argument("--condensed")
    flags.add_argument("--data")
    found = flags.parse_known_args(args)[0]
    if found.condensed is None:
        return None, []
    path = find_set(found.condensed)  # once: a later run may turn `runs/<config>` elsewhere
    manifest = verify(path)
    try:
        data = stated_data(manifest, path)
    except ValueError:
        if found.data is None:
            raise
        data = {"class_path": "RealData", "init_args": {"spec": manifest["spec"]}}
    return path, ["--config", json.dumps({"data": data})]
