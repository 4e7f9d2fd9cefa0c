"""`condense` does what `vdc fit` does."""

import pytest
import torch

from tests.methods.tiny import fit, toy
from vdc.condensed.format import load
from vdc.methods import DATM, DC, Random
from vdc.methods.condense import condense

QUIET = {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False}


@pytest.fixture
def data(toy_root):
    return toy(toy_root)


def test_a_selection_stores_what_a_trainer_by_hand_stores(data, tmp_path):
    made = condense(Random, data, tmp_path / "set", ipc=2, seed=3, trainer=QUIET)
    hand = Random(data.num_classes, data.spec, ipc=2, seed=3, out=str(tmp_path / "hand"))
    fit(hand, data, max_epochs=1)
    one, other = load(made), load(tmp_path / "hand")
    assert torch.equal(one.tensors["videos"], other.tensors["videos"])
    assert one.manifest["method"] == "Random"


def test_what_cannot_be_is_said_before_it_begins(data, tmp_path):
    with pytest.raises(ValueError, match="steps 3 of Random, which chooses in one pass"):
        condense(Random, data, tmp_path / "set", steps=3)
    with pytest.raises(ValueError, match="DATM has no number of steps of its own: give steps"):
        condense(DATM, data, tmp_path / "set", experts="none")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    with pytest.raises(ValueError, match="no condensed set"):
        condense(DC, data, tmp_path / "full", steps=1)
