"""Fixtures of several rooms. Imported late, so that the tests of floors and layout need no torch."""

from functools import partial

import pytest


@pytest.fixture
def tiny(monkeypatch):
    """`build` knows the network of the tests."""
    from tests.network import Tiny
    from vdc.nets import zoo

    monkeypatch.setitem(zoo.OWN, "tiny", partial(Tiny))


@pytest.fixture
def dropping_tiny(monkeypatch):
    """The same with dropout, for whatever trains on a seed."""
    from tests.network import Dropping
    from vdc.nets import zoo

    monkeypatch.setitem(zoo.OWN, "tiny", partial(Dropping))


@pytest.fixture
def videos():
    """In memory, of three classes."""
    from tests.small import Videos

    return Videos()


@pytest.fixture
def condensed(tmp_path):
    """A set of two items per class."""
    from tests.small import make_set

    return make_set(tmp_path / "set")


@pytest.fixture
def teacher(tmp_path):
    """Of the classes of `videos`, with logits far apart."""
    from tests.small import make_teacher

    return make_teacher(tmp_path / "teacher")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder to run commands in, with three training videos of each toy class and one test video."""
    from vdc.data.toy import make_toy

    folder = tmp_path_factory.mktemp("world")
    make_toy(folder / "runs/toy", 3, 1)
    return folder


@pytest.fixture
def here(world, monkeypatch):
    """Commands run in that folder."""
    monkeypatch.chdir(world)
