"""What a fit costs: counted over its runs, written beside the set and no part of its name."""

import json

import pytest

from tests.small import make_set
from vdc.condensed.format import load, verify
from vdc.condensed.manifest import MANIFEST
from vdc.methods.base import cost
from vdc.methods.base.cost import Cost


class Clock:
    now = 50.0

    def monotonic(self):
        return self.now


class Trainer:
    global_step = 7


class Module:
    cost = None


def test_seconds_are_those_of_all_runs_and_memory_the_most(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(cost, "time", clock)
    first = Cost()
    first.on_fit_start(Trainer(), Module())
    clock.now += 30
    held = first.state_dict()
    assert held["seconds"] == 30
    assert 10**7 < held["peak_bytes"] < 10**12
    second = Cost()
    second.load_state_dict(held | {"peak_bytes": 10**13})
    clock.now += 1000  # while nothing ran
    second.on_fit_start(Trainer(), Module())
    clock.now += 12
    module = Module()
    second.on_fit_end(Trainer(), module)
    assert module.cost == {"seconds": 42, "peak_bytes": 10**13, "steps": 7}


def test_a_set_is_the_same_whatever_it_cost(tmp_path):
    make_set(tmp_path / "set")
    manifest = json.loads((tmp_path / "set" / MANIFEST).read_text())
    manifest["cost"] = {"seconds": 3.5, "peak_bytes": 10**9, "steps": 4}
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(manifest))
    assert verify(tmp_path / "set")["cost"]["seconds"] == 3.5
    assert load(tmp_path / "set").manifest["digest"] == manifest["digest"]
    manifest["seed"] += 1
    (tmp_path / "set" / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=r"manifest|changed|digest"):
        verify(tmp_path / "set")
