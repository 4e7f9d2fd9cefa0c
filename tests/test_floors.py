"""Imports go one way: a module imports from lower floors and from its own part only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "vdc"
FLOOR = {
    "spec": 0,
    "ops": 0,
    "nets": 1,
    "data": 1,
    "memory": 1,
    "condensed": 1,
    "methods": 2,
    "eval": 3,
    "cli": 4,
}


def part(module: str) -> str | None:
    names = module.split(".")
    return names[1] if names[0] == "vdc" and len(names) > 1 else None


def imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"vdc.{alias.name}" for alias in node.names if node.module == "vdc"}
    return found


def illegal(own: str, other: str) -> bool:
    if own == other or (own, other) == ("ops", "spec"):
        return False
    return FLOOR[other] >= FLOOR[own]


FILES = sorted(
    p for p in ROOT.rglob("*.py") if p.relative_to(ROOT).parts[0] not in ("__init__.py", "__main__.py")
)


def test_some_files_are_walked():
    assert len(FILES) > 10


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    wrong = sorted(m for m in imported(path) if (other := part(m)) in FLOOR and illegal(own, other))
    assert not wrong, f"{path.name} on floor {FLOOR[own]} ({own}) imports {wrong}"


def test_the_rule_itself():
    assert illegal("nets", "data")
    assert illegal("spec", "ops")
    assert illegal("methods", "eval")
    assert not illegal("eval", "methods")
    assert not illegal("ops", "spec")
    assert not illegal("data", "data")
