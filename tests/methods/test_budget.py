import pytest
import torch

from tests.methods.tiny import make_teacher
from vdc.methods import budget
from vdc.nets import load_teacher

CPU = torch.device("cpu")


def test_activations_are_what_the_layers_give_out(tmp_path):
    teacher = load_teacher(make_teacher(tmp_path / "teacher"))
    first, second = (
        4 * 4 * 8 * 8,
        6 * 4 * 4 * 4,
    )  # outputs of the two convolutions, in floats, and of their norms
    outputs = 2 * first + 2 * second + 4
    assert budget.activation_bytes(teacher) == 4 * (outputs + 2 * first)


def test_what_fits_is_said_and_what_does_not_is_refused(monkeypatch):
    said = []
    monkeypatch.setattr(budget, "rank_zero_info", said.append)
    monkeypatch.setattr(budget, "available", lambda device: 3 * 2**30)
    budget.check({"pixels": 2**31, "views": 2**20}, CPU, "less")
    assert said == ["about 2.0 GiB of memory needed on cpu: pixels 2.0 GiB, views 1.0 MiB"]
    with pytest.raises(ValueError, match=r"about 4.0 GiB .*\(pixels 4.0 GiB\), but 3.0 GiB are free: less"):
        budget.check({"pixels": 2**32}, CPU, "less")
    monkeypatch.setattr(budget, "available", lambda device: None)  # nobody knows
    budget.check({"pixels": 2**50}, CPU, "less")


def test_this_machine_has_memory():
    free = budget.available(CPU)
    assert free is None or 2**20 < free < 2**50
