"""An installed vdc finds its configs: from a built wheel, in a folder that holds nothing."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_configs_are_found_from_the_wheel(tmp_path):
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (wheel,) = tmp_path.glob("vdcondense-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    shipped = {path.name for path in (site / "vdc" / "configs").rglob("*.yaml")}
    assert shipped == {path.name for path in (ROOT / "configs").rglob("*.yaml")}
    assert len(shipped) > 10
    assert (site / "vdc" / "py.typed").is_file()
    assert list(site.glob("*.dist-info/licenses/LICENSE"))

    code = "import vdc.cli.configs as c; print(c.__file__); print(c.find_config('rded_toy'))"
    out = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=empty, env={**os.environ, "PYTHONPATH": str(site)}, text=True, capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    module, config = out.stdout.splitlines()
    assert Path(module).is_relative_to(site)
    assert Path(config) == site / "vdc" / "configs" / "methods" / "rded_toy.yaml"
