"""The commands: every shipped config, the chain on tiny toy videos, resuming after a kill, refusals."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.utilities import rank_zero_info

from tests.codes import make_code
from tests.commands import SMALL, refused, toy_args
from vdc.cli import COMMANDS, main, quiet
from vdc.cli.commands import Evaluate, Fit, Pretrain
from vdc.cli.configs import find_config
from vdc.condensed.format import load
from vdc.data.toy import CLASSES
from vdc.methods import RDED, Random
from vdc.nets import build, save_teacher
from vdc.spec import ClipSpec
from vdc.system.overlays import with_overlays
from vdc.train.protocol import named

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
pytestmark = pytest.mark.usefixtures("here")


def teacher(folder, classes=CLASSES, frames=4, size=44):
    net = build("minic3d", len(classes), ClipSpec(frames=frames, size=size, stride=2))
    save_teacher(folder, net, {"classes": list(classes)})
    return str(folder)


@pytest.fixture(scope="module")
def untrained(world):
    return teacher(world / "untrained")


def real_args(root, *more):
    lists = ["--data.train", "train.txt", "--data.test", "test.txt"]
    return ["--data", "RealData", "--data.root", str(root), *lists, *SMALL, *more]


def fit(name, *more):
    main(["fit", "--config", f"{name}_toy.yaml", *toy_args("--trainer.enable_progress_bar", "false", *more)])
    return load(f"runs/{name}_toy/condensed")


# -- configs -------------------------------------------------------------------------------------------------


def test_configs_are_there():
    assert len(CONFIGS) > 15


@pytest.fixture(scope="module")
def made(world):
    """Each command once: to build a parser for every config would take a minute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        return {
            Fit: Fit(["--model", "Random", "--data", "ToyData"], "vdc fit", ""),
            Pretrain: Pretrain(["--data", "ToyData"], "vdc pretrain", ""),
            Evaluate: Evaluate(["--data", "ToyData"], "vdc evaluate", ""),
        }


CLASSES_OF = {
    "toy": 10,
    "grid": 10,
    "hmdb51": 51,
    "ucf101": 101,
    "miniucf": 50,
    "k400": 400,
    "ssv2": 174,
    "decord": 10,
}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_makes_its_classes(path, world, made):
    """With its own sizes; of the videos only one is there, in as many classes as the real set has."""
    held = yaml.safe_load(path.read_text())
    command = Fit if "model" in held else Pretrain if held.keys() & {"data", "overlays"} else Evaluate
    args, wanted = ["--config", path.name], 10
    if command is Evaluate:
        args += ["--data", "ToyData"]
    elif not path.stem.endswith("_toy"):
        wanted = CLASSES_OF[path.stem.split("_")[-1]]
        (world / "one.txt").write_text("".join(f"train/up/0000.mp4 {k}\n" for k in range(wanted)))
        lists = ["--data.train", "../../one.txt", "--data.test", "../../one.txt", "--data.format", "list"]
        args += ["--data.root", "runs/toy", *lists, "--data.classes", "null"]
    cli = made[command]
    cli.config = cli.parser.parse_args(with_overlays(args))
    options = held.get("model", {}).get("init_args", {}).get("memory", {}).get("init_args", {})
    if "code" in options:
        make_code(world / options["code"], ClipSpec(**cli.config.data.init_args.spec.as_dict()))
    cli.before_instantiate_classes()
    run = cli.parser.instantiate_classes(cli.config)
    assert run.data.num_classes == wanted
    if command is Fit:
        assert type(run.model).__name__ == held["model"]["class_path"]
        words = (type(run.model).__name__.lower(), "toy", f"ipc{run.model.ipc}", "seed0")
        assert run.model.out.startswith(f"runs/{'-'.join(words)}-")
        assert cli.run.link == path.stem
        assert run.model.spec == run.data.spec
        assert run.model.num_classes == wanted
    if command is Pretrain:
        assert run.out.split("-")[-3:-1] == ["toy", "seed0"]
        assert cli.run.link == path.stem
    assert len(path.read_text().splitlines()) <= 40
    assert path.read_text().startswith("# ")


PROTOCOLS = [
    path
    for path in CONFIGS
    if "protocol" in yaml.safe_load(path.read_text()) and path.parent.name == "protocols"
]


@pytest.mark.parametrize("path", PROTOCOLS, ids=lambda p: p.stem)
def test_the_parser_reads_protocol_files_as_python_does(path, made):
    cli = made[Evaluate]
    read = cli.parser.instantiate_classes(
        cli.parser.parse_args(["--data", "ToyData", "--config", str(path), *toy_args()])
    )
    assert read.protocol == named(path.stem.removeprefix("protocol_"))


@pytest.mark.parametrize(("net", "name"), [("minic3d", "teacher"), ("interpolator", "interpolator")])
def test_networks_start_from_their_own_protocol(net, name):
    cli = Pretrain(
        ["--net", net, "--data", "ToyData", *toy_args("--protocol.epochs", "3")], "vdc pretrain", ""
    )
    assert cli.config_init.protocol == named(name, epochs=3)


def test_a_config_is_found_by_path_then_here_then_among_those_shipped(tmp_path, monkeypatch):
    assert find_config("rded_toy") == find_config("rded_toy.yaml") == ROOT / "configs/methods/rded_toy.yaml"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/rded_toy.yaml").touch()
    assert find_config("rded_toy.yaml") == Path("configs/rded_toy.yaml")
    (tmp_path / "rded_toy.yaml").touch()
    assert find_config("rded_toy.yaml") == Path("rded_toy.yaml")


# -- the chain -----------------------------------------------------------------------------------------------


def test_teacher_selection_labels_evaluation_report(capsys):
    quiet = ["--progress", "false", "--protocol.epochs", "1"]
    main(["pretrain", "--config", "teacher_toy.yaml", *toy_args(*quiet)])
    stored = fit("rded", "--model.ipc", "2", "--model.mipc", "3", "--data.candidates", "2")
    assert stored.ipc == 2
    assert stored.manifest["config"]["model"]["init_args"]["mipc"] == 3
    assert stored.classes == list(CLASSES)
    folder = "runs/rded_toy/condensed"
    main(["relabel", "--condensed", folder, "--teacher", "runs/teacher_toy", "--labels", "soft"])
    evaluate = ["evaluate", "--condensed", folder, *quiet, "--seeds", "1", "--ipc", "1"]
    main([*evaluate, "--student", "minic3d", "cnn_mean", "--teacher", "runs/teacher_toy", "--random_twin"])
    main([*evaluate, "--labels", "hard", "--name", "by-hand"])
    results = [json.loads(path.read_text()) for path in Path(folder, "evaluations").glob("*.json")]
    assert sorted((r["student"], r["method"], r["protocol"]["labels"]) for r in results) == [
        ("cnn_mean", "RDED", "soft"), ("cnn_mean", "Random", "soft"), ("minic3d", "RDED", "hard"),
        ("minic3d", "RDED", "soft"), ("minic3d", "Random", "soft"),
    ]  # fmt: skip
    assert "runs/rded_toy/condensed/evaluations/report.html" in capsys.readouterr().out
    assert (
        Path(folder, "evaluations/report.html").read_text().count("<video") == 20
    )  # of the set, and of its twin
    main(["report", folder, "--out", "table", "--html", "page.html"])
    assert "RDED" in capsys.readouterr().out
    assert Path("table/report.csv").is_file()
    assert "<video" in Path("page.html").read_text()
    main(["report", "--paired", f"{folder}/evaluations/by-hand.json", f"{folder}/evaluations/by-hand.json"])
    assert "+0.0 .. +0.0" in capsys.readouterr().out
    main(["show", folder])
    assert "RDED, seed 0" in capsys.readouterr().out
    main(["export", folder, "--out", "videos", "--ipc", "1"])
    assert len(Path("videos/list.txt").read_text().splitlines()) == 10


@pytest.mark.parametrize("method", ["herding", "kcenter"])
def test_feature_methods_run(method, untrained):
    assert fit(method, "--model.teacher", untrained).ipc == 1


def test_full_data_bound():
    main(["evaluate", "--full", "--out", "runs/full", "--data", "ToyData", *toy_args(), "--seeds", "1",
          "--protocol.epochs", "1", "--progress", "false"])  # fmt: skip
    assert [json.loads(path.read_text())["method"] for path in Path("runs/full").glob("*.json")] == [
        "full data"
    ]


def test_a_saved_config_runs_again():
    first = fit("random", "--seed_everything", "5")
    files = {path.name for path in Path("runs/random_toy").iterdir()}
    assert {"config.yaml", "condensed"} <= files
    assert any("tfevents" in name for name in files)
    main(["fit", "--config", "runs/random_toy/config.yaml"])
    again = load("runs/random_toy/condensed")
    assert torch.equal(first.tensors["videos"], again.tensors["videos"])
    assert first.manifest["config"] == again.manifest["config"]
    assert not torch.equal(first.tensors["videos"], fit("random").tensors["videos"])


def test_print_config_and_overlays(tmp_path, capsys):
    (tmp_path / "more.yaml").write_text("model: {init_args: {ipc: 3}}\n")
    with pytest.raises(SystemExit) as stop:
        main([*RDED_TOY, "--config", str(tmp_path / "more.yaml"), "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["ipc"] == 3
    assert printed["model"]["init_args"]["mipc"] == 40


def test_help_names_every_command(capsys):
    main([])
    printed = capsys.readouterr().out
    assert all(f"\n  {name} " in printed for name in COMMANDS)


QUICK = """
import sys
from vdc.cli import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "lightning", "torchvision", "av"} & sys.modules.keys()
"""


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (["--help"], 0, "usage: vdc COMMAND"),
        (["--version"], 0, "vdc "),
        (["fitt"], 2, "no command 'fitt'; did you mean 'fit'"),
        (["fit", "--config", "rded_tooy"], 2, "did you mean 'rded_toy.yaml'"),
        (["evaluate", "--condensed", "nowhere"], 2, "--condensed nowhere: no such folder"),
        (["show", "nowhere"], 2, "nowhere: no such file or folder"),
    ],
)
def test_what_is_known_at_once_is_said_at_once(args, code, told):
    """Before PyTorch is imported, which takes seconds."""
    ended = subprocess.run(
        [sys.executable, "-c", QUICK, *args],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == code
    assert told in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_study_of_a_wrong_name(capsys):
    with pytest.raises(SystemExit):
        main(["study", "demmo"])
    told = capsys.readouterr().err
    assert "no study 'demmo' here, in ./studies or shipped; did you mean 'demo.yaml'" in told


def test_help_of_a_command(capsys):
    with pytest.raises(SystemExit):
        main(["help", "join"])
    assert "usage: vdc join" in capsys.readouterr().out


# -- resuming ------------------------------------------------------------------------------------------------

PULL = """
model: {class_path: tests.methods.base.test_condenser.Pull, init_args: {init: noise, ipc: 2}}
trainer: {max_steps: 300, enable_progress_bar: false, logger: false}
checkpoint: {every_n_train_steps: 10}
"""


def test_a_killed_fit_goes_on(world, tmp_path):
    (tmp_path / "pull.yaml").write_text(PULL)
    command = ["fit", "--config", str(tmp_path / "pull.yaml"), "--data", "ToyData", *toy_args()]

    def run(*more):
        env = os.environ | {"PYTHONPATH": str(ROOT)}
        return subprocess.Popen([sys.executable, "-m", "vdc", *command, *more], env=env, cwd=world)

    killed, last = run(), world / "runs/pull/checkpoints/last.ckpt"
    until = time.monotonic() + 200
    while not last.is_file() and time.monotonic() < until:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    at = torch.load(last, weights_only=True)["global_step"]
    assert 0 < at < 300
    assert not (world / "runs/pull/condensed").exists()
    assert run("--resume").wait() == 0
    main([*command, "--trainer.default_root_dir", "runs/whole"])
    resumed, whole = load("runs/pull/condensed"), load("runs/whole/condensed")
    assert torch.equal(resumed.tensors["videos"], whole.tensors["videos"])
    ends = [torch.load(f"runs/{run}/checkpoints/last.ckpt")["state_dict"] for run in ("pull", "whole")]
    assert torch.equal(ends[0]["memory.videos"], ends[1]["memory.videos"])


def test_resuming_from_nothing(capsys, world):
    args = ["fit", "--config", "random_toy.yaml", *toy_args("--trainer.default_root_dir", "runs/new")]
    assert "no checkpoint runs/new/checkpoints/last.ckpt" in refused(capsys, *args, "--ckpt_path", "last")
    main([*args, "--resume"])
    main([*args, "--ckpt_path", "last"])  # a finished run writes its set again


# -- refusals ------------------------------------------------------------------------------------------------

RDED_TOY = ["fit", "--config", "rded_toy.yaml"]
RANDOM = ["fit", "--config", "random_toy.yaml", *toy_args()]
FULL = ["evaluate", "--full", "--data", "ToyData"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["fitt"], ["no command 'fitt'", "'fit'"]),
        (["fit", "--config", "rded_tooy.yaml"], ["no config 'rded_tooy.yaml'", "'rded_toy.yaml'"]),
        ([*RDED_TOY, "--model.mipcc", "3"], ["RDED", "'mipcc'", "did you mean 'mipc'"]),
        ([*RDED_TOY, "--model", "RDDE"], ["no class 'RDDE'", "'RDED'"]),
        ([*RDED_TOY, "--data", "RealDat"], ["no class 'RealDat'", "'RealData'"]),
        ([*RDED_TOY, "--model.memory", "Pixel"], ["no class 'Pixel'", "'Pixels'"]),
        ([*RDED_TOY, "--trainer.max_epoch", "3"], ["max_epoch", "'max_epochs'"]),
        ([*RDED_TOY, "--model.ipc", "many"], ["ipc", "many", "int"]),
        ([*RDED_TOY, "--data.spec.frames", "0"], ["spec.frames must be at least 1, got 0"]),
        ([*RANDOM, "--trainer.precision", "16-true"], ["16-true", "bf16-mixed"]),
        (["evaluate", "--data", "ToyData"], ["--condensed DIR or --full"]),
        (["evaluate", "--condensed", "nowhere"], ["nowhere", "no condensed set"]),
        ([*FULL, "--protocol.epoch", "3"], ["epoch", "'epochs'"]),
        ([*FULL, "--trainer.max_epochs", "3"], ["max_epochs", "'epochs'"]),
        ([*FULL, "--studnt", "i3d"], ["--studnt", "'student'"]),
        (["show", "nowhere"], ["nowhere"]),
        (["report", "nowhere"], ["nowhere"]),
    ],
)  # fmt: skip
def test_a_wrong_command_line(args, words, capsys):
    line = refused(capsys, *args)
    assert all(word in line for word in words), line
    assert "Union" not in line


def test_a_wrong_key_in_a_file(capsys, tmp_path):
    wrong = {
        "mipcc": "model: {class_path: RDED, init_args: {mipcc: 3}}\ndata: {class_path: ToyData}\n",
        "fram": "model: {class_path: Random}\ndata: {class_path: ToyData, init_args: {spec: {fram: 3}}}\n",
        "trainr": "model: {class_path: Random}\ndata: {class_path: ToyData}\ntrainr: {max_epochs: 1}\n",
    }
    for (key, text), near in zip(wrong.items(), ("'mipc'", "'frames'", "'trainer'"), strict=True):
        (tmp_path / "wrong.yaml").write_text(text)
        line = refused(capsys, "fit", "--config", str(tmp_path / "wrong.yaml"))
        assert f"'{key}" in line
        assert f"did you mean {near}" in line


@pytest.fixture
def videos(world, tmp_path):
    """A copy of the toy lists to break; its videos are the toy ones."""
    for name in ("train", "test"):
        os.symlink(world / "runs/toy" / name, tmp_path / name)
        (tmp_path / f"{name}.txt").write_text((world / f"runs/toy/{name}.txt").read_text())
    return tmp_path


def random_on(root, *more):
    quiet = ["--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", str(root / "run")]
    return ["fit", "--config", "random_toy.yaml", *real_args(root, *quiet, *more)]


def test_wrong_data(capsys, videos):
    lines = (videos / "train.txt").read_text().splitlines()
    assert "no such folder" in refused(capsys, *random_on(videos, "--data.root", str(videos / "none")))
    for bad, words in (
        ("train/up/0000.mp4 x", ["train.txt", "31", "'x'"]),
        ("train/up/0000.mp4 -1", ["train.txt", "-1"]),
        ("train/up/9999.mp4 0", ["9999.mp4", "missing"]),
    ):
        (videos / "train.txt").write_text("\n".join([*lines, bad]) + "\n")
        line = refused(capsys, *random_on(videos))
        assert all(word in line for word in words), line
    (videos / "train.txt").write_text("\n".join(lines) + "\n")
    (videos / "test.txt").write_text("test/up/0000.mp4 44\n")
    assert "44" in refused(capsys, *random_on(videos))
    assert not (videos / "run/condensed").exists()


def test_a_video_that_cannot_be_read(capsys, videos):
    (videos / "broken.mp4").write_bytes(b"no video")
    rows = [line for line in (videos / "train.txt").read_text().splitlines() if not line.endswith(" 0")]
    (videos / "train.txt").write_text("\n".join(["broken.mp4 0", *rows]) + "\n")
    for workers in ("0", "1"):
        line = refused(capsys, *random_on(videos, "--data.num_workers", workers))
        assert str(videos / "broken.mp4") in line
    assert not (videos / "run/condensed").exists()


def test_too_few_videos(capsys, videos):
    line = refused(capsys, *random_on(videos, "--model.ipc", "4"))
    assert "has 3 training videos" in line
    assert "ipc 4" in line


def test_no_test_videos(capsys, videos, untrained):
    main(random_on(videos))
    folder = str(videos / "run/condensed")
    (videos / "test.txt").write_text("")
    for more in ([], ["--data.test", "null"]):
        line = refused(capsys, "evaluate", "--condensed", folder, "--progress", "false", *more)
        assert "test" in line
        assert "no " in line or "zero" in line
    assert not list((videos / "run/condensed/evaluations").glob("*.json"))


def test_a_wrong_teacher(capsys, world, tmp_path):
    args = [
        "fit",
        "--config",
        "herding_toy.yaml",
        *toy_args("--trainer.default_root_dir", str(tmp_path / "run")),
    ]
    for folder, words in (
        (str(tmp_path / "none"), ["no teacher", "vdc pretrain"]),
        (teacher(tmp_path / "a", list(CLASSES[:4])), ["4 classes", "10"]),
        (teacher(tmp_path / "b", frames=8), ["8 frames", "4"]),
        (teacher(tmp_path / "c", list(reversed(CLASSES))), ["another class list"]),
    ):
        line = refused(capsys, *args, "--model.teacher", folder)
        assert all(word in line for word in words), line


def test_a_wrong_student_set_or_protocol(capsys, world):
    fit("random")
    folder = "runs/random_toy/condensed"
    evaluate = ["evaluate", "--condensed", folder, "--progress", "false", "--protocol.epochs", "1"]
    assert "did you mean" in refused(capsys, *evaluate, "--student", "minic4d")
    assert "minic3d" in refused(capsys, *evaluate, "--student", "minic4d")
    assert "44" in refused(capsys, *evaluate, "--data.spec.size", "56")
    line = refused(capsys, *evaluate, "--data.classes", "[up, down]")
    assert "10 classes" in line
    assert "vdc relabel" in refused(capsys, *evaluate, "--labels", "soft")
    assert "--teacher" in refused(capsys, *evaluate, "--labels", "live")
    assert "ipc 2" in refused(capsys, *evaluate, "--ipc", "2")
    clips = Path(folder, "clips.safetensors")
    held = clips.read_bytes()
    clips.write_bytes(held[:-1] + bytes([held[-1] ^ 1]))
    assert "clips.safetensors has changed" in refused(capsys, *evaluate)
    clips.write_bytes(held)


def test_no_room_for_the_toy_videos(capsys, tmp_path, monkeypatch):
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    args = ["pretrain", "--config", "teacher_toy.yaml", "--data.root", str(tmp_path / "toy"), *SMALL]
    line = refused(capsys, *args, code=1)
    assert "toy set needs" in line
    assert list(tmp_path.iterdir()) == []


def test_tracebacks_on_request(monkeypatch):
    monkeypatch.setenv("JSONARGPARSE_DEBUG", "1")
    with pytest.raises(ValueError, match="no command"):
        main(["nothing"])


def test_classes_can_be_named_without_their_module(world):
    for method in (Random, RDED):
        more = ["--model.teacher", "x"] if method is RDED else []
        made = Fit(["--model", method.__name__, *more, "--data", "ToyData", *toy_args()], "vdc", "")
        assert type(made.model) is method


def test_lightning_says_only_what_tells_something():
    said = []
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger.addHandler(handler)
    try:
        quiet()
        quiet()  # a second command of the process
        seed_everything(0)
        Trainer(accelerator="cpu", max_steps=1)
        rank_zero_info("the disk is nearly full")
    finally:
        logger.removeHandler(handler)
    assert said == ["the disk is nearly full"]
    assert len(logger.filters) == 1


def test_weights_are_refused_in_one_line(here, tmp_path, capsys):
    for flags, told in (
        (["--freeze"], "--freeze and --normalisation say what to do with --weights: give these"),
        (
            ["--weights", str(tmp_path / "w.pth")],
            f"--weights {tmp_path}/w.pth: no such file, nor folder of a teacher",
        ),
        (["--weights", "torchvision:r3d_18"], "is of net r3d_18, not of minic3d"),
        (["--weights", "x.pth", "--experts", "2"], "--weights are for teachers: experts"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["pretrain", "--config", "teacher_toy.yaml", "--out", str(tmp_path / "out"), *flags])
        assert stop.value.code == 2
        assert re.search(told, capsys.readouterr().err.splitlines()[-1])
