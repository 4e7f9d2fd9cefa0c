"""What Python users import: a list that changes only with a line in CHANGELOG.md, in ten lines of a notebook."""

import inspect
from importlib import import_module
from pathlib import Path

import pytest

import vdc
from tests.methods.tiny import CLASSES

METHODS = {
    "CAD", "CDA", "Condenser", "Confidence", "DATM", "DC", "DM", "DREAM", "DSA", "EDC", "FRePo", "FeatureMatching",
    "GVBSM", "Herding", "IDC", "KCenter", "Learner", "MTT", "NCFM", "RDED", "Random", "SRe2L", "Selection", "StaticDC",
}  # fmt: skip
OTHERS = {
    "ClipSpec", "Coded", "CondensedClips", "MultiFormation", "Pixels", "Protocol", "RealData", "StaticDynamic",
    "ToyData", "Weights", "__version__", "condense", "evaluate", "evaluate_full", "load", "pretrain", "relabel",
    "report",
}  # fmt: skip


def test_the_list_is_pinned_and_all_of_it_is_there_and_documented():
    assert set(vdc.__all__) == METHODS | OTHERS
    assert set(vdc.__all__) <= set(dir(vdc))
    for name in set(vdc.__all__) - {"__version__"}:
        assert getattr(vdc, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vdc.nothing


@pytest.mark.parametrize("name", ["evaluate", "report"])
def test_what_is_both_package_and_function_is_both(name):
    package = getattr(vdc, name)
    assert package is import_module(f"vdc.{name}")
    assert callable(package)
    assert inspect.isfunction(getattr(import_module(f"vdc.{name}.{name}"), name))


@pytest.mark.slow  # mypy without a cache
def test_a_users_types_are_seen(tmp_path):
    api = pytest.importorskip("mypy.api")
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\nfrom vdc import DM, RealData, condense, evaluate, load, report\n"
        'made: Path = condense(DM, RealData("videos"), "out", ipc=1)\n'
        'evaluate(made, RealData("videos"), ["minic3d"], seeds=(0,))\nreport([str(made)])\n'
        'load(made, labels="sofd")\n'
    )
    told, _, code = api.run(["--strict", f"--cache-dir={tmp_path}", "--config-file=", str(script)])
    errors = [line for line in told.splitlines() if line.startswith(str(script))]
    assert code == 1
    assert len(errors) == 1, told
    assert "mine.py:6" in errors[0]
    assert "sofd" in errors[0]


def test_a_notebook_of_ten_lines(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    from vdc import DM, ClipSpec, Protocol, ToyData, condense, evaluate, load, report

    spec = ClipSpec(frames=4, size=16, stride=2)
    data = ToyData("toy", spec, train_videos=3, test_videos=1, classes=CLASSES, per_class=2, num_workers=0)
    quiet = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}
    made = condense(DM, data, "set", ipc=1, steps=2, net=network(), trainer=quiet)
    results = evaluate(
        made, data, ["tiny"], seeds=(0, 1), protocol=Protocol(epochs=2, checks=1), progress=False
    )
    rows = report([str(made)], html="page.html", show=False)
    assert len(load(made)) == len(CLASSES)
    assert load(made).manifest["config"]["python"]["options"]["steps"] == 2
    assert results[0]["seeds"] == [0, 1]
    assert [row.top1 for row in rows] == [results[0]["top1"]["mean"]]
    page = Path("page.html").read_text(encoding="utf-8")
    assert len(page) > 10_000
    assert "vdc fit" not in page  # no command made it


def network():
    from vdc.methods.base.options import Network

    return Network("tiny", {"norm": "in"})
