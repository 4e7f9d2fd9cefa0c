"""`vdc doctor`."""

from pathlib import Path

from rich.console import Console

from vdc.data.doctor import examine
from vdc.data.formats import Format
from vdc.system.files import write_json


def doctor(
    path: str,
    train: str | None = None,
    test: str | None = None,
    format: Format = "auto",
    quick: bool = False,
    json: str | None = None,
) -> None:
    """Look at a folder or lists of videos; exit code 1 if something would break or falsify a run.

    Args:
        path: folder of class folders, of train, val and test folders, or with lists; or the list of training videos.
        train: list of training videos, in `path` or by its own path.
        test: list of test videos.
        format: of the lists.
        quick: read a few frames of each video, not all.
        json: file to write everything to.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a list beside a path that is one itself.
    """
    root = Path(path)
    if root.is_file():
        if train:
            raise ValueError(
                f"--train {train}: {path} is a list itself; give the folder that its paths start from"
            )
        root, train = root.parent, str(root.absolute())
    elif not root.is_dir():
        raise FileNotFoundError(f"{path}: no such file or folder")
    found = examine(str(root), train, test, format, not quick)
    if json:
        write_json(json, found.as_json())
    Console().print(found.table())
    if not found.clean:
        raise SystemExit(1)
