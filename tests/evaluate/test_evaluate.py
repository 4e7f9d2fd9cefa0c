"""Evaluation end to end on a tiny network: what is written, what is resumed, what is refused."""

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.killing import CPU, Killed, killing
from tests.small import CLASSES, SPEC, K, Videos, make_set
from vdc.condensed.format import load
from vdc.evaluate.evaluate import evaluate, evaluate_full
from vdc.evaluate.relabel import relabel
from vdc.evaluate.results import student_of
from vdc.nets.weights import Weights
from vdc.report.leaderboard import _key
from vdc.report.provenance import evaluate_command
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol, named
from vdc.train.scores import unpack

SHORT = Protocol(epochs=6, base_batch=1)


def run(condensed, **options):
    given = {"students": ["tiny"], "seeds": [0], "protocol": SHORT, "trainer": CPU, "progress": False}
    return evaluate(condensed, options.pop("data", None) or Videos(), **given | options)


def scores(result):
    return {
        key: result[key]
        for key in (
            "top1",
            "top5",
            "still_top1",
            "reference_best",
            "per_class",
            "confusion",
            "correct",
            "curve",
        )
    }


# -- results ---------------------------------------------------------------------------------------------


def test_results_say_everything_a_table_needs(condensed):
    (result,) = run(condensed, seeds=[0, 1, 2])
    path = Path(condensed) / "evaluations" / f"{result['name']}.json"
    assert json.loads(path.read_text()) == json.loads(json.dumps(result))
    singles = [json.loads((path.with_suffix("") / f"seed{s}" / "result.json").read_text()) for s in range(3)]
    values = [single["top1"] for single in singles]
    assert result["top1"]["values"] == values
    assert result["top1"]["mean"] == pytest.approx(sum(values) / 3, abs=1e-3)
    assert result["top1"]["std"] == pytest.approx(statistics.stdev(values), abs=1e-3)
    total = [[sum(s["confusion"][i][j] for s in singles) for j in range(K)] for i in range(K)]
    assert result["confusion"] == total
    assert sum(map(sum, total)) == 3 * 12
    hits = sum(total[i][i] for i in range(K)) / 36
    assert result["top1"]["mean"] == pytest.approx(100 * hits, abs=1e-2)
    for label, name in enumerate(CLASSES):
        assert result["per_class"][name] == pytest.approx(
            100 * total[label][label] / sum(total[label]), abs=1e-2
        )
    assert result["bytes"] == {"clips": 6 * 4 * 16 * 16 * 3, "labels": 6, "teacher": 0, "total": 18438}
    assert (result["ipc"], result["method"], result["seeds"]) == (2, "Random", [0, 1, 2])
    assert result["protocol"]["labels"] == "hard"
    assert result["versions"]["lightning"]
    assert len(result["seconds"]["values"]) == 3
    log = EventAccumulator(str(path.with_suffix("") / "seed0")).Reload()
    assert log.Images("test/confusion")[0].encoded_image_string.startswith(b"\x89PNG")
    assert not list(Path(condensed).rglob("*.ckpt"))
    load(condensed)  # the set itself is untouched
    for single, text in zip(singles, result["correct"], strict=True):
        assert 100 * unpack(text, 12).mean() == pytest.approx(single["top1"], abs=1e-3)
    assert result["steps"] == [18, 18, 18]  # 6 epochs of 6 clips, 2 at a time
    assert [[epoch, step] for epoch, step, _ in result["curve"][0]] == [[e, 3 * e] for e in range(1, 7)]
    assert result["final_loss"] == [curve[-1][2] for curve in result["curve"]]
    assert result["config"] == {}


def test_the_final_loss_is_the_mean_of_the_last_epoch(condensed, monkeypatch):
    seen = []
    step = EvalModule.training_step
    monkeypatch.setattr(EvalModule, "training_step", lambda *a: seen.append(step(*a)) or seen[-1])
    (result,) = run(
        condensed, protocol=replace(SHORT, epochs=201)
    )  # every second epoch is kept, and the last
    means = torch.stack(seen).view(-1, 3).mean(1).tolist()
    assert result["final_loss"] == [pytest.approx(means[-1], abs=1e-5)]
    kept = result["curve"][0]
    assert [epoch for epoch, *_ in kept] == [*range(2, 201, 2), 201]
    assert [loss for *_, loss in kept] == pytest.approx(
        [means[int(epoch) - 1] for epoch, *_ in kept], abs=1e-5
    )


def test_results_of_before_losses_were_kept_are_summarised(condensed):
    (result,) = run(condensed)
    path = Path(condensed) / "evaluations" / result["name"] / "seed0" / "result.json"
    old = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("correct", "curve", "steps")}
    path.write_text(json.dumps(old))
    (again,) = run(condensed, seeds=[0, 1])
    assert (again["correct"], again["curve"], again["steps"]) == (None, None, None)
    assert len(again["top1"]["values"]) == 2


def test_reference_best_is_the_best_look_and_never_the_primary_number(condensed):
    (result,) = run(condensed, protocol=replace(SHORT, epochs=10, lr=0.05))
    single = json.loads(
        (Path(condensed) / "evaluations" / result["name"] / "seed0" / "result.json").read_text()
    )
    assert [look["epoch"] for look in single["checks"]] == [
        6,
        7,
        8,
    ]  # 7/10 .. 9/10 of the epochs, then the last
    looks = [look["top1"] for look in single["checks"]] + [single["top1"]]
    assert result["reference_best"]["top1"]["values"] == [max(looks)]
    assert result["top1"]["values"] == [single["top1"]]


def test_one_seed_has_no_deviation_and_more_seeds_join(condensed):
    (first,) = run(condensed)
    assert first["top1"]["std"] is None
    (more,) = run(condensed, seeds=[1])
    assert more["seeds"] == [0, 1]
    assert more["top1"]["values"][0] == first["top1"]["values"][0]


def test_other_settings_get_other_files(condensed):
    names = {
        run(condensed, protocol=p)[0]["name"]
        for p in (SHORT, replace(SHORT, lr=0.1), replace(SHORT, epochs=2))
    }
    names.add(run(condensed, ipc=1)[0]["name"])
    assert len(names) == 4


def test_processes_that_keep_their_results_are_refused_before_they_train(condensed):
    spawning = partial(CPU, devices=2, strategy="ddp_spawn")
    with pytest.raises(ValueError, match=r"hand no results back: set --trainer\.strategy ddp$"):
        run(condensed, trainer=spawning)
    assert not list(Path(condensed).rglob("seed*"))


def test_a_taken_name_is_refused(condensed):
    run(condensed, name="mine")
    with pytest.raises(ValueError, match="another --name"):
        run(condensed, name="mine", protocol=replace(SHORT, lr=0.1))


# -- resume ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", ["hard", "views"])
@pytest.mark.parametrize("epoch", [2, 4])
def test_a_killed_run_goes_on_to_the_very_same_scores(tmp_path, teacher, labels, epoch):
    protocol = replace(SHORT, labels=labels, ema=0.9, cutmix=0.5, lr=0.02)
    results = []
    for name in ("whole", "killed"):
        path = make_set(tmp_path / name)
        if labels == "views":
            relabel(path, teacher, "views", views=4, progress=False)
        options = {"seeds": [0, 1], "protocol": protocol, "checkpoint_every": 0}
        if name == "killed":
            with pytest.raises(Killed):
                run(path, **options, trainer=killing(epoch))
            assert list(Path(path).rglob("last.ckpt"))
        results.append(run(path, **options))
    assert scores(results[0][0]) == scores(results[1][0])


def test_finished_seeds_are_read_back(condensed, monkeypatch):
    run(condensed, seeds=[0, 1])
    monkeypatch.setattr("vdc.train.run.Running.fit_and_test", lambda *_, **__: pytest.fail("trained again"))
    (result,) = Path(condensed).rglob("seed1/result.json")
    left = result.with_name("last.ckpt")
    left.touch()  # by a kill between result and checkpoint
    assert run(condensed, seeds=[0, 1])[0]["seeds"] == [0, 1]
    assert not left.exists()


CHILD = """
import sys
from functools import partial
from lightning.pytorch import Trainer
from tests.network import Dropping, register
from tests.small import Videos
from vdc.evaluate.evaluate import evaluate
from vdc.train.protocol import Protocol, named
register(Dropping)
evaluate(sys.argv[1], Videos(), ["tiny"], [0], Protocol(epochs=40, base_batch=1), progress=False,
         trainer=partial(Trainer, accelerator="cpu"), checkpoint_every=0)
"""


def test_kill_minus_9(tmp_path):
    path = make_set(tmp_path / "set")
    child = subprocess.Popen([sys.executable, "-c", CHILD, path], cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not list(Path(path).rglob("last.ckpt")) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert list(Path(path).rglob("last.ckpt"))
    protocol = replace(SHORT, epochs=40)
    (resumed,) = run(path, protocol=protocol)
    (whole,) = run(make_set(tmp_path / "other"), protocol=protocol)
    assert resumed["key"] == whole["key"]
    assert scores(resumed) == scores(whole)


# -- bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hard", "views"])
def test_random_twin_is_made_once_and_labelled_alike(condensed, teacher, kind, monkeypatch):
    if kind == "views":
        relabel(condensed, teacher, "views", views=3, top_k=2, seed=9, progress=False)
    mine, twin = run(condensed, random_twin=True, teacher=teacher)
    assert twin["protocol"] == mine["protocol"]
    assert twin["bytes"] == mine["bytes"]
    made = load(Path(condensed) / "evaluations" / "random_twin_ipc2")
    assert made.manifest["method"] == "Random"
    if kind == "views":
        assert made.labels.views.logits.shape == (6, 3, 2)
        assert made.labels.views.recipe == load(condensed).labels.views.recipe
    monkeypatch.setattr("vdc.evaluate.evaluate.save", lambda *_, **__: pytest.fail("made again"))
    assert run(condensed, random_twin=True, teacher=teacher)[1]["key"] == twin["key"]


def test_random_twin_of_a_labelled_set_needs_the_teacher(tmp_path, teacher):
    path = make_set(tmp_path / "set")
    relabel(path, teacher, "soft", progress=False)
    with pytest.raises(ValueError, match="--teacher"):
        run(path, random_twin=True)


def test_full_data_is_trained_by_the_same_protocol(tmp_path):
    protocol = replace(SHORT, epochs=30, lr=0.05)
    (result,) = evaluate_full(
        Videos(), str(tmp_path), ["tiny"], [0, 1], protocol, trainer=CPU, progress=False
    )
    assert (result["method"], result["ipc"], result["reference_best"]) == ("full data", None, None)
    assert result["bytes"] == {
        "clips": 1234,
        "labels": 12,
        "total": 1246,
    }  # its students read the source files
    assert result["test_data"]["videos"]["sha256"] == "test"
    assert result["top1"]["mean"] > 60  # classes differ in colour


# -- what is refused -------------------------------------------------------------------------------------


def test_other_classes_and_shapes_are_refused(condensed):
    other = Videos()
    other.classes = ["a", "b", "d"]
    with pytest.raises(ValueError, match="not the same ones: c, d"):
        run(condensed, data=other)
    larger = Videos()
    larger.spec = replace(SPEC, size=32)
    with pytest.raises(ValueError, match=r"--data.spec.size 16"):
        run(condensed, data=larger)
    assert not list((Path(condensed) / "evaluations").iterdir())


def test_seconds_are_positive_and_finite(condensed):
    (result,) = run(condensed)
    assert math.isfinite(result["seconds"]["mean"])
    assert result["seconds"]["mean"] > 0


# -- learnt rates ----------------------------------------------------------------------------------------


def watching(rates):
    """Trainers that note the learning rate of every step."""

    class Watch(Callback):
        def on_train_batch_start(self, trainer, *_):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    return lambda **options: CPU(**options | {"callbacks": [*options.get("callbacks", []), Watch()]})


def test_students_train_at_the_learnt_step_size(tmp_path):
    """As the papers do: MTT's evaluation takes the learnt rate; the schedule goes from there."""
    folder, rates = make_set(tmp_path / "set", learnt={"step_size": 0.037}), []
    learnt = replace(named("mtt"), epochs=4, checks=1)
    (result,) = run(folder, protocol=learnt, trainer=watching(rates))
    assert rates == pytest.approx([0.037, 0.037, 0.0037, 0.0037])
    assert result["protocol"]["lr"] == 0.037
    (by_hand,) = run(folder, protocol=replace(learnt, lr=0.037), name="by-hand")
    assert scores(by_hand) == scores(result)
    (other,) = run(folder, protocol=replace(learnt, lr=0.5), name="other")
    assert other["key"] != result["key"] == by_hand["key"]
    twin = run(folder, protocol=learnt, random_twin=True, trainer=watching(rates))[1]
    assert twin["protocol"]["lr"] == 0.037


def test_there_must_be_a_learnt_step_size(condensed, tmp_path):
    learnt = Protocol(lr="learnt", epochs=1)
    with pytest.raises(ValueError, match=f"protocol.lr learnt: {condensed} has no learnt step size"):
        run(condensed, protocol=learnt)
    with pytest.raises(ValueError, match=r"protocol\.lr learnt: a run on real videos has no"):
        evaluate_full(Videos(), str(tmp_path / "full"), ["tiny"], [0], learnt, trainer=CPU, progress=False)


def test_students_from_weights_are_another_result(condensed, teacher):
    weights = Weights(teacher, freeze=True)
    plain, started = run(condensed), run(condensed, weights=weights)
    assert "weights" not in plain[0]
    assert (started[0]["weights"]["name"], started[0]["weights"]["frozen"]) == (
        "teacher/weights.safetensors",
        True,
    )
    assert started[0]["weights"]["last_layer"] == "kept"
    assert student_of(started[0]) == "tiny, weights teacher/weights.safetensors, frozen"
    assert started[0]["key"] != plain[0]["key"]
    assert scores(started[0]) != scores(plain[0])
    assert _key(started[0], load(condensed)) == started[0]["key"]  # as the leaderboard checks it
    assert "--weights WEIGHTS --freeze" in evaluate_command("x", started[0])
    assert started == run(condensed, weights=weights)  # read back
    copied = shutil.copytree(teacher, f"{teacher}-again")
    with pytest.raises(Killed):  # other colours make other results, not another place
        run(condensed, weights=replace(weights, normalisation=((0.5,) * 3, (0.5,) * 3)), trainer=killing(0))
    assert (
        run(condensed, weights=replace(weights, file=copied), trainer=killing(0))[0]["key"]
        == started[0]["key"]
    )
    with pytest.raises(ValueError, match="are of one network: give one, not tiny, minic3d"):
        run(condensed, weights=weights, students=["tiny", "minic3d"])
    with pytest.raises(ValueError, match=r"protocol.standardise normalises every batch"):
        run(condensed, weights=weights, protocol=replace(SHORT, standardise=True))


def test_probes_are_in_results_unless_a_seed_knows_them_not(condensed):
    (result,) = run(condensed, seeds=[0, 1])
    for probe in ("still", "reversed", "shuffled"):
        assert len(result[f"{probe}_top1"]["values"]) == 2
    path = Path(condensed) / "evaluations" / result["name"] / "seed1/result.json"
    held = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in held.items() if name[:8] != "reversed"}))
    (again,) = run(condensed, seeds=[0, 1])  # of a version that did not reverse clips
    assert "reversed_top1" not in again
    assert again["shuffled_top1"] == result["shuffled_top1"]
