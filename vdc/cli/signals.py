"""Stopping a command: its exit code is the shell's for the signal, so that what follows `&&` does not run."""

import os
import signal
from types import FrameType


class Stopped(SystemExit):
    """A signal asked the command to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.name = signal.Signals(number).name


def stop_at_signals() -> None:
    """Raise `Stopped` at SIGINT and SIGTERM, once: a second one ends the process at once.

    Lightning calls this handler after its own. Worker processes, which are ended by SIGTERM, are not concerned.
    """
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() != own:
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:  # as a shell has it for jobs in the background
            signal.signal(number, stop)
