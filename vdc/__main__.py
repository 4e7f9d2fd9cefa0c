"""`python -m vdc` is `vdc`."""

from vdc.cli import main

main()
