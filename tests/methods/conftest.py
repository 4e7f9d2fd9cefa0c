from functools import partial

import pytest

from tests.methods.tiny import CLASSES, SPEC, K, make_experts, toy
from tests.network import Tiny
from vdc.nets import build, zoo
from vdc.nets.experts import Recorder, describe
from vdc.ops.rng import generator
from vdc.ops.unroll import Layout
from vdc.system.files import write_json


@pytest.fixture(autouse=True)
def _known(tiny):
    """`build` knows the network of the tests."""


@pytest.fixture(scope="session")
def toy_root(tmp_path_factory):
    """Where the toy videos lie."""
    return str(toy(tmp_path_factory.mktemp("toy") / "set").root)


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A folder of three experts of four epochs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.OWN, "tiny", partial(Tiny))
        return make_experts(tmp_path_factory.mktemp("experts"))


@pytest.fixture
def two_experts(tmp_path):
    """Two experts of three snapshots each."""
    net, thetas = build("tiny", K, SPEC, norm="in"), {}
    (tmp_path / "experts").mkdir()
    for number in range(2):
        recorder = Recorder(tmp_path / "making", net, 2, "fp32")
        for epoch in range(3):
            net.reset_parameters("default", generator(number, epoch))
            recorder.write(epoch, net)
            thetas[number, epoch] = Layout.of(net).flatten(dict(net.named_parameters())).detach()
        recorder.finish(tmp_path / "experts", number, {})
    write_json(tmp_path / "experts" / "experts.json", describe(net, CLASSES, 2, "fp32", {}))
    return str(tmp_path / "experts"), thetas
