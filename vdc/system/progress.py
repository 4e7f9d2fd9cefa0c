"""Bars in one style for all that takes long, by rich; a plain line now and then where nobody watches."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:  # a tenth of a second, which `vdc --help` does not need
    from rich.progress import Progress

REFRESH, LINE = 0.1, 15.0  # seconds between two pictures on a terminal, and two lines elsewhere
BAR = 16  # columns
T = TypeVar("T")
_quiet = False


def be_quiet(quiet: bool = True) -> None:
    """Show no bars from here on, or show them again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    """Whether only results, warnings and errors are wanted."""
    return _quiet


@cache
def screen() -> "Progress":
    """All bars of the process, below each other. They are drawn when they move: a thread would be lost in a fork."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(BAR),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
        auto_refresh=False,
    )


class Bar:
    """One thing that is counted, from where it starts to its end.

    Args:
        title: what is counted.
        total: how much of it there is; `None` if nobody knows.
        done: how much was done before.
        unit: of it, one.
        show: whether to show anything.
        delay: seconds before it is worth a bar.
        leave: let the full bar stand.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        done: int = 0,
        unit: str = "",
        show: bool = True,
        delay: float = 0.0,
        leave: bool = True,
    ) -> None:
        self.title, self.total, self.done, self.unit = title, total, done, unit
        self.note = ""
        self.first, self._started, self._leave = done, time.monotonic(), leave
        self._shown = show and not _quiet
        self._terminal = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        self._next = self._started + (delay if self._terminal else LINE)
        self._task: Any = self._open() if self._shown and self._terminal and not delay else None

    def _open(self) -> Any:
        bars = screen()
        if not bars.tasks:
            bars.start()
        return bars.add_task(self.title, total=self.total, completed=self.done, note="")

    def pace(self) -> float:
        """Seconds that one takes, since the start of this run."""
        return (time.monotonic() - self._started) / max(1, self.done - self.first)

    def left(self) -> float | None:
        """Seconds to the end; `None` while nothing is known."""
        if self.total is None or self.done <= self.first:
            return None
        return self.pace() * max(0, self.total - self.done)

    def move(self, done: int, note: str | None = None) -> None:
        """Say how much is done, and what is to be said beside."""
        self.done = done
        self.note = self.note if note is None else note
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next = now + (REFRESH if self._terminal else LINE)
            self._draw()

    def _draw(self) -> None:
        left = self.left()
        end = "" if left is None else f"{span(left)} left"
        told = ", ".join(part for part in (end, self.note) if part)
        if not self._terminal:
            of = f"{self.done}" if self.total is None else f"{self.done}/{self.total}"
            counted = f"{self.title}: {of} {self.unit}".rstrip()
            print(f"{counted}, {told}" if told else counted, file=sys.stderr)
            return
        self._task = self._open() if self._task is None else self._task
        room = screen().console.width - len(self.title) - BAR - 2 * len(str(self.total)) - 5
        note = f"{self.unit} {told}".strip()[: max(0, room)]
        screen().update(self._task, completed=self.done, note=note)
        screen().refresh()

    def close(self) -> None:
        """Take the bar away, or leave it as a line of what was done in which time."""
        if self._task is None:
            return
        bars, task, self._task = screen(), self._task, None
        bars.remove_task(task)
        if self._leave:
            of = (
                f"{self.done}"
                if self.total is None or self.total == self.done
                else f"{self.done} of {self.total}"
            )
            told = f"{self.title}: {of} {self.unit}".rstrip() + f", {span(time.monotonic() - self._started)}"
            told = ", ".join(part for part in (told, self.note) if part)
            bars.console.print(told, markup=False, highlight=False)
        bars.refresh()
        if not bars.tasks:
            bars.stop()


def span(seconds: float) -> str:
    """Hours, minutes and seconds: `0:12:03`."""
    return str(timedelta(seconds=round(seconds)))


def track(
    items: Iterable[T],
    title: str,
    total: int | None = None,
    done: int = 0,
    unit: str = "",
    show: bool = True,
    delay: float = 1.0,
) -> Iterator[T]:
    """The items, with a bar; see `Bar`."""
    if total is None and isinstance(items, Sized):
        total = done + len(items)
    bar = Bar(title, total, done, unit, show, delay)
    try:
        for item in items:
            yield item
            bar.move(bar.done + 1)
    finally:
        bar.close()
