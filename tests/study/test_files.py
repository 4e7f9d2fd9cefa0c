"""Every shipped study: all its cells in all its variants are plain commands, which parse."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from vdc.cli import main
from vdc.cli.study import parse
from vdc.study.plan import plan
from vdc.study.published import entries, of_cell
from vdc.study.study import load

ROOT = Path(__file__).parents[2] / "studies"
FILES = sorted(ROOT.glob("*.yaml"))
PAPERS = {"videodc": 10, "s2d": 8, "mdc": 6, "edc": 3, "ours": 8}
ALIKE = {  # a run per size and the prefixes of a plain run share the largest; what is also made with more seeds
    ("A", "C"),
    ("dm", "dm_seeds"),
    ("dm_2_2_seeds", "s2d_dm"),
    ("dm_1_1", "dm_1_1_seeds"),
}
parsed = set()


@cache
def plans(path):
    study = load(path)
    where = {"data": {"data.root": "VIDEOS"}}  # as everybody must say who has not the embedded set
    studies = (study, *(study.variant(name) for name in study.variants))
    return [plan(one, extra=where) for one in studies]


def test_studies_are_there():
    counts = {paper: sum(path.stem.startswith(paper) for path in FILES) for paper in PAPERS}
    assert all(counts[paper] >= least for paper, least in PAPERS.items()), counts


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_study_plans_all_cells_and_says_how_it_is_called(path):
    for made in plans(path):
        assert len(made.cells) > 1
        assert len({cell.name for cell in made.cells}) == len(made.cells)
        for cell in made.cells:
            assert all(made.steps[name].command == "evaluate" for name in cell.runs)
        used = made.needed([name for cell in made.cells for name in cell.runs])
        told = {one.removeprefix("@") for one in made.report.values() if isinstance(one, str)}
        assert made.steps.keys() - used <= told | made.needed([one for one in told if one in made.steps])
    assert f"vdc study {path.stem}" in path.read_text().split("version:")[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_different_cells_are_different_steps(path):
    for made in plans(path):
        cells = {}
        for cell in made.cells:
            cells.setdefault(cell.runs, []).append(cell.values)
        for alike in cells.values():
            differing = [{str(values[axis]) for values in alike} for axis in alike[0]]
            assert all(len(values) == 1 or tuple(sorted(values)) in ALIKE for values in differing), alike


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_numbers_of_a_paper_stand_beside_its_cells(path):
    made = plans(path)[0]
    published = made.study.published
    if published is None:
        return
    every = entries(published)
    found = [of_cell(every, published, cell.values, cell.score)[0] for cell in made.cells]
    assert (
        sum(one is not None for one in found) >= len(made.cells) - 1
    )  # one cell of S2D's Table 5 is not printed


@pytest.mark.parametrize("path", sorted((ROOT / "published").glob("*.yaml")), ids=lambda path: path.stem)
def test_published_numbers_say_where_they_are_from(path):
    held = yaml.safe_load(path.read_text())["results"]
    assert len(held) > 50
    assert all({"table", "dataset", "method", "metric", "value"} <= entry.keys() for entry in held)
    assert all(0 < entry["value"] < 100 for entry in held)
    keys = [
        tuple(sorted((k, str(v)) for k, v in entry.items() if k not in ("value", "std"))) for entry in held
    ]
    assert len(set(keys)) == len(keys)


def parse_all(path):
    for made in plans(path):
        for name, step in made.steps.items():
            kind = (step.command, step.config, tuple(step.flags))  # values of the same flags differ
            if kind not in parsed:
                parsed.add(kind)
                assert parse(step, made) is not None, name


def test_commands_of_the_demo_parse():
    parse_all(ROOT / "demo.yaml")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_of_every_study_parse(path):
    parse_all(path)


def test_a_list_is_a_script(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(
        [
            "study",
            "demo",
            "--list",
            "--cells",
            "herding",
            "--sets",
            "1",
            "--data.root",
            "here",
            "--out",
            "there",
        ]
    )
    lines = capsys.readouterr().out.strip().splitlines()
    assert [line.split()[:2] for line in lines[::2]] == [["#", "missing:"]] * 3 + [["vdc", "report"]]
    assert [line.split()[1] for line in lines[1::2]] == ["pretrain", "fit", "evaluate"]
    assert all("--data.root here" in line for line in lines[1::2])
    assert not Path("there").exists()


def refused(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["study", *args])
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["dmo"], "'dmo'"),
        (["demo", "--cells", "herdin"], "no cell 'herdin'; did you mean 'herding'"),
        (["videodc_table6", "--variant", "shrt"], "no variant 'shrt'; did you mean 'short'"),
        (["demo", "--list", "--fit.model.icp", "3"], "did you mean 'ipc'"),
        (["demo", "--list", "--fit.model.ipc"], "fit.model.ipc needs a value"),
        (["demo", "--list", "--seeds", "0"], "seeds.students must be at least 1"),
        (["demo", "--jobs", "x"], "jobs"),
    ],
)
def test_wrong_input_is_one_line(capsys, tmp_path, monkeypatch, args, told):
    monkeypatch.chdir(tmp_path)
    assert told in refused(capsys, *args)
