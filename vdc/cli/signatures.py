"""Commands that are plain functions: their options are the parameters, their help is the docstring."""

import inspect
from collections.abc import Callable
from typing import Any

from lightning.pytorch.cli import LightningArgumentParser


def summary(function: Callable[..., Any]) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def call(
    function: Callable[..., Any],
    args: list[str],
    positional: str = "",
    nargs: str | None = None,
    pair: str = "",
) -> None:
    """Run a function with arguments from its signature, described by its docstring."""
    parser = LightningArgumentParser(
        prog=f"vdc {function.__name__}",
        description=summary(function),
        exit_on_error=False,
        allow_abbrev=False,
    )
    if positional:
        parser.add_argument(positional, nargs=nargs, type=str)
    if pair:  # two words, which a tuple of the signature would want as one
        parser.add_argument(f"--{pair}", nargs=2, type=str, metavar=("A", "B"), help="Compare A with B.")
    parser.add_function_arguments(function, skip={positional, pair}, fail_untyped=False)
    function(**parser.instantiate_classes(parser.parse_args(args)))
