import pytest


@pytest.fixture(autouse=True)
def _known(dropping_tiny):
    """`build` knows the network of the tests."""
