import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from tests.methods.tiny import SPEC, K, fit, make_teacher, toy
from vdc.memory import Pixels
from vdc.methods import DC, DM, IDC, NCFM, budget
from vdc.nets import build, load_teacher

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


def test_the_load_of_clips_is_what_graphs_keep():
    net = build("tiny", K, SPEC, norm="in")
    one = budget.load_of(net, 4, net.embed)
    conv1, conv2, clip = 4 * 4 * 8 * 8, 6 * 4 * 4 * 4, 3 * 4 * 16 * 16  # numbers
    assert one.width == conv2
    assert one.largest == 4 * conv1
    least = clip + 2 * conv1 + 2 * conv2  # inputs of convolutions, norms and the last ReLU
    assert 4 * least <= one.kept <= 4 * (least + conv1 + 50)
    assert one.fixed < 100


def allocated(run):
    """Most bytes that the host's allocator held while something ran, above those at its start."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    held, most = 0, 0
    changes = [e for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()
        most = max(most, held)
    return most


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (DM, {"ipc": 4, "chunk": 8}),
        (NCFM, {"ipc": 4, "chunk": 8, "frequencies": 64, "memory": Pixels, "augment": None}),
        (DC, {"ipc": 4, "outer": 2, "inner": 1, "init": "real"}),
        (IDC, {"ipc": 1, "outer": 2, "inner": 1, "net_batch": 12, "augment": None}),
    ],
)
def test_matching_takes_what_it_said(toy_root, monkeypatch, cls, options):
    """Against the allocator: the estimate holds to 5 %, and is at most half as much again."""
    demanded = {}
    monkeypatch.setattr("vdc.methods.blocks.check", lambda parts, *_: demanded.update(parts))
    model = cls(K, SPEC, net="tiny", net_options={"norm": "in"}, iterations=2, **options)
    data = toy(toy_root, per_class=5)
    most = allocated(lambda: fit(model, data))
    assert 0.95 * most <= sum(demanded.values()) <= 1.5 * most, demanded
