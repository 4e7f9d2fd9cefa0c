"""What `--help` shows, and what it leaves to `--help_all`."""

import pytest

from vdc.cli import main


def shown(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_our_options_come_first_and_lightnings_when_asked(capsys):
    short, whole = shown(capsys, "fit", "--help"), shown(capsys, "fit", "--help_all")
    assert len(short.splitlines()) < 200 < 500 < len(whole.splitlines())
    for text in (short, whole):
        assert text.index("--multisize MULTISIZE\n") < text.index("--trainer.precision PRECISION\n")
    assert "--trainer.overfit_batches" not in short
    assert "--trainer.overfit_batches" in whole
    assert "--help_all" in short


@pytest.mark.parametrize("command", ["pretrain", "evaluate"])
def test_every_command_of_lightning_has_both(capsys, command):
    short, whole = shown(capsys, "help", command), shown(capsys, command, "--help_all")
    assert "--trainer.benchmark" in whole
    assert "--trainer.benchmark" not in short
    assert "--protocol.epochs" in short
