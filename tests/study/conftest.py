"""A study of made-up steps, whose commands are a script of ten lines instead of `vdc`."""

import sys
from pathlib import Path

import pytest
import yaml

FAKE = Path(__file__).with_name("fake.py")
HELD = {
    "version": 1,
    "title": "A table",
    "source": "Doe 2024, Table 1",
    "fixed": "everything else",
    "claim": "b is ahead",
    "axes": {"method": ["a", "b"], "ipc": [1, 5]},
    "steps": {
        "teacher": {"run": "pretrain", "flags": {"net": "minic3d"}},
        "fit": {"run": "fit", "flags": {"model.ipc": "{ipc}", "model.name": "{method}"}},
        "evaluate": {"run": "evaluate", "flags": {"condensed": "@fit", "labels": "hard"}},
    },
    "rules": [{"when": {"method": "b"}, "steps": {"fit": {"flags": {"model.teacher": "@teacher"}}}}],
    "table": {"rows": ["method"], "columns": ["ipc"]},
}


@pytest.fixture
def held():
    """Keys of a study, to be changed and loaded."""
    return yaml.safe_load(yaml.safe_dump(HELD, sort_keys=False))


@pytest.fixture
def write(tmp_path):
    """Writes keys into a study file."""

    def write(held, name="mine.yaml"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(held, sort_keys=False))
        return path

    return write


@pytest.fixture
def fake(monkeypatch):
    """Steps run the script."""
    monkeypatch.setattr("vdc.study.steps.PROGRAM", (sys.executable, str(FAKE)))
