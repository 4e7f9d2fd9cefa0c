"""Bars on a terminal, lines elsewhere, and nothing where nothing is wanted."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from vdc.system import progress
from vdc.system.progress import Bar, be_quiet, span, track


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch, clock):
    out = Terminal()
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=out))
    monkeypatch.setenv("TERM", "xterm")
    bars = progress.screen.__wrapped__()
    bars.live.console = Console(file=out, width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(progress, "screen", lambda: bars)
    return out


def pictures(out):
    return [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", out.getvalue())]


def test_a_bar_says_what_how_many_and_when_it_ends(terminal, clock):
    bar = Bar("Random, seed 0 (1 of 3)", 60, 50, "epochs")
    clock.now += 10
    bar.move(55, "loss 0.5 " + "x" * 90)
    shown = [line for line in pictures(terminal) if "55/60" in line]
    assert shown
    assert "epochs 0:00:10 left, loss 0.5" in shown[-1]  # 2 s each since the resumed 50th
    assert all(len(line) <= 80 for line in pictures(terminal))
    bar.move(60, "loss 0.4")
    bar.close()
    assert "Random, seed 0 (1 of 3): 60 epochs, 0:00:10, loss 0.4" in terminal.getvalue()


def test_what_is_short_has_no_bar_and_a_passing_one_leaves_nothing(terminal, clock):
    assert list(track(range(3), "short", unit="videos")) == [0, 1, 2]
    assert terminal.getvalue() == ""
    passing = Bar("test", 2, delay=1.0, leave=False)
    clock.now += 2
    passing.move(1)
    passing.close()
    assert "1/2" in terminal.getvalue()
    assert "0:00:02" not in terminal.getvalue().split("1/2")[-1].split("left")[-1]


def test_without_a_terminal_there_are_lines_now_and_then(capsys, clock):
    bar = Bar("prepare", 100, 0, "videos")
    for done in range(1, 41):
        clock.now += 1
        bar.move(done)
    bar.close()
    assert capsys.readouterr().err.splitlines() == [
        "prepare: 15/100 videos, 0:01:25 left",
        "prepare: 30/100 videos, 0:01:10 left",
    ]


def test_quiet_or_hidden_bars_show_nothing_and_count(capsys, clock):
    be_quiet()
    try:
        quiet = Bar("a", 9)
    finally:
        be_quiet(False)
    hidden = Bar("b", None, show=False)
    for bar in (quiet, hidden):
        clock.now += 100
        bar.move(5)
        bar.close()
        assert bar.done == 5
    assert capsys.readouterr() == ("", "")
    assert hidden.left() is None
    assert span(4000) == "1:06:40"


def test_an_error_on_the_way_closes_the_bar(capsys):
    def broken():
        yield 1
        raise RuntimeError("x")

    with pytest.raises(RuntimeError):
        list(track(broken(), "broken"))
