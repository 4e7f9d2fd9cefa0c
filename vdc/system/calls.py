"""Packages that are called like the function they are named after: `vdc.evaluate(...)`, `vdc.report(...)`."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class CallablePackage(ModuleType):
    """A package `p.x` whose call is that of the function `x` of its module `p.x.x`, imported then."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Call the function."""
        name = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"{self.__name__}.{name}"), name)(*args, **options)


def make_callable(package: str) -> None:
    """Make a package callable, from its `__init__`.

    Args:
        package: its `__name__`.
    """
    sys.modules[package].__class__ = CallablePackage
