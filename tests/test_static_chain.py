"""Stills first, then motion: the commands of the s2d configs, on tiny toy videos."""

import json
from pathlib import Path

import pytest
import torch

from tests.commands import refused, toy_args
from vdc.cli import main
from vdc.condensed.format import load

pytestmark = pytest.mark.usefixtures("here")

QUIET = ["--trainer.enable_progress_bar", "false", "--trainer.logger", "false", "--data.per_class", "2"]
STILLS = ["--model.init", "runs/static_dc_toy/condensed"]
LONG = ["--data.spec.frames", "8", "--data.spec.stride", "1"]


def fit(name, *more):
    main(["fit", "--config", f"{name}_toy.yaml", *toy_args(*QUIET, *LONG, *more)])
    return load(f"runs/{name}_toy/condensed")


@pytest.fixture(scope="module")
def stills(world):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(world)
        return fit("static_dc", "--model.ipc", "2", "--model.iterations", "2")


def test_stills_start_a_static_dynamic_set_that_is_evaluated_shown_and_exported(stills, capsys):
    made = fit("s2d_dm", *STILLS, "--model.iterations", "1", "--model.memory.precision", "float32")
    start = stills.memory().render(torch.arange(20))[0][:, :, 0]
    torch.testing.assert_close(made.tensors["stills"], start.view(10, 2, 3, 44, 44))
    folder = "runs/s2d_dm_toy/condensed"
    evaluate = ["evaluate", "--condensed", folder, "--seeds", "1", "--protocol.epochs", "1"]
    main([*evaluate, "--progress", "false", "--labels", "hard", "--protocol.checks", "1"])
    (found,) = (json.loads(path.read_text()) for path in Path(folder, "evaluations").glob("*.json"))
    assert found["bytes"]["clips"] == 4 * (10 * 44 * 44 * (2 * 3 + 2 * 8) + 327)
    main(["show", folder])
    assert "StaticDynamic" in capsys.readouterr().out
    main(["export", folder, "--out", "pairs"])
    assert len(Path("pairs/list.txt").read_text().splitlines()) == 40


def test_frepo_takes_the_first_still_of_each_class(stills):
    made = fit(
        "s2d_frepo", *STILLS, "--trainer.max_steps", "1", "--model.pool_size", "1", "--data.batch_size", "4"
    )
    assert made.tensors["motions"].shape == (10, 1, 8, 44, 44)
    assert torch.equal(made.tensors["stills"][:, 0], stills.tensors["videos"][::2, 0])
    assert made.labels.kind == "soft"


def test_a_set_above_its_budget_or_with_plain_clips_as_stills_is_refused(capsys, stills):
    args = ["fit", "--config", "s2d_dm_toy.yaml", *toy_args(*QUIET)]  # of 4 frames: 14 planes, a clip has 12
    line = refused(capsys, *args)
    assert "take 272," in line
    assert "memory.budget" in line
    line = refused(
        capsys, "fit", "--config", "static_dc_toy.yaml", *toy_args("--data.spec.stored_frames", "4")
    )
    assert "stored_frames 1" in line
