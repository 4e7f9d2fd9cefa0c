import pytest
import torch

from vdc.condensed.format import save
from vdc.condensed.labels import Labels, Views
from vdc.condensed.memory import Pixels
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=12)
K, IPC = 3, 2


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stored_frames():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, (K * IPC, 4, 12, 12, 3), generator=generator, dtype=torch.uint8)


def make_labels(kind="views"):
    hard = torch.arange(K).repeat_interleave(IPC)
    soft = None if kind == "hard" else draw(K * IPC, K).half()
    views = (
        Views.top(draw(K * IPC, 5, K), k=2, seed=9, recipe={"crop_scale": [0.08, 1.0], "flip": 0.5})
        if kind == "views"
        else None
    )
    return Labels(hard, soft, views)


def make_set(out, memory=None, labels=None, classes=("a", "b", "c"), **changed):
    memory = memory or Pixels.restore({"videos": stored_frames()}, K, IPC, SPEC)
    described = {
        "source": {"decoder": "decord 0.6", "lists": "abc"},
        "method": "Random",
        "config": {"ipc": 2, "path": out},
        "seed": 4,
    }
    return save(out, memory, labels or make_labels(), classes=list(classes), **described | changed)


@pytest.fixture
def folder(tmp_path):
    return make_set(tmp_path / "set")
