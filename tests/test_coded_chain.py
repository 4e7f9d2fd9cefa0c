"""A code, then a set of coded clips, evaluated, shown, joined and exported: the commands, on tiny toy videos."""

import json
from pathlib import Path

import pytest

from tests.commands import refused, toy_args
from vdc.cli import main
from vdc.condensed.format import load

pytestmark = pytest.mark.usefixtures("here")

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false"]


def fit(folder, *more):
    args = toy_args(*QUIET, "--trainer.default_root_dir", folder, *more)
    main(["fit", "--config", "random_coded_toy.yaml", *args])
    return load(f"{folder}/condensed")


@pytest.fixture(scope="module")
def coded(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        main(["pretrain", "--config", "code_toy.yaml", *toy_args("--progress", "false")])
        return fit("runs/coded", "--model.memory.clips_per_item", "3", "--model.memory.clip_bytes", "60")


def test_a_code_is_fitted_and_tells_its_quality(coded, capsys):
    main(["pretrain", "--config", "code_toy.yaml", *toy_args("--progress", "false")])
    assert "dB in 45" in capsys.readouterr().out
    line = refused(
        capsys, "pretrain", "--config", "code_toy.yaml", *toy_args("--net_options", '{"bands": 3}')
    )
    assert "net code takes no --net_options" in line


def test_a_coded_set_is_evaluated_shown_and_exported(coded, capsys):
    assert coded.tensors["codes"].shape == (10, 3, 60)
    folder = "runs/coded/condensed"
    evaluate = ["evaluate", "--condensed", folder, "--seeds", "1", "--protocol.epochs", "1"]
    main([*evaluate, "--progress", "false", "--labels", "hard", "--protocol.checks", "1"])
    (found,) = (json.loads(path.read_text()) for path in Path(folder, "evaluations").glob("*.json"))
    assert found["per_item"] == 3
    assert found["bytes"]["total"] == sum(coded.nbytes.values()) == 10 * 3 * 61 + coded.nbytes["decoder"]
    main(["show", folder])
    assert "3 clip(s) each" in capsys.readouterr().out
    main(["export", folder, "--out", "coded_videos"])
    assert len(Path("coded_videos/list.txt").read_text().splitlines()) == 30
    written = sum(path.stat().st_size for path in Path("coded_videos").rglob("*") if path.is_file())
    told = f"{written:,} bytes; the set itself stores {sum(coded.nbytes.values()):,}"
    assert told in capsys.readouterr().out


def test_sets_of_one_code_are_joined(coded):
    other = fit(
        "runs/other", "--model.memory.clips_per_item", "3", "--model.memory.clip_bytes", "60",
        "--seed_everything", "1",
    )  # fmt: skip
    main(["join", "runs/coded/condensed", "runs/other/condensed", "--out", "both"])
    both = load("both")
    assert both.ipc == 2
    assert both.tensors["codes"][1].equal(other.tensors["codes"][0])


def test_a_missing_code_is_named(coded, capsys):
    args = toy_args(*QUIET, "--model.memory.code", "nowhere")
    line = refused(capsys, "fit", "--config", "random_coded_toy.yaml", *args)
    assert "memory.code nowhere" in line
    assert "vdc pretrain --net code" in line
