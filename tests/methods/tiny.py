"""A network of a few hundred weights, toy videos of 16 px, short runs; child processes import it too."""

from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from vdc.data.toy import ToyData
from vdc.nets import VideoNet, build, save_teacher, zoo
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=16, stride=2)
CLASSES = ["down", "grow", "spin", "up"]
K = len(CLASSES)


class Tiny(VideoNet):
    """Two convolutions and two norms."""

    def __init__(self, num_classes, spec, norm="bn"):
        super().__init__("tiny", num_classes, spec, norm=norm)
        make = nn.BatchNorm3d if norm == "bn" else lambda c: nn.GroupNorm(c, c)
        self.conv1, self.norm1 = nn.Conv3d(3, 4, 3, (1, 2, 2), 1), make(4)
        self.conv2, self.norm2 = nn.Conv3d(4, 6, 3, (1, 2, 2), 1), make(6)
        self.fc = nn.Linear(6, num_classes)

    def maps(self, x):
        return self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x))))).relu()

    def pool(self, maps):
        return maps.mean((2, 3, 4))

    def forward(self, x):
        return self.fc(self.features(x))


def register():
    """Make `build` know it, in a child process."""
    zoo.OWN["tiny"] = partial(Tiny)


@pytest.fixture(autouse=True)
def _registered(monkeypatch):
    monkeypatch.setitem(zoo.OWN, "tiny", partial(Tiny))


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    return str(toy(tmp_path_factory.mktemp("toy") / "set").root)


def make_teacher(path, seed=5, spec=SPEC, classes=CLASSES, **options):
    """A teacher folder with random weights and random running statistics."""
    net, rng = build("tiny", len(classes), spec, **options), torch.Generator().manual_seed(seed)
    net.reset_parameters("default", rng)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.3, generator=rng)
            layer.running_var.uniform_(0.5, 1.5, generator=rng)
    save_teacher(path, net, {"classes": list(classes)})
    return str(path)


def toy(root, spec=SPEC, **options):
    """Five training videos of each of four toy classes."""
    given = {"train_videos": 5, "test_videos": 1, "classes": CLASSES, "batch_size": 4, "load_size": (20, 20)}
    data = ToyData(str(Path(root)), spec, **given | options)
    data.prepare_data()
    return data


def fit(model, data, ckpt_path=None, **options):
    """Run a condenser on one CPU process."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    one = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    trainer = Trainer(**quiet | one | options, use_distributed_sampler=False)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return model
