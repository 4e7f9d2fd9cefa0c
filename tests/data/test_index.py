import json
from pathlib import Path

import pytest
from PIL import Image

from vdc.data.index import Video, read_index, subset


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"video")


def found(index, root):
    return [(str(Path(v.path).relative_to(root)), v.label) for v in index.videos]


def refuses(error, match, root, *args, **options):
    with pytest.raises(error, match=match) as caught:
        read_index(str(root), *args, **options)
    assert "\n" not in str(caught.value)


# -- folders, lists, rawframes -------------------------------------------------------------------


def test_class_folders(tmp_path):
    touch(tmp_path, "train/walk/b.mp4", "train/walk/a.AVI", "train/run/c.webm", "test/run/d.mp4")
    touch(tmp_path, "train/walk/notes.txt", "train/.cache/x.mp4")
    train = read_index(str(tmp_path), "train")
    assert train.classes == ["run", "walk"]
    names = ["train/run/c.webm", "train/walk/a.AVI", "train/walk/b.mp4"]
    assert found(train, tmp_path) == list(zip(names, [0, 1, 1], strict=True))
    test = read_index(str(tmp_path), "test", known=train.classes, part="test")
    assert (test.classes, found(test, tmp_path)) == (["run", "walk"], [("test/run/d.mp4", 0)])
    assert read_index(str(tmp_path / "train"), None).videos == train.videos


def test_class_folders_may_hold_folders_of_images(tmp_path):
    (tmp_path / "walk" / "one").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(tmp_path / "walk" / "one" / "1.jpg")
    assert found(read_index(str(tmp_path), None), tmp_path) == [("walk/one", 0)]


def test_a_class_folder_without_videos_is_refused(tmp_path):
    touch(tmp_path, "train/walk/b.mp4", "test/walk/a.mp4")
    refuses(ValueError, r"test: holds no videos.*--data\.train", tmp_path, None)
    (tmp_path / "empty").mkdir()
    refuses(ValueError, "holds no class folders", tmp_path / "empty", None)


def test_a_test_folder_of_an_unknown_class_is_refused(tmp_path):
    touch(tmp_path, "test/swim/a.mp4")
    match = r"a\.mp4: label 'swim' is out of range: 2 classes \(run, walk\)"
    refuses(ValueError, match, tmp_path, "test", known=["run", "walk"])


def test_lists_take_paths_with_spaces_and_names_from_folders(tmp_path):
    touch(tmp_path, "b walk/x y.mp4", "a run/z.mp4")
    lines = "\ufeffb walk/x y.mp4 0\r\n\r\na run/z.mp4 1\n"
    (tmp_path / "train.txt").write_text(lines, encoding="utf-8")
    index = read_index(str(tmp_path), "train.txt")
    assert index.classes == ["b walk", "a run"]
    assert found(index, tmp_path) == [("b walk/x y.mp4", 0), ("a run/z.mp4", 1)]


def test_lists_without_class_folders_count_and_classes_txt_names(tmp_path):
    touch(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "train.txt").write_text("a.mp4 1\nb.mp4 0\n")
    assert read_index(str(tmp_path), "train.txt").classes == ["0", "1"]
    (tmp_path / "classes.txt").write_text("run\nwalk slowly\nswim\n")
    assert read_index(str(tmp_path), "train.txt").classes == ["run", "walk slowly", "swim"]


def test_a_list_may_lie_elsewhere(tmp_path, monkeypatch):
    touch(tmp_path, "videos/a.mp4")
    (tmp_path / "train.txt").write_text("a.mp4 0\n")
    index = read_index(str(tmp_path / "videos"), str(tmp_path / "train.txt"))
    assert found(index, tmp_path) == [("videos/a.mp4", 0)]
    monkeypatch.chdir(tmp_path)
    assert read_index("videos", "train.txt").videos[0].path == str(tmp_path / "videos" / "a.mp4")


def test_a_prepared_copy_stands_in(tmp_path):
    touch(tmp_path, "a.mp4", "b.avi", "b.mp4")
    (tmp_path / "train.txt").write_text("a.avi 0\nb.avi 0\n")
    assert found(read_index(str(tmp_path), "train.txt"), tmp_path) == [("a.mp4", 0), ("b.avi", 0)]


def test_a_test_list_may_lack_classes(tmp_path):
    (tmp_path / "test.txt").write_text("a.mp4 2\n")
    index = read_index(str(tmp_path), "test.txt", known=["x", "y", "z"], part="test")
    assert (index.classes, index.videos[0].label) == (["x", "y", "z"], 2)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a.mp4 0\nb.mp4\n", r"train\.txt:2: expected 'path label', found 'b\.mp4'"),
        ("a.mp4 0\n\nb.mp4 one\n", r"train\.txt:3: 'one' is not a label"),
        ("a.mp4 -1\n", r"train\.txt:1: '-1' is not a label"),
        ("a.mp4 0\nb.mp4 3\n", r"train\.txt:2: label 3, but no video has label 1"),
        ("\n", r"train\.txt: lists no train videos"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, match):
    (tmp_path / "train.txt").write_text(text)
    refuses(ValueError, match, tmp_path, "train.txt")


def test_a_label_beyond_the_training_classes_is_named(tmp_path):
    (tmp_path / "test.txt").write_text("a.mp4 0\nb.mp4 2\n")
    match = r"test\.txt:2: label 2 is out of range: 2 classes \(x, y\)"
    refuses(ValueError, match, tmp_path, "test.txt", known=["x", "y"], part="test")


def test_missing_root_or_list(tmp_path):
    refuses(FileNotFoundError, r"--data\.root .*nowhere: no such folder", tmp_path / "nowhere", None)
    refuses(FileNotFoundError, r"train\.txt: no such list or folder", tmp_path, "train.txt")
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    refuses(ValueError, "not a text file", tmp_path, "train.txt")


def test_rawframes(tmp_path):
    (tmp_path / "train.txt").write_text("walk/one 31 1\nrun/two 8 0\n")
    index = read_index(str(tmp_path), "train.txt")
    one, two = Video(str(tmp_path / "walk/one"), 1, 31), Video(str(tmp_path / "run/two"), 0, 8)
    assert (index.videos, index.classes) == ([one, two], ["run", "walk"])
    (tmp_path / "train.txt").write_text("walk/one 0 1\n")
    refuses(ValueError, r":1: '0' is not a frame count", tmp_path, "train.txt")


def test_a_video_whose_name_ends_in_a_number_is_no_rawframes(tmp_path):
    (tmp_path / "train.txt").write_text("one.mp4 31 0\n")
    assert read_index(str(tmp_path), "train.txt").videos[0].path.endswith("one.mp4 31")


# -- official splits -----------------------------------------------------------------------------

TRAIN, TEST = "ucfTrainTestlist/trainlist01.txt", "ucfTrainTestlist/testlist01.txt"
MAKEUP, BABY = "ApplyEyeMakeup/v_ApplyEyeMakeup", "BabyCrawling/v_BabyCrawling"


@pytest.fixture
def ucf(tmp_path):
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\r\n2 BabyCrawling\r\n3 YoYo\r\n")
    lines = f"{MAKEUP}_g08_c01.avi 1\n{BABY}_g08_c01.avi 2\nYoYo/v_YoYo_g08_c01.avi 3\n"
    (tmp_path / TRAIN).write_text(lines)
    (tmp_path / TEST).write_text(f"YoYo/v_YoYo_g01_c01.avi\n{MAKEUP}_g01_c01.avi\n")
    return tmp_path


def test_ucf101(ucf):
    train = read_index(str(ucf), TRAIN)
    assert train.classes == ["ApplyEyeMakeup", "BabyCrawling", "YoYo"]
    assert [v.label for v in train.videos] == [0, 1, 2]
    assert train.videos[1].path == str(ucf / f"{BABY}_g08_c01.avi")
    test = read_index(str(ucf), TEST, known=train.classes, part="test")
    assert [v.label for v in test.videos] == [2, 0]


def test_ucf101_subset_as_in_miniucf(ucf):
    index = read_index(str(ucf), TRAIN, classes=["YoYo", "ApplyEyeMakeup"])
    assert (index.classes, [v.label for v in index.videos]) == (["ApplyEyeMakeup", "YoYo"], [0, 1])
    with pytest.raises(ValueError, match="no class 'YoYoo'; did you mean 'YoYo'"):
        subset(index, ["YoYoo"])


def test_ucf101_mistakes(ucf):
    (ucf / TRAIN).write_text("YoYo/a.avi 3\nYoYo/b.avi 4\n")
    refuses(ValueError, r"trainlist01\.txt:2: label 4 is out of range", ucf, TRAIN)
    (ucf / TRAIN).write_text("YoYo/a.avi 1\n")
    refuses(ValueError, r":1: folder 'YoYo' is not class 1", ucf, TRAIN)
    (ucf / TEST).write_text("Swim/a.avi\n")
    refuses(ValueError, r":1: folder 'Swim' is not", ucf, TEST)
    (ucf / "ucfTrainTestlist" / "classInd.txt").write_text("1 YoYo\n3 Swim\n")
    refuses(ValueError, r"classInd\.txt:2: class number 3, expected 2", ucf, TRAIN)
    (ucf / "ucfTrainTestlist" / "classInd.txt").unlink()
    refuses(FileNotFoundError, "classInd.txt: neither", ucf, TRAIN, "ucf101")


HMDB = "testTrainMulti_7030_splits"


@pytest.fixture
def hmdb(tmp_path):
    splits = tmp_path / HMDB
    splits.mkdir()
    (splits / "brush_hair_test_split1.txt").write_text("b1.avi 1 \nb2.avi 2 \nb3.avi 0 \n")
    (splits / "brush_hair_test_split2.txt").write_text("b1.avi 2 \nb2.avi 1 \nb3.avi 0 \n")
    (splits / "wave_test_split1.txt").write_text("w1.avi 1 \nw2.avi 2 \n")
    (splits / "wave_test_split2.txt").write_text("w1.avi 1 \nw2.avi 0 \n")
    return tmp_path


@pytest.mark.parametrize(
    ("listing", "fmt", "part", "names"),
    [
        (HMDB, "auto", "train", ["brush_hair/b1", "wave/w1"]),
        (HMDB, "auto", "test", ["brush_hair/b2", "wave/w2"]),
        (HMDB, "hmdb51_all", "train", ["brush_hair/b1", "brush_hair/b3", "wave/w1"]),
        (HMDB, "hmdb51_all", "test", ["brush_hair/b2", "wave/w2"]),
        (f"{HMDB}/*_test_split2.txt", "auto", "train", ["brush_hair/b2", "wave/w1"]),
    ],
)
def test_hmdb51(hmdb, listing, fmt, part, names):
    index = read_index(str(hmdb), listing, fmt, part=part)
    assert index.classes == ["brush_hair", "wave"]
    assert found(index, hmdb) == [(f"{n}.avi", index.classes.index(n.split("/")[0])) for n in names]


def test_hmdb51_mistakes(hmdb):
    (hmdb / HMDB / "wave_test_split1.txt").write_text("w1.avi 3\n")
    refuses(ValueError, r"wave_test_split1\.txt:1: flag '3'", hmdb, HMDB)
    refuses(FileNotFoundError, "no split files", hmdb, ".", "hmdb51")


CSV = "label,youtube_id,time_start,time_end,split\n"


def test_kinetics(tmp_path):
    touch(tmp_path, "train/fly kite/-abc_def01_000010_000020.mp4", "replacement/xyz_000000_000010.mkv")
    (tmp_path / "train" / "yoga" / "frm_000001_000011").mkdir(parents=True)
    rows = ["yoga,xyz,0,10", "fly kite,-abc_def01,10,20", "yoga,gone,5,15", "yoga,frm,1.0,11.0"]
    (tmp_path / "train.csv").write_text(CSV + "".join(f"{row},train\n" for row in rows))
    index = read_index(str(tmp_path), "train.csv")
    assert index.classes == ["fly kite", "yoga"]
    assert found(index, tmp_path) == [
        ("replacement/xyz_000000_000010.mkv", 1),
        ("train/fly kite/-abc_def01_000010_000020.mp4", 0),
        ("gone_000005_000015.mp4", 1),  # missing: whoever opens it says so
        ("train/yoga/frm_000001_000011", 1),
    ]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (CSV + "swimming,xyz,0,10,val\n", r"val\.csv:2: label 'swimming' is out of range"),
        ("youtube_id,time_start,time_end\nxyz,0,10\n", r"val\.csv:1: no column label"),
        (CSV + "yoga,xyz,0,10,val\nyoga,xyz,zero,10,val\n", r"val\.csv:3: 'zero' is not a time"),
        (CSV + ",xyz,0,10,test\n", r"val\.csv:2: no label"),
    ],
)
def test_kinetics_mistakes(tmp_path, text, match):
    (tmp_path / "val.csv").write_text(text)
    refuses(ValueError, match, tmp_path, "val.csv", known=["fly kite", "yoga"], part="test")


PUT = {"id": "78687", "label": "putting a cup on a table", "template": "Putting [something] on a table"}
HOLD = {"id": "42326", "template": "Holding [something]", "placeholders": ["potato"]}


@pytest.fixture
def ssv2(tmp_path):
    touch(tmp_path, "20bn-something-something-v2/78687.webm", "20bn-something-something-v2/42326.webm")
    (tmp_path / "labels").mkdir()
    names = {"Putting something on a table": "1", "Holding something": "0"}
    (tmp_path / "labels" / "labels.json").write_text(json.dumps(names))
    (tmp_path / "labels" / "train.json").write_text(json.dumps([PUT, HOLD]))
    return tmp_path


def test_something_something(ssv2):
    index = read_index(str(ssv2), "labels/train.json")
    assert index.classes == ["Holding something", "Putting something on a table"]
    names = [f"20bn-something-something-v2/{n}.webm" for n in (78687, 42326)]
    assert found(index, ssv2) == list(zip(names, [1, 0], strict=True))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[{"id": "1"}]', r"test\.json: entry 0: no id and template"),
        (
            json.dumps([PUT, {"id": "1", "template": "Flying"}]),
            r"test\.json: entry 1: template 'Flying' is not",
        ),
        ("[{]", r"test\.json is not valid JSON: line 1"),
        ("{}", r"test\.json: expected a list"),
    ],
)
def test_something_something_mistakes(ssv2, text, match):
    (ssv2 / "labels" / "test.json").write_text(text)
    refuses(ValueError, match, ssv2, "labels/test.json")


def test_something_something_with_class_numbers(tmp_path):
    touch(tmp_path, "7.webm", "8.webm")
    rows = [{"id": 7, "class": 1}, {"id": 8, "class": 0}]
    (tmp_path / "annot_train.json").write_text(json.dumps(rows))
    index = read_index(str(tmp_path), "annot_train.json")
    assert (index.classes, found(index, tmp_path)) == (["0", "1"], [("7.webm", 1), ("8.webm", 0)])
