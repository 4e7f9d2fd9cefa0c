"""What a shell completes."""

import shutil
import subprocess

import pytest

from vdc.cli import main
from vdc.cli.listing import LISTED


def test_bash_completes_commands_flags_and_names(capsys, tmp_path):
    main(["completion", "bash"])
    script = capsys.readouterr().out
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash")
    (tmp_path / "vdc.sh").write_text(script)

    def completed(*words):
        line = " ".join(f"'{word}'" for word in words)
        ask = (
            f"source vdc.sh; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
            f"_shtab_vdc vdc '{words[-1]}' '{words[-2]}'; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        )
        done = subprocess.run([bash, "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert LISTED.keys() <= set(completed("vdc", ""))
    assert {"--seeds", "--quick", "--protocol.epochs"} <= set(completed("vdc", "evaluate", "--"))
    assert "rded_toy" in completed("vdc", "fit", "--config", "rded")
    assert "videodc_table6" in completed("vdc", "study", "videodc")


def test_an_unknown_shell_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["completion", "cmd"])
    assert "vdc completion cmd: one of bash" in capsys.readouterr().err
