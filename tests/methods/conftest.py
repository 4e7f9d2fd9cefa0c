"""Fixtures of `tiny.py` for every test of methods."""

from tests.methods.tiny import _registered, toy_root

__all__ = ["_registered", "toy_root"]
