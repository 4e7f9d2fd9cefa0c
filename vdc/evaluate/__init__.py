"""Evaluation; the package is called like its function, `vdc.evaluate(set, data)`: see `vdc.evaluate.evaluate`."""

from vdc.system.calls import make_callable

make_callable(__name__)
