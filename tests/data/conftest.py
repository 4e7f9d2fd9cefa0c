import pytest

from tests.data.videos import write
from vdc.data.index import Video

LENGTHS = [40, 24, 16, 5]


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    """Four videos, tagged by row, of `LENGTHS` frames; labels 0 1 0 1."""
    root = tmp_path_factory.mktemp("videos")
    paths = [write(root / f"{row}.mp4", length, tag=row) for row, length in enumerate(LENGTHS)]
    return [Video(str(path), row % 2) for row, path in enumerate(paths)]


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A set of three classes: 4 training videos each, 2 test videos each, tagged in order of the lists."""
    root = tmp_path_factory.mktemp("set")
    tag = 0
    for part, count in (("train", 4), ("test", 2)):
        lines = []
        for number in range(count):
            for label, name in enumerate(("wave", "run", "jump")):
                path = f"{name}/{part}{number}.mp4"
                write(root / path, 12 + tag, tag=tag, size=(24, 32))
                lines.append(f"{path} {label}\n")
                tag += 1
        (root / f"{part}.txt").write_text("".join(lines))
    return root
