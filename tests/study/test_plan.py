"""Cells and their steps: which there are, what they share, and what names them."""

from pathlib import Path

import pytest

from vdc.study.commands import digest, flat, plain, read_config
from vdc.study.plan import cells, plan, with_seeds
from vdc.study.study import load


@pytest.fixture
def make(write, held):
    """The plan of the study with other keys."""

    def make(extra=None, glob="*", **changes):
        return plan(load(write(held | changes)), glob, extra)

    return make


def commands(made):
    return [step.command for step in made.steps.values()]


def words(made, command):
    return [" ".join(step.args(Path("out"))) for step in made.steps.values() if step.command == command]


def test_the_grid_without_what_is_excluded_then_further_cells(write, held):
    held |= {
        "exclude": [{"method": "a", "ipc": [5]}],
        "include": [{"ipc": 9, "method": "c"}, {"method": "full"}],
    }
    assert cells(load(write(held))) == [
        {"method": "a", "ipc": 1},
        {"method": "b", "ipc": 1},
        {"method": "b", "ipc": 5},
        {"method": "c", "ipc": 9},
        {"method": "full"},
    ]


def test_steps_come_after_what_they_need_and_are_made_once(make):
    made = make()
    assert [cell.name for cell in made.cells] == ["a/1", "a/5", "b/1", "b/5"]
    assert commands(made) == ["fit", "evaluate", "fit", "evaluate", "pretrain", *["fit", "evaluate"] * 2]
    seen = set()
    for name, step in made.steps.items():
        assert set(step.needs) <= seen
        seen.add(name)
    assert len({name for cell in made.cells for name in made.needed(cell.runs)}) == len(made.steps) == 9


def test_commands_can_be_run_by_hand(make):
    made = make(seeds={"students": 2})
    teacher, fit = (next(n for n in made.steps if n.startswith(k)) for k in ("pretrain", "fit"))
    assert words(made, "pretrain") == [f"pretrain --net minic3d --out out/steps/{teacher}"]
    own = f"--trainer.default_root_dir out/steps/{fit} --resume"
    assert words(made, "fit")[0] == f"fit --model.ipc 1 --model.name a {own}"
    assert f"--model.teacher out/steps/{teacher} " in words(made, "fit")[2]
    evaluate = words(made, "evaluate")[0]
    assert (
        f"--condensed out/steps/{fit}/condensed --labels hard --seeds 2 --name result --out out/" in evaluate
    )


def test_only_some_cells(make):
    assert [cell.name for cell in make(glob="*/5").cells] == ["a/5", "b/5"]
    assert "pretrain" not in commands(make(glob="a/*"))
    with pytest.raises(ValueError, match="no cell 'b/4'; did you mean 'b/"):
        make(glob="b/4")


def test_seeds_of_condensation_make_further_sets(write, held):
    made = plan(with_seeds(load(write(held)), students=2, condensation=3))
    assert [len(cell.runs) for cell in made.cells] == [3] * 4
    assert commands(made).count("fit") == 12
    assert commands(made).count("pretrain") == 1  # the teacher is the same
    assert sum("--seed_everything 2" in one for one in words(made, "fit")) == 4


def test_more_students_are_the_same_step(write, held):
    study = load(write(held))
    few, many = (plan(with_seeds(study, n, None)) for n in (2, 5))
    assert few.steps.keys() == many.steps.keys()


def test_flags_given_with_the_command_win_and_name_other_steps(make):
    extra = {"data": {"data": "ToyData", "data.root": "here"}, "fit": {"model.ipc": "7"}}
    made, as_is = make(extra), make()
    assert all("--data ToyData --data.root here" in one for one in words(made, "pretrain"))
    assert all("--model.ipc 7 " in one for one in words(made, "fit"))
    assert not made.steps.keys() & as_is.steps.keys()


def test_data_of_a_study_goes_to_all_that_read_videos(make):
    made = make(data={"class_path": "ToyData", "spec.stride": 4})
    said = "--data ToyData --data.spec.stride 4"
    assert all(said in one for kind in ("pretrain", "fit", "evaluate") for one in words(made, kind))


def test_placeholders_keep_types_and_are_checked(make, held):
    held["steps"]["fit"]["flags"] = {"model.list": ["{ipc}", "x{ipc}"], "model.seed": "{seed}"}
    made = make(rules=[])
    fit = next(step for step in made.steps.values() if step.command == "fit")
    assert fit.flags == {"model.list": [1, "x1"], "model.seed": 0}
    held["steps"]["fit"]["flags"] = {"model.list": "{icp}-x"}
    with pytest.raises(ValueError, match=r"cell a/1: '\{icp\}-x': `\{axis\}` is one of method, ipc, seed"):
        make(rules=[])


def test_a_null_drops_a_flag(make):
    made = make(rules=[{"when": {"ipc": 5}, "steps": {"fit": {"flags": {"model.name": None}}}}])
    assert ["--model.name" in one for one in words(made, "fit")] == [True, False, True]  # a and b share ipc 5


def test_unknown_steps_and_configs_and_circles(make, held):
    held["steps"]["evaluate"]["flags"]["condensed"] = "@fitt"
    with pytest.raises(ValueError, match="cell a/1: no step 'fitt'; did you mean 'fit'"):
        make()
    held["steps"]["evaluate"]["flags"]["condensed"] = "@fit"
    held["steps"]["fit"]["flags"]["model.init"] = "@evaluate"
    with pytest.raises(ValueError, match="circle: evaluate -> fit -> evaluate"):
        make()
    held["steps"]["fit"] = {"run": "fit", "config": ["rded_tyo"]}
    with pytest.raises(ValueError, match=r"no config 'rded_tyo'.*did you mean 'rded_toy.yaml'"):
        make()
    held["steps"]["fit"] = {"flags": {"a": 1}}
    with pytest.raises(ValueError, match="step fit says nowhere which command"):
        make()


def test_a_rule_changes_the_score(make):
    made = make(rules=[{"when": {"ipc": 5}, "score": "top5"}])
    assert [cell.score for cell in made.cells] == ["top1", "top5"] * 2


def test_joined_sets_and_several_words(make, held):
    held["steps"] |= {
        "two": {"run": "fit", "flags": {"seed_everything": 7}},
        "joined": {"run": "join", "flags": {"sets": ["@fit", "@two"]}},
    }
    held["steps"]["evaluate"]["flags"] |= {
        "condensed": "@joined",
        "student": ["i3d", "minic3d"],
        "full": True,
    }
    made = make(rules=[])
    joined = words(made, "join")[0].split(" --out")[0]
    assert [part.split("-")[0] for part in joined.split("/steps/")[1:]] == ["fit", "fit"]
    assert "--student i3d minic3d --full" in words(made, "evaluate")[0]


def test_students_may_start_from_the_weights_of_a_teacher(make, held):
    held["steps"]["evaluate"]["flags"] |= {"weights": "@teacher", "freeze": True}
    made = make(rules=[])
    teacher = next(name for name, step in made.steps.items() if step.command == "pretrain")
    assert all(f"--weights out/steps/{teacher} --freeze " in one for one in words(made, "evaluate"))
    assert all(teacher in step.needs for step in made.steps.values() if step.command == "evaluate")


def test_a_report_is_of_the_first_cells_data_and_networks(make):
    report = {"config": ["data_k400"], "flags": {"teacher": "@teacher"}}
    made = make({"data": {"data.root": "here"}}, report=report, glob="a/1")
    assert made.report["data"]["class_path"] == "RealData"
    assert made.report["data.root"] == "here"
    assert made.steps[made.report["teacher"].removeprefix("@")].command == "pretrain"


# -- what names a step --------------------------------------------------------------------------------------


def test_the_digest_is_of_what_is_said_not_of_how():
    config = {
        "model": {"class_path": "DM", "init_args": {"ipc": 1, "optimizer": {"init_args": {"lr": 1.0e-4}}}}
    }
    other = {"model": {"class_path": "DM", "init_args": {"ipc": 9}}}
    same = [
        flat([config]),
        flat([other, {"model.ipc": 1, "model.optimizer.lr": "1e-4"}]),
        flat(
            [
                {
                    "model": "DM",
                    "model.ipc": "1",
                    "model.init_args.optimizer.init_args.lr": 0.0001,
                    "progress": False,
                }
            ]
        ),
    ]
    assert len({digest("fit", one) for one in same}) == 1
    differing = [
        flat([config, change]) for change in ({"model.ipc": 2}, {"model": "NCFM"}, {"data.root": "x"})
    ]
    assert len({digest("fit", one) for one in (*same, *differing)}) == 4
    assert digest("pretrain", same[0]) != digest("fit", same[0])


def test_the_root_is_known_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert digest("fit", {"data.root": "a"}) == digest("fit", {"data.root": str(tmp_path / "a")})


def test_defaults_of_real_videos_may_be_said():
    real = {"data": "RealData", "data.root": "x"}
    said = real | {"data.classes": None, "data.format": "auto", "data.spec.frames": 8}
    assert digest("fit", real) == digest("fit", said) != digest("fit", said | {"data.spec.frames": 4})
    toy = {"data": "ToyData", "data.root": "x"}  # whose defaults are others
    assert digest("fit", toy) != digest("fit", toy | {"data.spec.frames": 8})


def test_plain_values():
    assert plain([True, None, 1, "1.0", "x", {"a": False}]) == [
        "true",
        "null",
        "1.0",
        "1.0",
        "x",
        {"a": "false"},
    ]


def test_what_a_config_builds_on_counts(write, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_fit.yaml").write_text("overlays: [mine_data]\nmodel: {init_args: {rate: 1}}")
    held["steps"]["fit"]["config"] = ["mine_fit"]
    rates = []
    for text in ("model: {rate: 3, more: 2}", "model: {rate: 4, more: 2}", "model: {more: 5}"):
        read_config.cache_clear()
        (tmp_path / "mine_data.yaml").write_text(text)
        made = plan(load(write(held)), "a/1")
        fit = next(step for step in made.steps.values() if step.command == "fit")
        rates.append((fit.settings["model.rate"], fit.settings["model.more"], fit.name))
    assert [rate[:2] for rate in rates] == [(1, 2), (1, 2), (1, 5)]
    assert rates[0][2] == rates[1][2] != rates[2][2]


def test_a_changed_config_is_another_step(write, held, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    held["steps"]["fit"]["config"] = ["mine_fit"]
    names = []
    for text in (
        "model: {init_args: {rate: 1}}  # one",
        "model: {init_args: {rate: 1.0}}",
        "model: {rate: 2}",
    ):
        read_config.cache_clear()
        (tmp_path / "mine_fit.yaml").write_text(text)
        names.append(tuple(plan(load(write(held))).steps))
    assert names[0] == names[1] != names[2]
