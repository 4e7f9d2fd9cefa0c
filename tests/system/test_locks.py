"""Locks that end with whoever holds them."""

import subprocess
import sys
import time

from vdc.system.locks import locked

HOLD = """
import sys, time
from pathlib import Path
from vdc.system.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_waited_for_and_ends_with_its_holder(tmp_path):
    path = tmp_path / "deep/a.lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        start = time.monotonic()
        subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {other.pid}"])
        with locked(path):
            assert other.wait(10) == -9  # we have it only once the other is gone
            assert time.monotonic() - start >= 0.2
    with locked(path):  # free again
        pass
