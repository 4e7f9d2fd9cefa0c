"""The documentation says what is there: methods, studies, commands, snippets."""

import inspect
import os
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import vdc
from vdc.cli import COMMANDS
from vdc.cli.commands import flags_last
from vdc.cli.study import CLASSES, PREFIXES, parser_of, split, study
from vdc.methods import Condenser
from vdc.system.overlays import with_overlays

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OF_THE_SET = ("--data", "RealData", "--data.root", "VIDEOS")  # an evaluation reads these from its set


def blocks(page, *languages):
    return [text for language, text in BLOCK.findall(page.read_text()) if language in languages]


def commands():
    for page in PAGES:
        for text in blocks(page, "bash", ""):
            for line in text.replace("\\\n", " ").splitlines():
                if line.startswith("vdc "):
                    yield pytest.param(line, id=f"{page.stem}: {line[:60]}")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Where the class of one's own lies."""
    (snippet,) = blocks(ROOT / "docs/own.md", "python")
    (tmp_path / "mine.py").write_text(snippet)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine", None)


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line, mine):
    name, *words = shlex.split(line, comments=True)[1:]
    command = COMMANDS[name]
    if name in CLASSES:
        before = OF_THE_SET if name == "evaluate" and "--config" not in words else ()
        assert parser_of(name).parse_args(flags_last(with_overlays([*before, *words]))) is not None
        return
    if name == "study":
        words, extra = split(words)
        assert extra.keys() <= set(PREFIXES)
        function = study
    else:
        function = getattr(import_module(command.module), command.function)
    flags = {word[2:].split("=")[0].split(".")[0] for word in words if word.startswith("--")}
    assert flags <= inspect.signature(function).parameters.keys()


def test_every_method_has_a_page():
    public = [getattr(vdc, name) for name in vdc.__all__]
    methods = [
        c for c in public if inspect.isclass(c) and issubclass(c, Condenser) and not inspect.isabstract(c)
    ]
    pages = {path: path.read_text() for path in (ROOT / "docs/methods").glob("*.md")}
    for method in methods:
        (page,) = (text for text in pages.values() if f"::: vdc.{method.__name__}\n" in text)
        for heading in ("## Run it", "## Options", "## Measured", "## What to expect"):
            assert f"\n{heading}\n" in page, method
        config = re.search(r"vdc fit --config (\w+)\.yaml", page)
        assert config is not None, method
        held = (ROOT / f"configs/methods/{config[1]}.yaml").read_text()
        assert re.search(rf"\b{method.__name__}\b", held), method
    assert len(methods) > 15


def test_every_study_is_listed():
    listed = set(re.findall(r"\| `(\w+)` \|", (ROOT / "docs/studies.md").read_text()))
    assert listed == {path.stem for path in (ROOT / "studies").glob("*.yaml")}


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.slow
def test_the_python_page_runs(tmp_path):
    (snippet,) = blocks(ROOT / "docs/python.md", "python")
    (tmp_path / "page.py").write_text(snippet)
    subprocess.run([sys.executable, "page.py"], cwd=tmp_path, check=True, timeout=300)
    assert (tmp_path / "page.html").is_file()


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("material")
    pytest.importorskip("mkdocstrings")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "-q", "-d", str(tmp_path / "site")]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # of the theme's, about its own future
    done = subprocess.run(
        words, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    html = (tmp_path / "site/methods/dm/index.html").read_text()
    assert "the flattened last map, as published" in html  # options, from the docstring
