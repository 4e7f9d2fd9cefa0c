"""Labels by a teacher: against its answers, beside what is there, after a kill."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.evaluate.test_condensed_data import stored_clips
from tests.small import CLASSES
from vdc.condensed.format import load, replace_labels
from vdc.condensed.labels import Labels
from vdc.evaluate.relabel import relabel
from vdc.nets import Teacher, load_teacher

ROOT = Path(__file__).parents[2]


def test_relabel_stores_the_strongest_logits(condensed, teacher):
    relabel(condensed, teacher, "views", views=3, top_k=2, crop_scale=None, batch=4, progress=False)
    found, clips = load(condensed).labels, stored_clips(condensed)
    logits = load_teacher(teacher)(clips)
    values, index = logits.topk(2)
    assert found.views.logits.shape == (6, 3, 2)
    for view in range(3):  # nothing is drawn without a crop: all views are the stored clip
        torch.testing.assert_close(found.views.logits[:, view].float(), values, rtol=1e-3, atol=1e-3)
        assert found.views.index[:, view].long().equal(index)


def test_relabel_keeps_what_is_there_and_can_leave_the_set_alone(condensed, teacher, tmp_path):
    before = load(condensed).manifest
    (tmp_path / "set" / "evaluations" / "kept.json").write_text("1")
    copy = relabel(condensed, teacher, "soft", out=str(tmp_path / "copy"), progress=False)
    assert load(condensed).manifest == before
    torch.testing.assert_close(
        load(copy).labels.soft.float(), load_teacher(teacher)(stored_clips(condensed)), rtol=1e-3, atol=1e-3
    )
    relabel(str(copy), teacher, "views", views=1, progress=False)
    assert load(copy).labels.soft is not None
    relabel(condensed, teacher, "soft", progress=False)
    assert (tmp_path / "set" / "evaluations" / "kept.json").exists()
    assert not (copy / "evaluations" / "kept.json").exists()


def test_a_failed_relabel_leaves_the_set(condensed, teacher, monkeypatch):
    before = load(condensed).manifest
    monkeypatch.setattr("vdc.condensed.format.write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        relabel(condensed, teacher, "soft", progress=False)
    assert load(condensed).manifest == before


CHILD = """
import os, signal, sys
from functools import partial
from tests.network import Dropping, register
from vdc.evaluate import relabel
from vdc.system import resume as parts
register(Dropping)
relabel.BATCHES, kept = 1, parts.Parts.get
def get(self, name, make):
    if name == sys.argv[4]:
        os.kill(os.getpid(), signal.SIGKILL)
    return kept(self, name, make)
parts.Parts.get = get
relabel.relabel(sys.argv[1], sys.argv[2], sys.argv[3], views=3, top_k=2, seed=4, batch=4, progress=False)
"""


@pytest.mark.parametrize(("kind", "last", "left"), [("soft", "viewNone-row4", 1), ("views", "view1-row4", 3)])
def test_a_killed_relabel_goes_on(condensed, teacher, tmp_path, monkeypatch, kind, last, left):
    """Six rows in parts of four, per view: killed at the second part of the first or second view."""
    command = [sys.executable, "-c", CHILD, condensed, teacher, kind, last]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load(condensed).labels.kind == "hard"
    asked, forward = [], Teacher.forward
    monkeypatch.setattr(Teacher, "forward", lambda self, x: (asked.append(len(x)), forward(self, x))[1])
    monkeypatch.setattr("vdc.evaluate.relabel.BATCHES", 1)
    options = {"views": 3, "top_k": 2, "seed": 4, "batch": 4, "progress": False}
    copy = relabel(condensed, teacher, kind, **options, out=str(tmp_path / "copy"))
    whole = len(asked)
    relabel(condensed, teacher, kind, **options)
    assert len(asked) - whole == left
    assert (copy / "labels.safetensors").read_bytes() == Path(condensed, "labels.safetensors").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "set", "teacher"]  # nothing is left


def test_parts_of_another_labelling_are_not_taken(condensed, teacher, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("vdc.evaluate.relabel.replace_labels", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            relabel(condensed, teacher, "views", views=2, seed=1, progress=False)
    assert (tmp_path / ".set.labelling").is_dir()
    relabel(condensed, teacher, "views", views=2, seed=2, progress=False)
    other = relabel(condensed, teacher, "views", views=2, seed=2, out=str(tmp_path / "other"), progress=False)
    found, wanted = load(condensed).labels.views, load(other).labels.views
    assert found.logits.equal(wanted.logits)
    assert found.seed == 2


def test_labels_of_another_set_are_refused(condensed):
    with pytest.raises(ValueError, match="3 labels for the 6 clip rows"):
        replace_labels(condensed, Labels(torch.arange(3)))
    assert load(condensed).classes == CLASSES
