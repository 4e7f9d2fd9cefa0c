"""A small run of every shipped config is killed in its middle, and ends with the same bytes when it goes on."""

import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from vdc.cli import main
from vdc.cli.commands import Fit
from vdc.condensed.format import load
from vdc.condensed.manifest import CLIPS, LABELS
from vdc.data.toy import make_toy
from vdc.nets import build, save_teacher
from vdc.nets.experts import Recorder, describe
from vdc.spec import ClipSpec
from vdc.system.files import write_json

ROOT = Path(__file__).parents[2]
CONFIGS = sorted(path.stem for path in (ROOT / "configs/methods").glob("*.yaml"))
QUICK = ("dm_toy", "multisize_dm_grid", "s2d_frepo_toy", "edc_toy", "mtt_grid")  # one of each kind of loop
CLASSES = ["down", "spin", "up"]
SIZE, STEPS, EPOCHS = 48, 6, 2
START = multiprocessing.get_context("forkserver")  # what is imported once serves every run


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Four training videos of three classes; teachers and the like are made when a config asks for them."""
    folder = tmp_path_factory.mktemp("world")
    make_toy(folder / "runs/toy", 4, 1)
    START.set_forkserver_preload(["vdc.cli"])
    return folder


def started(args, folder):
    """A command in a process of its own."""
    process = START.Process(target=run, args=(args, str(folder)))
    process.start()
    return process


def run(args, folder):
    os.chdir(folder)
    torch.set_num_threads(1)
    with Path("log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        main(args)


def teacher(folder, spec):
    net = build("minic3d", len(CLASSES), spec, width=0.25)
    save_teacher(folder, net, {"classes": CLASSES})


def experts(folder, spec, name, options):
    """Experts of random weights: what they know does not matter here."""
    net = build(name, len(CLASSES), spec, **options)
    write_json(folder / "experts.json", describe(net, CLASSES, EPOCHS, "fp32", {}))
    for number in range(2):
        recorder = Recorder(folder / f"{number}.partial", net, EPOCHS, "fp32")
        for epoch in range(EPOCHS + 1):
            with torch.no_grad():
                for p in net.parameters():
                    p.add_(0.01 * torch.randn_like(p))
            recorder.write(epoch, net)
        recorder.finish(folder, number, {"number": number, "test": {"top1": 50.0}})


def small(name, folder):
    """Flags that make a shipped config small; what it needs is made."""
    parser = Fit(["--model", "Random", "--data", "ToyData"], "vdc fit", "").parser
    asked = ["--config", str(next((ROOT / "configs").rglob(f"{name}.yaml")))]
    held = parser.parse_args(with_data(asked))
    options, spec = held.model.init_args, held.data.init_args.spec
    frames = min(spec.frames, 8)
    spec = replace(ClipSpec(**vars(spec)) if not isinstance(spec, ClipSpec) else spec, size=SIZE, stride=2)
    flags = {"data.spec.size": SIZE, "data.spec.stride": 2, "data.load_size": "null", "data.num_workers": 0}
    flags |= {"data.batch_size": 4, "data.classes": f"[{', '.join(CLASSES)}]", "trainer.strategy": "auto"}
    flags |= {
        "trainer.enable_progress_bar": "false",
        "checkpoint.every_n_train_steps": 2,
        "trainer.devices": 1,
    }
    flags |= {"checkpoint.train_time_interval": "null", "checkpoint.every_n_epochs": "null", "model.ipc": 2}
    del frames
    for key, value in options.items():
        if key == "iterations":
            flags[f"model.{key}"] = STEPS
        elif key in ("teacher", "teachers"):
            teacher(folder / "teacher", spec)
            flags[f"model.{key}"] = "teacher" if key == "teacher" else "[teacher]"
        elif key in ("experts", "pool") and value is not None:
            net = options.get("net") or "minic3d"
            experts(folder / "experts", spec, net, dict(options.get("net_options") or {}))
            flags[f"model.{key}"] = "experts"
        elif key == "init" and value not in ("real", "noise"):
            flags["model.init"] = "noise"
        elif key == "cache" and value is not None:
            flags["model.cache"] = "statistics"
        elif key == "mipc":
            flags["model.mipc"] = 3
    if "max_start_epoch" in options:
        flags |= {
            "model.min_start_epoch": 0,
            "model.max_start_epoch": 1,
            "model.expert_epochs": 1,
            "model.syn_steps": 2,
        }
    if held.trainer.max_steps > 0:
        flags["trainer.max_steps"] = STEPS
    return [*with_data(asked), *(part for key, value in flags.items() for part in (f"--{key}", str(value)))]


def with_data(asked):
    lists = {"root": "../runs/toy", "train": "train.txt", "test": "test.txt", "format": "list"}
    return ["fit", *asked, "--data", "RealData", *(p for k, v in lists.items() for p in (f"--data.{k}", v))][
        1:
    ]


def hashes(run):
    files = load(run).manifest["files"]
    return {name: files[name]["sha256"] for name in (CLIPS, LABELS)}


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_a_killed_run_of_every_config_ends_with_the_same_bytes(name, world, monkeypatch):
    folder = world / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    args = ["fit", *small(name, folder)]
    killed = started([*args, "--trainer.default_root_dir", "killed"], folder)
    last = folder / "killed/checkpoints/last.ckpt"
    until = time.monotonic() + 250
    while killed.is_alive() and not last.is_file() and time.monotonic() < until:
        time.sleep(0.002)
    killed.kill()
    killed.join()
    for place, more in (("killed", ["--resume"]), ("whole", [])):
        process = started([*args, "--trainer.default_root_dir", place, *more], folder)
        process.join()
        assert process.exitcode == 0, (folder / "log.txt").read_text()[-2000:]
    assert hashes("killed") == hashes("whole")
