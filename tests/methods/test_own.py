"""README's method of one's own, from a file beside the videos, as it stands and in every size."""

import re
import sys
from pathlib import Path

import pytest

from tests.methods.tiny import CLASSES
from vdc.cli import main
from vdc.condensed.format import load

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLE = re.search(r"```python\n(from vdc\.methods import Learner.*?)```", README, re.DOTALL)[1]
SMALL = [
    "--data.spec.frames",
    "4",
    "--data.spec.size",
    "16",
    "--data.per_class",
    "2",
    "--trainer.max_steps",
    "5",
]
QUIET = ["--trainer.enable_progress_bar", "false", "--data.cache", "none"]


@pytest.mark.parametrize("sizes", [[], ["--multisize.interval", "2", "--multisize.average", "1"]])
def test_it_runs_from_a_file_of_ones_own(sizes, toy_root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])  # as the installed command starts
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    Path("mine.py").write_text(EXAMPLE)
    toy = ["--data", "ToyData", "--data.root", toy_root, "--data.classes", str(CLASSES)]
    videos = ["--data.train_videos", "5", "--data.test_videos", "1"]
    options = ["--model.ipc", "3", "--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "1000"]
    main(["fit", *toy, *videos, *SMALL, *QUIET, "--model", "mine.MeanColour", *options, *sizes])
    (run,) = Path("runs").glob("meancolour-*")
    stored = load(run / "condensed")
    assert stored.manifest["method"] == "MeanColour"
    assert ("multisize" in stored.manifest["learnt"]) is bool(sizes)
    assert stored.ipc == 3
