"""Files that come with vdc, found by bare name: configs, studies."""

from pathlib import Path

from vdc.system.text import nearest

PACKAGE = Path(__file__).parents[1]


def folders(kind: str) -> tuple[Path, ...]:
    """Where files of a kind are looked for: here, in a wheel, in a source checkout."""
    return Path(kind), PACKAGE / kind, PACKAGE.parent / kind


def find(name: str, kind: str = "configs") -> Path:
    """A YAML file by its path, else by its name anywhere in `./<kind>`, else the copy shipped with vdc.

    Args:
        name: with or without suffix.
        kind: name of the folder.

    Raises:
        FileNotFoundError: there is none, with the nearest names.
    """
    names = [name] if name.endswith((".yaml", ".yml")) else [name, f"{name}.yaml"]
    for path in map(Path, names):
        if path.is_file():
            return path
    for folder in folders(kind):
        for wanted in names:
            if Path(wanted).name == wanted and (found := sorted(folder.rglob(wanted))):
                return found[0]
            if (folder / wanted).is_file():
                return folder / wanted
    told = nearest(Path(names[-1]).name, {path.name for path in paths(kind)})
    what = {"configs": "config", "studies": "study"}[kind]
    raise FileNotFoundError(f"no {what} {name!r} here, in ./{kind} or shipped{told}")


def paths(kind: str = "configs") -> list[Path]:
    """All YAML files that can be found by name."""
    return [path for folder in folders(kind) for path in sorted(folder.rglob("*.yaml"))]
