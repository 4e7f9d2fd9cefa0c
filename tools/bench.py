"""Speed ratios, side by side: runs every tools/bench_*.py, or those named.

    python tools/bench.py [selection matching ...]

Run nothing else meanwhile: what is printed are times of this machine.
"""

import subprocess
import sys
from pathlib import Path

BENCHES = {
    path.stem.removeprefix("bench_"): path for path in sorted(Path(__file__).parent.glob("bench_*.py"))
}


def main() -> None:
    """Run them in turn, each in a process of its own."""
    if unknown := sorted(set(sys.argv[1:]) - BENCHES.keys()):
        sys.exit(f"no bench {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    for name in sys.argv[1:] or BENCHES:
        print(f"\n== {name}", flush=True)
        subprocess.run([sys.executable, str(BENCHES[name])], check=True)


if __name__ == "__main__":
    main()
