"""Class folders as people have them: what counts, what is left out and named, train/val/test folders."""

import hashlib
import os
import warnings
from pathlib import Path

import pytest
from PIL import Image

from tests.data.test_index import found, refuses, touch
from tests.data.videos import tags, write
from vdc.data import RealData
from vdc.data.folders import search, walk
from vdc.data.index import read_index
from vdc.data.reader import BadVideo
from vdc.data.splits import bad_videos, fingerprint, read_lists
from vdc.spec import ClipSpec
from vdc.system.files import read_json, write_json

JUNK = (
    "walk/._a.mp4", "walk/.DS_Store", "walk/Thumbs.db", "__MACOSX/walk/._a.mp4", "__MACOSX/b.mp4", ".cache/x.mp4",
    ".git/walk/a.mp4", "walk/.trash/c.mp4", "@eaDir/a.mp4", "walk/desktop.ini", "._run", "run/.hidden.avi",
    "walk/__MACOSX/1.jpg",
)  # fmt: skip
ANNOTATIONS = (
    "annotations/train.csv",
    "lists/train.txt",
    "lists/test.txt",
    "Annotations/preview.mp4",
    "docs/a.pdf",
)


@pytest.fixture
def root(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/b.AVI", *JUNK)
    return tmp_path


def test_hidden_files_and_those_of_the_system_are_nothing(root):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor are they named
        index = read_index(str(root), None)
    assert (index.classes, found(index, root)) == (["run", "walk"], [("run/b.AVI", 0), ("walk/a.mp4", 1)])
    seen = [str(folder.relative_to(root) / name) for folder, _, files in walk(root) for name in files]
    assert seen == ["run/b.AVI", "walk/a.mp4"]


def test_folders_of_annotations_are_no_classes(root):
    touch(root, *ANNOTATIONS)
    with pytest.warns(UserWarning, match=r"left out.*4 folder of annotations \(.*/Annotations\)"):
        assert read_index(str(root), None).classes == ["run", "walk"]


def test_what_is_left_out_is_counted_and_named(root):
    touch(root, "walk/c.MTS", "walk/d.mts", "walk/e.xyz", "run/deep/f.mp4", "readme.md", "g.mp4", "run/noext")
    with pytest.warns(UserWarning, match="left out") as caught:
        assert len(read_index(str(root), None).videos) == 2
    (told,) = (str(warning.message) for warning in caught)
    for part in (
        "2 .mts (",
        "walk/c.MTS)",
        "1 .xyz",
        "1 subfolder (",
        "run/deep)",
        "1 .md",
        "1 .mp4",
        "1 no suffix",
    ):
        assert part in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["walk/"], r"walk: holds no videos \(it is empty\)"),
        (["walk/a.MTS"], r"walk: holds no videos \(left out: 1 \.mts \(.*a\.MTS\)\)"),
        (["walk/deep/a.mp4"], r"walk: holds no videos \(left out: 1 subfolder"),
        (["a.mp4", "b.avi"], "holds no class folders; 2 videos lie in it itself"),
        ([], "holds no class folders: sort the videos into one folder per class"),
        (["annotations/a.txt"], "holds no class folders"),
    ],
)
def test_folders_without_classes_say_what_was_found(tmp_path, names, match):
    touch(tmp_path, *(name for name in names if name[-1] != "/"))
    for name in names:
        if name[-1] == "/":
            (tmp_path / name).mkdir()
    refuses(ValueError, match, tmp_path, None)


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, "set/walk/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "set/walk/up").symlink_to(tmp_path / "set")
    (tmp_path / "set/self").symlink_to(tmp_path / "set")
    (tmp_path / "set/run").symlink_to(tmp_path / "elsewhere")
    seen = [str(folder.relative_to(tmp_path)) for folder, _, _ in walk(tmp_path / "set")]
    assert seen == ["set", "set/run", "set/walk"]
    assert search(tmp_path / "set", {"a", "b"}) == {
        "a": str(tmp_path / "set/walk/a.mp4"),
        "b": str(tmp_path / "set/run/b.mp4"),
    }


def test_kinetics_are_not_found_among_hidden_files(tmp_path):
    touch(
        tmp_path, ".cache/xyz_000000_000010.mp4", "__MACOSX/xyz_000000_000010.mp4", "b/xyz_000000_000010.mp4"
    )
    (tmp_path / "a.csv").write_text("label,youtube_id,time_start,time_end\nyoga,xyz,0,10\n")
    assert found(read_index(str(tmp_path), "a.csv"), tmp_path) == [("b/xyz_000000_000010.mp4", 0)]


def test_tables_beside_a_list_are_not_taken_from_hidden_files(tmp_path):
    touch(
        tmp_path, "._classInd.txt", "._labels.json", "._wave_test_split1.txt", "splits/._wave_test_split1.txt"
    )
    (tmp_path / "splits/wave_test_split1.txt").write_text("a.avi 1\n")
    assert len(read_index(str(tmp_path), "splits").videos) == 1
    (tmp_path / "list.json").write_text('[{"id": 1, "template": "a"}]')
    assert read_index(str(tmp_path), "list.json").classes == ["a"]


# -- train, val and test folders -----------------------------------------------------------------


def names(index):
    return [Path(video.path).name for video in index.videos]


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train", "val", "test"), ("training", "validation", "testing"), ("Train", "Valid", "TEST")],
)
def test_folders_of_splits_are_read_as_such(tmp_path, train, val, test):
    touch(tmp_path, f"{train}/walk/a.mp4", f"{train}/run/b.mp4", f"{val}/walk/c.mp4", f"{test}/run/d.mp4")
    touch(tmp_path, "annotations/x.csv", "._train", "readme.txt")
    lists = read_lists(str(tmp_path), None, None, "auto", None)
    assert {part: names(index) for part, index in lists.items()} == {
        "train": ["b.mp4", "a.mp4"],
        "val": ["c.mp4"],
        "test": ["d.mp4"],
    }
    assert all(index.classes == ["run", "walk"] for index in lists.values())
    data = RealData(str(tmp_path), spec=ClipSpec(frames=4, size=16))
    assert {part: len(videos) for part, videos in data.splits.items()} == {"train": 2, "val": 1, "test": 1}
    shared = RealData(str(tmp_path), spec=ClipSpec(frames=4, size=16), val_share=0.5)
    with pytest.raises(ValueError, match=r"--data\.val_share 0\.5: there is a folder of validation videos"):
        _ = shared.splits


def test_a_val_folder_alone_is_the_test_part(tmp_path):
    touch(tmp_path, "train/walk/a.mp4", "val/walk/c.mp4")
    with pytest.warns(UserWarning, match="no test folder; the videos in .*val are the test videos"):
        lists = read_lists(str(tmp_path), None, None, "auto", None)
    assert {part: names(index) for part, index in lists.items()} == {"train": ["a.mp4"], "test": ["c.mp4"]}


def test_named_lists_go_before_folders_of_splits(tmp_path):
    touch(tmp_path, "train/walk/a.mp4", "test/walk/c.mp4", "mine/walk/d.mp4")
    assert names(read_lists(str(tmp_path), None, "mine", "auto", None)["test"]) == ["d.mp4"]
    assert list(read_lists(str(tmp_path), "train", None, "auto", None)) == ["train"]


def test_a_class_may_be_called_train(tmp_path):
    touch(tmp_path, "train/a.mp4", "bus/b.mp4", "test/c.mp4")
    (tmp_path / "car/one").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "car/one/1.jpg")
    assert read_lists(str(tmp_path), None, None, "auto", None)["train"].classes == [
        "bus",
        "car",
        "test",
        "train",
    ]


def test_two_folders_of_one_part_are_refused(tmp_path):
    touch(tmp_path, "train/walk/a.mp4", "training/walk/a.mp4")
    with pytest.raises(ValueError, match="holds two train folders, train and training"):
        read_lists(str(tmp_path), None, None, "auto", None)


def test_folders_without_a_split_say_what_to_do(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/b.mp4")
    data = RealData(str(tmp_path), spec=ClipSpec(frames=4, size=16))
    with pytest.raises(
        ValueError, match=r"no test videos: set --data\.test to a list .* sort the classes of"
    ):
        data.setup("test")


# -- names that are not UTF-8 --------------------------------------------------------------------

ODD = os.fsdecode(b"gr\xfc\xdfe")  # Latin-1


@pytest.fixture
def odd(tmp_path):
    """Class folders and a list with names that are not UTF-8; the green of a video tells which it is."""
    write(tmp_path / ODD / "a.mp4", 8, tag=10)
    write(tmp_path / "run" / f"{ODD}.mp4", 8, tag=20)
    lines = os.fsencode(f"{ODD}/a.mp4,0\nrun/{ODD}.mp4,1\n")
    (tmp_path / "train.txt").write_bytes(lines)
    return tmp_path


@pytest.mark.parametrize("listing", [None, "train.txt"])
@pytest.mark.parametrize("workers", [0, 1])
def test_names_that_are_not_utf8(odd, listing, workers):
    spec = ClipSpec(frames=4, size=16)
    data = RealData(str(odd), listing, spec=spec, load_size=(16, 16), num_workers=workers, cache="never")
    assert sorted(data.classes) == sorted([ODD, "run"])
    seen = [tag for raw in data.every_clip() for tag in tags(raw.frames)]
    assert sorted(set(seen)) == [10, 20]
    print_able = data.fingerprint()
    write_json(odd / "out.json", {"names": data.classes, "print": print_able})
    assert read_json(odd / "out.json")["names"] == data.classes


def test_errors_name_such_files_in_one_line(odd):
    (odd / ODD / "b.mp4").write_bytes(b"nothing")
    data = RealData(
        str(odd), spec=ClipSpec(frames=4, size=16), load_size=(16, 16), cache="never", num_workers=1
    )
    with pytest.raises(BadVideo, match="b\\.mp4: ") as caught:
        list(data.every_clip())
    assert ODD in str(caught.value)
    videos = read_index(str(odd), None).videos
    with pytest.warns(UserWarning, match="left out 1 of 3 train videos"):
        assert len(bad_videos("train", videos, "skip", (0, 1), (0, 1))) == 1


def test_the_digest_of_ordinary_names_is_that_of_their_text(tmp_path):
    touch(tmp_path, "grün/a.mp4", "run/b.mp4")
    split = fingerprint(read_index(str(tmp_path), None).videos, str(tmp_path))
    assert split["sha256"] == hashlib.sha256("grün/a.mp4\t0\nrun/b.mp4\t1\n".encode()).hexdigest()


def test_a_val_folder_is_validated_on(tmp_path):
    for i, part in enumerate(("train", "val", "test")):
        write(tmp_path / part / "walk" / "a.mp4", 8, tag=50 * i)
    data = RealData(str(tmp_path), spec=ClipSpec(frames=4, size=16), load_size=(16, 16))
    assert [tags(raw.frames)[0] for raw in data.val_dataloader()] == [50]
