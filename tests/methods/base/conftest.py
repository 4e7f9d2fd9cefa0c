from functools import partial

import pytest

from tests.methods.tiny import make_experts, make_teacher
from tests.network import Tiny
from vdc.methods.base import multisize
from vdc.methods.base.prefixes import Prefixes
from vdc.nets import zoo


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    """Folders of experts and of two teachers."""
    folder = tmp_path_factory.mktemp("judges")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.OWN, "tiny", partial(Tiny))
        teachers = [make_teacher(folder / str(seed), seed=seed) for seed in range(2)]
        return make_experts(folder / "experts"), teachers


@pytest.fixture
def held_at(monkeypatch):
    """Make the prefix of `size` be matched from the start, and the first `frozen` items not change."""

    def hold(size, frozen):
        class Held(Prefixes):
            def due(self, step):
                return self.made == 0

            def choose(self):
                self.size[:] = size
                self.retired[:, frozen] = True
                self.made = 99

        monkeypatch.setattr(multisize, "Prefixes", Held)

    return hold
