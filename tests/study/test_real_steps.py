"""A study whose steps are real commands, on tiny toy videos."""

import json
from pathlib import Path

import pytest
import yaml

from vdc.cli import main

DATA = {
    "data.train_videos": 2, "data.test_videos": 1, "data.cache": "none",
    "data.spec": {"frames": 4, "size": 44, "stride": 2},
}  # fmt: skip
STUDY = {
    "version": 1,
    "title": "Random clips",
    "source": "ours",
    "fixed": "all else",
    "claim": "two coded clips teach more",
    "axes": {"set": ["random", "random_coded"]},
    "steps": {
        "code": {"run": "pretrain", "config": ["code_toy"], "flags": DATA},
        "fit": {
            "run": "fit",
            "config": ["{set}_toy"],
            "flags": {**DATA, "model.ipc": 1, "trainer.logger": False},
        },
        "evaluate": {
            "run": "evaluate",
            "flags": {"condensed": "@fit", "protocol.epochs": 1, "protocol.checks": 1, "labels": "hard"},
        },
    },
    "rules": [
        {
            "when": {"set": "random_coded"},
            "steps": {"fit": {"flags": {"model.memory.code": "@code", "model.memory.clips_per_item": 2}}},
        }
    ],
    "table": {"rows": ["set"]},
}


@pytest.mark.usefixtures("here")
def test_two_cells_of_real_commands_make_a_table():
    Path("mine.yaml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    main(["study", "mine.yaml", "--seeds", "1", "--jobs", "1"])
    results = [
        json.loads(path.read_text()) for path in Path("runs/studies/steps").glob("evaluate-*/result.json")
    ]
    coded, raw = sorted(result["bytes"]["clips"] for result in results)
    assert raw == 10 * 3 * 4 * 44 * 44
    assert 10 * 2 * 432 < coded < raw / 20  # with the decoder
    (table,) = Path("runs/studies").rglob("table.csv")
    assert len(table.read_text().splitlines()) == 3
