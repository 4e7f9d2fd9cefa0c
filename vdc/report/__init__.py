"""Reports; the package is called like its function, `vdc.report([set])`: see `vdc.report.report`."""

from vdc.system.calls import make_callable

make_callable(__name__)
