"""One folder is one run: names, links, what an earlier run leaves, and checkpoints that know their run."""

import errno
import json
import shutil
from pathlib import Path

import pytest
import torch

from vdc.cli import main
from vdc.cli.commands import Fit, flags_last
from vdc.cli.runs import Run, averaged, deciding
from vdc.cli.study import parser_of
from vdc.condensed.format import find_set, load
from vdc.data.toy import make_toy
from vdc.methods.base.selection import Selection

SMALL = {
    "data.train_videos": 3, "data.test_videos": 1, "data.spec.frames": 4, "data.spec.size": 44,
    "data.spec.stride": 2, "data.cache": "none", "trainer.enable_progress_bar": "false",
}  # fmt: skip
PULL = """
model: {class_path: tests.methods.base.test_condenser.Pull, init_args: {init: noise, ipc: 2}}
trainer: {max_steps: 6, logger: false}
checkpoint: {every_n_train_steps: 2}
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_toy(folder / "runs/toy", 3, 1)
    return folder


@pytest.fixture(autouse=True)
def here(world, tmp_path, monkeypatch):
    """A folder of its own for every test, with the videos."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/toy").symlink_to(world / "runs/toy")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def flags(**more):
    given = SMALL | {key.replace("__", "."): value for key, value in more.items()}
    return [part for key, value in given.items() for part in (f"--{key}", str(value))]


def fit(*more, config="random_toy.yaml", **changed):
    main(["fit", "--config", config, *flags(**changed), *more])


def pull(*more, data="ToyData", **changed):
    Path("pull.yaml").write_text(PULL)
    main(["fit", "--config", "pull.yaml", "--data", data, *flags(**changed), *more])


def refused(capsys, call, *args, **kwargs):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        call(*args, **kwargs)
    assert stop.value.code == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    return error[0]


def runs():
    return sorted(path.name for path in Path("runs").iterdir() if not path.is_symlink())


# -- names ---------------------------------------------------------------------------------------------------


CONFIG = {
    "seed_everything": 3,
    "model": {
        "class_path": "vdc.methods.dm.DM",
        "init_args": {
            "ipc": 2,
            "out": None,
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1}},
        },
    },
    "data": {
        "class_path": "ToyData",
        "init_args": {"root": "runs/toy", "num_workers": 0, "spec": {"frames": 4}},
    },
    "trainer": {"max_steps": 5, "logger": None, "devices": 1},
    "checkpoint": {"save_last": True},
}


def test_what_decides_has_short_keys_and_no_hardware(here):
    assert deciding(CONFIG) == {
        "seed_everything": 3, "model": "DM", "model.ipc": 2, "model.optimizer": "Adam", "model.optimizer.lr": 1,
        "data": "ToyData", "data.root": str((here / "runs/toy").resolve()), "data.spec.frames": 4,
        "trainer.max_steps": 5,
    }  # fmt: skip


def test_a_name_tells_the_run_and_changes_with_all_that_decides():
    def name(**changed):
        return Run.of(CONFIG | changed, ["dm", "my videos", "ipc2"], None, "x").folder

    assert str(name()).startswith("runs/dm-my_videos-ipc2-")
    assert name() == name(checkpoint={"save_last": False}) == name(trainer={"max_steps": 5, "devices": 8})
    assert len({name(), name(seed_everything=4), name(trainer={"max_steps": 6})}) == 3


def test_processes_that_average_are_another_run():
    two = {"accelerator": "cpu", "devices": 2, "num_nodes": 1}
    with pytest.warns(UserWarning, match="FRePo on 2 processes averages over what each of them draws"):
        assert averaged("vdc.methods.FRePo", two) == {"processes": 2}
    for method in ("vdc.methods.DM", "vdc.methods.EDC", "vdc.methods.Herding"):
        assert averaged(method, two) == {}
    assert averaged("vdc.methods.FRePo", two | {"devices": 1}) == {}


@pytest.mark.filterwarnings("ignore:FRePo on 2 processes")
def test_the_command_names_them_so():
    command = [
        "--config",
        "s2d_frepo_toy.yaml",
        *flags(),
        "--trainer.accelerator",
        "cpu",
        "--trainer.devices",
    ]
    runs = [Fit([*command, devices], "vdc fit", "").run for devices in ("1", "2")]
    assert "processes" not in runs[0].keys
    assert runs[1].keys["processes"] == 2
    assert runs[0].folder != runs[1].folder


def test_two_sizes_are_two_runs_and_the_link_leads_to_the_newer(capsys):
    fit()
    fit("--model.ipc", "2")
    one, two = runs()
    assert one.startswith("random-toy-ipc1-seed0-")
    assert two.startswith("random-toy-ipc2-seed0-")
    printed = capsys.readouterr().out
    assert printed.count(f"runs/{one}") >= 2  # at the start and at the end
    assert "next: vdc evaluate --condensed runs/random_toy" in printed
    assert Path("runs/random_toy").readlink() == Path(two)
    assert load("runs/random_toy").ipc == load("runs/random_toy/condensed").ipc == 2
    assert load(f"runs/{one}").ipc == 1
    assert find_set("runs/random_toy") == Path(
        "runs", two, "condensed"
    )  # a later run does not turn it elsewhere


def test_a_folder_of_the_name_of_the_link_stays(capsys):
    Path("runs/random_toy").mkdir()
    Path("runs/random_toy/thesis.tex").write_text("years")
    fit()
    out = capsys.readouterr().out
    assert "runs/random_toy is no link" in out
    assert Path("runs/random_toy/thesis.tex").read_text() == "years"
    assert "next: vdc evaluate --condensed runs/random-toy" in out


def test_what_an_earlier_run_left_moves_aside(caplog):
    fit()
    run = Path("runs/random_toy").resolve()
    (run / "condensed/evaluations/hard.json").write_text("{}")
    (run / "condensed/notes.txt").write_text("mine")
    (run / "plan.txt").write_text("mine")
    events = {path.name for path in run.glob("events*")}
    fit()  # the same once more: its set stays as it is
    assert (run / "condensed/notes.txt").is_file()
    assert {path.name for path in (run / "before-1").glob("events*")} == events
    assert len(list(run.glob("events*"))) == 1  # curves are not mixed
    manifest = json.loads((run / "condensed/manifest.json").read_text())
    (run / "condensed/manifest.json").write_text(json.dumps(manifest | {"seed": 9}))  # another set
    fit()
    assert (run / "before-1/condensed/evaluations/hard.json").read_text() == "{}"
    assert (run / "before-1/condensed/notes.txt").read_text() == "mine"
    assert (run / "plan.txt").read_text() == "mine"
    assert not (run / "condensed/notes.txt").exists()
    assert load(run).manifest["seed"] == 0
    assert "before-1: condensed" in caplog.text


def test_a_target_that_holds_something_else_is_refused_before_the_work(capsys, here):
    (here / "thesis").mkdir()
    (here / "thesis/chapter.tex").write_text("years")
    line = refused(capsys, fit, "--model.out", "thesis")
    assert "thesis exists and is no condensed set" in line
    assert runs() == []


def test_a_full_disk_that_nobody_names_is_that_of_the_run(here):
    with pytest.raises(OSError, match="No space left") as error, Run({}, here / "run").opened(goes_on=False):
        raise OSError(errno.ENOSPC, "No space left on device")  # as TensorBoard does
    assert error.value.filename == str(here / "run")


def test_a_full_disk_leaves_the_older_config(here, monkeypatch):
    command = Fit(["--config", "random_toy.yaml", *flags()], "vdc fit", "")
    command.save_config(here)
    held = (here / "config.yaml").read_text()

    def full(config, path, **options):
        Path(path).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command.parser, "save", full)
    with pytest.raises(OSError, match=r"config\.yaml"):
        command.save_config(here)
    assert (here / "config.yaml").read_text() == held


def test_a_run_is_written_by_one_process(capsys):
    fit()
    run = Run({}, Path("runs/random_toy").resolve())
    with run.opened(goes_on=True):
        assert "is being written by another process" in refused(capsys, fit)


# -- flags ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "sorted_"),
    [
        ("--model.ipc 3 --config a", "--config a --model.ipc 3"),
        ("--model.ipc=3 -c a --x 1 --config=b", "-c a --config=b --x 1 --model.ipc=3"),
        ("--data.root x --data RealData", "--data RealData --data.root x"),
        ("--model.init_args.ipc 1 --model.ipc 2", "--model.init_args.ipc 1 --model.ipc 2"),
        ("--ipc 1 2 --data.spec.size -1 --print_config", "--ipc 1 2 --print_config --data.spec.size -1"),
    ],
)
def test_configs_come_first(given, sorted_):
    assert flags_last(given.split()) == sorted_.split()


def test_a_selection_without_a_config_looks_once(here, monkeypatch):
    passes, ended = [], Selection.on_train_epoch_end

    def count(self):
        passes.append(1)
        ended(self)

    monkeypatch.setattr(Selection, "on_train_epoch_end", count)
    main(["fit", "--model", "Random", "--data", "ToyData", *flags()])
    assert passes == [1]


def test_a_flag_before_the_config_wins():
    main(["fit", "--model.ipc", "3", *flags(), "--config", "random_toy.yaml"])
    assert load("runs/random_toy").ipc == 3


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (b"model: \xd5", "odd.yaml is not UTF-8 text"),
        (b"model: {a: [1\n", "odd.yaml, line 2, column 1: expected"),
        (b"3\n", "odd.yaml: a config is a mapping of keys"),
        (b"model: DM\nmodel: DC\n", "odd.yaml, line 1: model is there twice"),
    ],
)
def test_a_config_that_cannot_be_read_is_named(held, words, capsys, here):
    (here / "odd.yaml").write_bytes(held)
    for name in ("odd.yaml", "./odd.yaml", str(here / "odd.yaml")):
        with pytest.raises(SystemExit):
            main(["fit", "--config", name])
        assert words in capsys.readouterr().err


def test_a_config_may_give_one_of_several(here):
    (here / "one.yaml").write_text("student: i3d\nipc: 2\nseeds: 1\n")
    data = ["--data", "RealData", "--data.root", "x"]
    found = parser_of("evaluate").parse_args(["--config", "one.yaml", *data])
    assert (found.student, found.ipc, found.seeds) == (["i3d"], [2], 1)


def test_abbreviated_keys_are_refused(capsys, here):
    line = refused(capsys, fit, "--data.spec.strid", "3")
    assert "strid" in line
    assert "did you mean 'stride'" in line
    assert ".yaml" not in line  # a flag said it, no file
    (here / "odd.yaml").write_text("data:\n  class_path: ToyData\n  init_args:\n    spec:\n      strid: 3\n")
    assert "odd.yaml, line 5: " in refused(capsys, fit, "--config", "odd.yaml")


def test_a_size_that_no_machine_has_is_no_traceback(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "random_toy.yaml", *flags(), "--model.ipc", str(10**9)])
    assert stop.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: not enough memory: ")
    assert "fewer items (ipc)" in line


# -- checkpoints ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (["--seed_everything", "1"], ["seed_everything was 0", "1"]),
        (["--model.ipc", "3"], ["model.ipc was 2", "3"]),
        (["--model.init", "real"], ["model.init was 'noise'", "'real'"]),
        (["--data.spec.frames", "5"], ["data.spec.frames was 4", "5"]),
        (["--data.classes", "[up, down]"], ["data.classes was None", "['up', 'down']"]),
        (["--trainer.max_steps", "4"], ["trainer.max_steps was 6", "4"]),
        (["--model.memory", "MultiFormation"], ["model.memory was 'Pixels'", "'MultiFormation'"]),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(changed, words, capsys):
    pull("--trainer.default_root_dir", "here")
    before = Path("here/condensed/manifest.json").read_bytes()
    for resume in (["--resume"], ["--ckpt_path", "here/checkpoints/last.ckpt"]):
        line = refused(capsys, pull, "--trainer.default_root_dir", "here", *resume, *changed)
        assert "is of another run" in line
        assert all(word in line for word in words), line
    assert Path("here/condensed/manifest.json").read_bytes() == before


def test_other_videos_of_the_same_names_are_refused(capsys, here):
    shutil.copytree("runs/toy", "videos")
    lists = {"data.root": "videos", "data.train": "train.txt", "data.test": "test.txt"}

    def run(*more):
        Path("pull.yaml").write_text(PULL)
        real = [
            part for k, v in {**SMALL, **lists}.items() if "videos" not in k for part in (f"--{k}", str(v))
        ]
        main(["fit", "--config", "pull.yaml", "--data", "RealData", *real, *more])

    run()
    lines = Path("videos/train.txt").read_text().splitlines()
    Path("videos/train.txt").write_text("\n".join(lines[1:]) + "\n")
    line = refused(capsys, run, "--resume")
    assert "the checkpoint is of other data: train is" in line


def test_more_steps_are_allowed_and_end_where_one_run_ends():
    pull()
    pull(
        "--resume", "--trainer.max_steps", "10"
    )  # another run by name, which begins where the shorter one ended
    longer = load("runs/pull")
    step = torch.load("runs/pull/checkpoints/last.ckpt")["global_step"]
    pull("--trainer.max_steps", "10", "--trainer.default_root_dir", "whole")
    assert step == 10
    assert torch.equal(longer.tensors["videos"], load("whole").tensors["videos"])
    assert len([name for name in runs() if name.startswith("pull-")]) == 2


STRANGE = {
    "plain": lambda held: held.pop("run"),
    "weights": lambda held: held["state_dict"].update({"memory.videos": {"a": 1}}),
    "loops": lambda held: held.update(loops=torch.zeros(2)),
    "counters": lambda held: held["loops"]["fit_loop"]["epoch_progress"].update(total=True),
    "callbacks": lambda held: held["callbacks"].update(dict.fromkeys(held["callbacks"], 3)),
    "optimizer": lambda held: held.update(optimizer_states=[3]),
}


def damaged(path, how):
    held = path.read_bytes()
    if how == "foreign":
        torch.save({"weights": torch.zeros(3)}, path)
    elif how in STRANGE:
        checkpoint = torch.load(path)
        STRANGE[how](checkpoint)
        torch.save(checkpoint, path)
    else:
        path.write_bytes({"empty": b"", "truncated": held[: len(held) // 2], "text": b"hello\n" * 99}[how])


@pytest.mark.parametrize("how", ["empty", "truncated", "text", "foreign", *STRANGE])
def test_a_bad_checkpoint_is_one_line(how, capsys):
    pull()
    last = Path("runs/pull/checkpoints/last.ckpt")
    damaged(last, how)
    for resume in (["--resume"], ["--ckpt_path", str(last)]):
        line = refused(capsys, pull, *resume)
        assert "last.ckpt" in line
        assert "checkpoint" in line or "run" in line


def test_every_learnt_run_saves_by_time_and_at_its_end():
    main(["fit", "--config", "segments_dm_toy.yaml", *flags(data__spec__frames=8), "--model.iterations", "3"])
    assert torch.load("runs/segments_dm_toy/checkpoints/last.ckpt")["global_step"] == 3
