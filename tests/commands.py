"""Commands on tiny toy videos, and the line that a wrong one ends with."""

import pytest

from vdc.cli import main

SMALL = [
    "--data.spec.frames",
    "4",
    "--data.spec.size",
    "44",
    "--data.spec.stride",
    "2",
    "--data.cache",
    "none",
]


def toy_args(*more):
    return ["--data.root", "runs/toy", "--data.train_videos", "3", "--data.test_videos", "1", *SMALL, *more]


def refused(capsys, *args, code=2):
    """The one line that a wrong command ends with."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert not any(line.startswith("Traceback") for line in lines)
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]
