"""Help that begins with what is vdc's own: of Lightning's options those that most people need."""

import argparse
from collections.abc import Sequence

FOREIGN = ("trainer", "checkpoint")  # options of classes of Lightning
USUAL = {
    "trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision",
    "trainer.logger", "trainer.max_steps", "trainer.default_root_dir", "checkpoint.train_time_interval",
}  # fmt: skip
MORE = "Lightning's further options (--trainer.*, --checkpoint.*): --help_all. Options of a class: --model.help CLASS."


def show_if_asked(parser: argparse.ArgumentParser, args: Sequence[str]) -> None:
    """Answer `--help_all`, and prepare the answer to `--help`, which the parser gives itself.

    Raises:
        SystemExit: everything has been shown.
    """
    if "--help_all" in args:
        order(parser)
        parser.print_help()
        raise SystemExit(0)
    if "-h" in args or "--help" in args:
        order(parser)
        shorten(parser)


def foreign(action: argparse.Action) -> bool:
    """Whether an option is Lightning's."""
    return action.dest.split(".")[0] in FOREIGN


def order(parser: argparse.ArgumentParser) -> None:
    """Put groups of Lightning's options last."""
    parser._actions.sort(key=foreign)
    parser._action_groups.sort(key=lambda group: any(foreign(action) for action in group._group_actions))


def shorten(parser: argparse.ArgumentParser) -> None:
    """Leave out Lightning's options but the usual ones, and say where they are."""
    for action in parser._actions:
        if foreign(action) and action.dest not in USUAL:
            action.help = argparse.SUPPRESS
    parser.epilog = MORE
