"""Multi-size from the command line: condense, join, evaluate several sizes, report their curves, export one."""

import csv
import json
from pathlib import Path

import pytest

from vdc.cli import main
from vdc.condensed.format import load

SMALL = [
    "--data.root",
    "runs/toy",
    "--data.spec.frames",
    "4",
    "--data.spec.size",
    "44",
    "--data.cache",
    "none",
]
pytestmark = pytest.mark.usefixtures("here")
QUIET = ["--progress", "false", "--protocol.epochs", "1", "--seeds", "1"]


def fit(name, out, *more):
    main([
        "fit", "--config", f"{name}_grid.yaml", *SMALL, "--data.per_class", "2", "--model.iterations", "3",
        "--trainer.enable_progress_bar", "false", "--trainer.default_root_dir", out, *more,
    ])  # fmt: skip
    return f"{out}/condensed"


def test_one_run_every_size(capsys):
    plan = ["--multisize.interval", "2", "--multisize.average", "1"]
    multi = fit("multisize_dm", "multi", "--model.ipc", "2", *plan, "--multisize.classwise", "true")
    plain = fit("dm", "plain", "--model.ipc", "2")
    ones = [fit("dm", f"one{seed}", "--seed_everything", str(seed)) for seed in (0, 1)]
    main(["join", *ones, "--out", "joined"])
    assert load("joined").ipc == 2
    assert load("joined").manifest["learnt"] == {"joined": 2, "seeds": [0, 1]}
    assert load(multi).manifest["learnt"]["multisize"]["classwise"] is True
    assert load(multi).manifest["config"]["multisize"]["interval"] == 2
    for folder in (multi, plain, "joined"):
        main(["evaluate", "--condensed", folder, "--ipc", "1", "2", *QUIET])
    main(["evaluate", "--condensed", ones[0], "--name", "one", *QUIET])
    capsys.readouterr()
    main(["report", multi, plain, "joined", *ones, "--out", "table"])
    printed = capsys.readouterr().out
    for curve in ("A: a run per size", "B: runs of one item", "C: prefixes of one run", "multi-size"):
        assert curve in printed
    lines = list(csv.DictReader(Path("table/sizes.csv").read_text().splitlines()))
    assert [(line["kind"], line["size"]) for line in lines] == [
        (kind, size) for kind in ("separate", "joined", "prefix", "multi-size") for size in ("1", "2")
    ]
    assert Path("table/sizes.png").is_file()
    rows = {row["method"] for row in csv.DictReader(Path("table/report.csv").read_text().splitlines())}
    assert rows == {
        "DM", "DM, first of 2", "DM, multi-size", "DM, multi-size, first of 2", "DM, joined", "DM, joined, first of 2"
    }  # fmt: skip
    main(["export", multi, "--out", "videos", "--ipc", "1"])
    assert len(Path("videos/list.txt").read_text().splitlines()) == 10


def test_wrong_sizes_and_keys_are_one_line(capsys):
    config = ["fit", "--config", "multisize_dm_grid.yaml", *SMALL]
    refused = [
        ([*config, "--multisize.intervall", "5"], "interval"),
        ([*config, "--multisize.average", "20"], "multisize.average 20"),
    ]
    for args, words in refused:
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 2
        assert words in capsys.readouterr().err.strip().splitlines()[-1]


def test_results_say_what_they_are_of(world, monkeypatch):
    held = [json.loads(path.read_text()) for path in Path("multi/condensed/evaluations").glob("*.json")]
    assert sorted((one["ipc"], one["stored_ipc"], one["sizes"]) for one in held) == [
        (1, 2, "multi-size"), (2, 2, "multi-size")
    ]  # fmt: skip
