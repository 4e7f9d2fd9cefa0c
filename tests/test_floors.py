"""Imports go one way: a module imports from lower floors and from its own room only, and never in a circle."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "vdc"
FLOOR = {
    "spec": 0,
    "ops": 1,
    "system": 1,
    "nets": 2,
    "data": 2,
    "condensed": 2,
    "methods.base": 3,
    "train": 3,
    "methods": 4,
    "evaluate": 4,
    "study": 5,
    "report": 5,
    "cli": 6,
}
FILES = {
    ".".join(("vdc", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
    for p in sorted(ROOT.rglob("*.py"))
}
LARGEST = 350  # lines of a file: with more, a part is missing


def room(module):
    """The longest name in `FLOOR` that a module lies in."""
    name = module.removeprefix("vdc.")
    fits = [key for key in FLOOR if name == key or name.startswith(f"{key}.")]
    return max(fits, key=len, default=None)


def imported(path):
    """Modules of this package that a file imports, also where only types need them, or later, by their names."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & FILES.keys()) or {node.module}
        elif (
            isinstance(node, ast.Constant)
            and node.value in FILES
            and "/__init__" not in str(FILES[node.value])
        ):
            found.add(node.value)
    return {name for name in found if name in FILES}


GRAPH = {module: imported(path) for module, path in FILES.items()}


def illegal(own, other):
    return own != other and FLOOR[other] >= FLOOR[own]


def circle(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return None


def test_the_walk_sees_files_and_imports():
    assert len(FILES) > 80
    assert sum(map(len, GRAPH.values())) > 200


@pytest.mark.parametrize("module", [m for m in FILES if m not in ("vdc", "vdc.__main__")])
def test_imports_go_down(module):
    own = room(module)
    assert own is not None, f"{module} lies in no room"
    wrong = sorted(m for m in GRAPH[module] if (other := room(m)) and illegal(own, other))
    assert not wrong, f"{module} on floor {FLOOR[own]} ({own}) imports {wrong}"


def test_no_circles():
    assert circle({m: found - {m} for m, found in GRAPH.items()}) is None


@pytest.mark.parametrize("module", FILES)
def test_no_file_is_too_long(module):
    assert len(FILES[module].read_text().splitlines()) <= LARGEST


def test_the_rules_themselves():
    assert room("vdc.methods.base.condenser") == "methods.base"
    assert room("vdc.methods.dm") == "methods"
    assert illegal("nets", "data")
    assert illegal("spec", "ops")
    assert illegal("methods", "evaluate")
    assert illegal("methods.base", "methods")
    assert illegal("methods.base", "train")
    assert not illegal("methods", "train")
    assert not illegal("evaluate", "methods.base")
    assert not illegal("ops", "spec")
    assert not illegal("data", "data")
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not circle({"a": {"b"}, "b": {"c"}, "c": set()})
