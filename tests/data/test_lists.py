"""Lists in the forms that other toolkits and people write them."""

import json
import os
import warnings
from pathlib import Path

import pytest

from tests.data.test_index import found, refuses, touch
from vdc.data import RealData
from vdc.data.index import Video, read_index
from vdc.data.splits import read_lists
from vdc.spec import ClipSpec

WALK_RUN = [("walk/a.mp4", "walk"), ("run/b.mp4", "run")]


def read(root, text, name="train.csv", **options):
    (root / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    index = read_index(str(root), name, **options)
    return index, [(path, index.classes[label]) for path, label in found(index, root)]


# -- recognised by content -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.csv", "train.txt", "train.list", "train.tsv", "train"])
@pytest.mark.parametrize(
    "text",
    [
        "walk/a.mp4 0\nrun/b.mp4 1\n",  # SlowFast, VideoMAE
        "walk/a.mp4  \t 0\r\nrun/b.mp4\t1\r\n",
        "walk/a.mp4,0\nrun/b.mp4,1\n",
        "walk/a.mp4, 0 \n\nrun/b.mp4 ,1\n\n",
        "walk/a.mp4,0,\nrun/b.mp4,1,\n",
        "walk/a.mp4;0\nrun/b.mp4;1\n",
        "walk/a.mp4\t0\rrun/b.mp4\t1\r",
        "path,label\nwalk/a.mp4,0\nrun/b.mp4,1\n",
        "label,path\nwalk,walk/a.mp4\nrun,run/b.mp4\n",
        "clip_name,clip_path,label\na,/walk/a.mp4,walk\nb,/run/b.mp4,run\n",  # UCF101 at Kaggle
        "Video Path;Class Name\nwalk/a.mp4;walk\nrun/b.mp4;run\n",
        '"walk/a.mp4","walk"\n"run/b.mp4","run"\n',
        "walk/a.mp4 walk\nrun/b.mp4 run\n",
        "walk,walk/a.mp4\nrun,run/b.mp4\n",
        "walk/a.mp4 0.0\nrun/b.mp4 1.0\n",  # pandas, of a column with gaps
        "walk/a.mp4\nrun/b.mp4\n",  # the folder is the class
        "path\nwalk/a.mp4\nrun/b.mp4\n",
        "walk/a 0\nrun/b 1\n",  # without suffix
        "walk/a,walk\nrun/b,run\n",
        "# made by hand\nwalk/a.mp4 0\n# walk/c.mp4 0\nrun/b.mp4 1\n",
        "walk\\a.mp4 0\nrun\\b.mp4 1\n",  # Windows
        "\ufeffwalk/a.mp4 0\nrun/b.mp4 1\n",
        "walk/a.mp4 0\nrun/b.mp4 1\n".encode("utf-16"),
        "walk/a.mp4 0\nrun/b.mp4 1\n".encode("utf-16-be"),
    ],
)
def test_the_same_list_in_many_forms(tmp_path, name, text):
    touch(tmp_path, "walk/a.mp4", "run/b.mp4")
    assert read(tmp_path, text, name)[1] == WALK_RUN


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ('"walk/a, b.mp4",0\nrun/c.mp4,1\n', ["walk/a, b.mp4", "run/c.mp4"]),
        ("walk/a, b.mp4,0\nrun/c.mp4,1\n", ["walk/a, b.mp4", "run/c.mp4"]),
        ("walk/a, b.mp4 0\nrun/c.mp4 1\n", ["walk/a, b.mp4", "run/c.mp4"]),
        ("walk/a  b.mp4 0\nrun/c\td.mp4 1\n", ["walk/a  b.mp4", "run/c\td.mp4"]),
        ('"walk/a b.mp4" 0\nrun/c.mp4 1\n', ["walk/a b.mp4", "run/c.mp4"]),
        ("walk/a;b.mp4,0\nrun/c.mp4,1\n", ["walk/a;b.mp4", "run/c.mp4"]),
        ("[x]/a.mp4 0\n{y}/b.mp4 1\n", ["[x]/a.mp4", "{y}/b.mp4"]),
        ("walk/a.v1.mp4 0\nrun/c 1.mp4 1\n", ["walk/a.v1.mp4", "run/c 1.mp4"]),
        ("walk/gr\u00fc\u00df\u3000e.mp4 0\nrun/c\x85\u2028d.mp4 1\n",
         ["walk/gr\u00fc\u00df\u3000e.mp4", "run/c\x85\u2028d.mp4"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("there", [True, False])
def test_paths_with_separators_in_them(tmp_path, text, want, there):
    touch(tmp_path, *want if there else ())
    index, _ = read(tmp_path, text)
    assert found(index, tmp_path) == [(want[0], 0), (want[1], 1)]


def test_names_of_classes_may_hold_spaces_and_commas(tmp_path):
    text = 'a.mp4,"pick up, slowly"\nb.mp4,"say ""hi"""\n'
    assert read(tmp_path, text)[0].classes == ["pick up, slowly", 'say "hi"']
    assert read(tmp_path, "x/a.mp4 pick up\nx/b.mp4 run 2 miles\n")[0].classes == ["pick up", "run 2 miles"]


def test_absolute_paths(tmp_path):
    touch(tmp_path, "videos/walk/a.mp4", "videos/run/b.mp4")
    text = "".join(f"{tmp_path}/videos/{path},{label}\n" for path, label in WALK_RUN)
    assert read(tmp_path, text)[1] == [(f"videos/{path}", label) for path, label in WALK_RUN]


def test_a_name_that_begins_with_a_hash_is_no_comment(tmp_path):
    touch(tmp_path, "#122 walk.mp4", "walk/#4.avi")
    text = "#122 walk.mp4 0\n#123 walk.mp4 0\nwalk/#4.avi 1\n"
    assert [path for path, _ in read(tmp_path, text)[1]] == ["#122 walk.mp4", "walk/#4.avi"]
    splits = tmp_path / "splits"
    splits.mkdir()
    (splits / "fence_test_split1.txt").write_text("#2006_fence.avi 1\nb.avi 2\n")
    index = read_index(str(tmp_path), "splits")
    assert [Path(video.path).name for video in index.videos] == ["#2006_fence.avi"]


def test_lists_of_something_something_as_mmaction_writes_them(tmp_path):
    touch(tmp_path, "20bn/78687.webm", "20bn/42326.webm")
    for text in ("78687 1\n42326 0\n", "78687,b\n42326,a\n", "78687.webm 1\n42326.webm 0\n"):
        root = tmp_path / "20bn" if "webm" in text else tmp_path
        (root / "list.txt").write_text(text)
        names = [
            (Path(v.path).relative_to(tmp_path), v.label) for v in read_index(str(root), "list.txt").videos
        ]
        assert names == [(Path("20bn/78687.webm"), 1), (Path("20bn/42326.webm"), 0)]
    (tmp_path / "raw.txt").write_text("78687 31 1\n42326 8 0\n")
    videos = read_index(str(tmp_path / "20bn"), str(tmp_path / "raw.txt")).videos
    assert [(v.frames, v.label) for v in videos] == [(31, 1), (8, 0)]


@pytest.mark.parametrize(
    "text",
    [
        "walk/one 31 1\nrun/two 8 0\n",
        "walk/one,31,1\nrun/two,8,0\n",
        "path num_frames label\nwalk/one 31 1\nrun/two 8 0\n",
        "label,frames,path\n1,31.0,walk/one\n0,8.0,run/two\n",
    ],
)
def test_rawframes_by_any_separator(tmp_path, text):
    videos = read(tmp_path, text)[0].videos
    assert videos == [Video(str(tmp_path / "walk/one"), 1, 31), Video(str(tmp_path / "run/two"), 0, 8)]


def test_a_folder_whose_name_ends_in_a_number_is_no_rawframes(tmp_path):
    touch(tmp_path, "walk/take 3/1.jpg", "walk/take 4/1.jpg")
    assert [path for path, _ in read(tmp_path, "walk/take 3 0\nwalk/take 4 0\n")[1]] == [
        "walk/take 3",
        "walk/take 4",
    ]


META = """clip,label,class_name,frames,split
x/1.mp4,1,kick,54,train
x/2.mp4,0,hug,67,train
x/3.mp4,1,kick,9,test
"""


def test_a_table_with_a_column_of_parts(tmp_path):
    (tmp_path / "meta.csv").write_text(META)
    lists = read_lists(str(tmp_path), "meta.csv", "meta.csv", "auto", None)
    assert lists["train"].classes == ["hug", "kick"]
    one, two = (Video(str(tmp_path / f"x/{i}.mp4"), 2 - i) for i in (1, 2))
    assert lists["train"].videos == [one, two]
    assert lists["test"].videos == [Video(str(tmp_path / "x/3.mp4"), 1)]
    (tmp_path / "meta.csv").write_text(META.replace("test", "validation"))
    assert len(read_lists(str(tmp_path), "meta.csv", "meta.csv", "auto", None)["test"].videos) == 1


def test_a_table_that_contradicts_itself(tmp_path):
    (tmp_path / "meta.csv").write_text(META.replace("54,train", "54,extra"))
    refuses(ValueError, r"meta\.csv:2: 'extra' is no part", tmp_path, "meta.csv")
    (tmp_path / "meta.csv").write_text(META.replace("x/2.mp4,0", "x/2.mp4,1"))
    refuses(
        ValueError, r"meta\.csv:3: label 1 is 'hug' here, and 'kick' at .*meta\.csv:2", tmp_path, "meta.csv"
    )


def test_ucf101_under_other_names_is_told_by_its_numbers(tmp_path):
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    (tmp_path / "my_train.txt").write_text(
        "Archery/v_Archery_g01_c01.avi 1\nBiking\\v_Biking_g02_c01.avi 2\n"
    )
    index = read_index(str(tmp_path), "my_train.txt")
    assert (index.classes, [v.label for v in index.videos]) == (["Archery", "Biking"], [0, 1])
    assert index.videos[1].path == str(tmp_path / "Biking/v_Biking_g02_c01.avi")
    (tmp_path / "my_train.txt").write_text("Archery/v_Archery_g01_c01.avi 0\nBiking/v_Biking_g02_c01.avi 1\n")
    assert [v.label for v in read_index(str(tmp_path), "my_train.txt").videos] == [
        0,
        1,
    ]  # mmaction counts from 0


def test_kinetics_by_its_columns_whatever_the_suffix(tmp_path):
    text = 'youtube_id, label ,time_start,time_end,split\nabc,"a, b",10.0,20,train\n'
    assert read(tmp_path, text, "list.txt")[1] == [("abc_000010_000020.mp4", "a, b")]


def test_json_in_a_file_of_any_name(tmp_path):
    rows = json.dumps([{"id": "7", "class": 1}, {"id": "8", "class": 0.0}])
    assert read(tmp_path, rows, "list.txt")[1] == [("7.mp4", "1"), ("8.mp4", "0")]
    assert read(tmp_path, "\ufeff" + rows, "list.json")[1] == [("7.mp4", "1"), ("8.mp4", "0")]


# -- refused, with the remedy --------------------------------------------------------------------

BAD = [
    "²",
    "--1",
    "9" * 5000,
    "nan",
    "NaN",
    "inf",
    "-inf",
    "-1",
    "+1",
    "\u0661",
    "1e3",
    "0.5",
    "1_0",
    "None",
    "½",
]


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad != "½"])
@pytest.mark.parametrize("line", ["{}", "path,label\na.mp4,{}"])
@pytest.mark.parametrize("part", ["train", "test"])
def test_a_label_that_is_no_whole_number_is_named_by_file_and_line(tmp_path, bad, line, part):
    text = f"a.mp4 0\nb.mp4 {bad}\n" if line == "{}" else f"path,label\na.mp4,0\nb.mp4,{bad}\n"
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    at = text[: text.index(bad)].count("\n") + 1
    known = ["x", "y"] if part == "test" else None
    refuses(ValueError, rf"list\.txt:{at}: '.* is not a label", tmp_path, "list.txt", known=known, part=part)
    (tmp_path / "list.txt").write_text(f"a.mp4,{bad}\n", encoding="utf-8")  # alone
    refuses(ValueError, r"list\.txt:1: '.* is not a label", tmp_path, "list.txt", known=known, part=part)


@pytest.mark.parametrize("bad", BAD)
def test_other_numbers_are_checked_alike(tmp_path, bad):
    (tmp_path / "raw.txt").write_text(f"walk/one 8 0\nwalk/two 9 0\nwalk/three {bad} 0\n", encoding="utf-8")
    refuses(ValueError, r"raw\.txt:3: ", tmp_path, "raw.txt", "rawframes")
    (tmp_path / "k.csv").write_text(f"label,youtube_id,time_start,time_end\na,x,{bad},10\n", encoding="utf-8")
    if bad != "0.5":
        refuses(ValueError, r"k\.csv:2: '.* is not a time in seconds", tmp_path, "k.csv")
    (tmp_path / "classInd.txt").write_text(f"{bad} Archery\n", encoding="utf-8")
    (tmp_path / "trainlist01.txt").write_text("Archery/a.avi 1\n")
    refuses(ValueError, r"classInd\.txt:1: '.* is not a class number", tmp_path, "trainlist01.txt")
    (tmp_path / "classInd.txt").write_text("1 Archery\n")
    (tmp_path / "trainlist01.txt").write_text(f"Archery/a.avi {bad}\n", encoding="utf-8")
    refuses(ValueError, r"trainlist01\.txt:1: ", tmp_path, "trainlist01.txt")


@pytest.mark.parametrize("bad", ["-1", "NaN", "Infinity", "1e400", "0.5", "true", "[0]", "9" * 5000, "-0.5"])
def test_numbers_in_json_are_checked_alike(tmp_path, bad):
    for text in (f'[{{"id": 1, "class": {bad}}}]', f'[{{"id": {bad}, "class": 0}}]'):
        (tmp_path / "list.json").write_text(text)
        refuses(ValueError, r"list\.json", tmp_path, "list.json")
    (tmp_path / "list.json").write_text('[{"id": 1, "template": "a"}]')
    (tmp_path / "labels.json").write_text(f'{{"a": {bad}}}')
    refuses(ValueError, r"labels\.json", tmp_path, "list.json")


def test_a_label_table_with_gaps_or_of_another_kind_is_refused(tmp_path):
    (tmp_path / "list.json").write_text('[{"id": 1, "template": "a"}]')
    for table, match in (('{"a": 0, "b": 2}', "expected the numbers 0 to 1"), ("[1]", "found list")):
        (tmp_path / "labels.json").write_text(table)
        refuses(ValueError, rf"labels\.json: .*{match}", tmp_path, "list.json")
    (tmp_path / "labels.json").unlink()
    for text in ("[" * 100_000, "{", '[{"id": 1, "class": 0}, {"id": 2, "template": "x"}]'):
        (tmp_path / "list.json").write_text(text)
        refuses(ValueError, r"list\.json", tmp_path, "list.json")


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("known", [None, ["x", "y"]])
def test_a_large_label_is_refused_before_names_are_built(tmp_path, part, known):
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 400000000\n")
    refuses(ValueError, r"list\.txt:2: label 400000000", tmp_path, "list.txt", part=part, known=known)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a.mp4 0 2 3\nb.mp4 1\n", r":1: 3 numbers after 'a\.mp4': expected one label per video.*keep one"),
        ("a.mp4,0,2\nb.mp4,1\n", r":1: 2 numbers after"),
        ('a.mp4,"0,2"\nb.mp4,1\n', r":1: several labels '0,2'.*keep one"),
        ("a.mp4,0|2\nb.mp4,1\n", r":1: several labels"),
        ("a.mp4,1,2,3,x\n", r":1: 5 columns and no header: .*'path,label'"),
        ("a.mp4,\nb.mp4,1\n", r":1: expected 'path label'"),
        ("path,label\na.mp4,\nb.mp4,1\n", r":2: no label"),
        ("path,label\na.mp4\n", r":2: no label"),
        ("path,label\n,1\n", r":2: no path"),
        ("path,label\na.mp4,0,7\n", r":2: 3 cells, expected 2: path, label"),
        (
            "path,klasse\na.mp4,0\n",
            r":2: no column of labels among path, klasse; expected one of label, class",
        ),
        ("datei,label\na.mp4,0\n", r":2: no column of paths among datei, label; expected one of path"),
        ('"a.mp4,0\nb.mp4,1\n', r":1: .*unexpected end"),
        ("a.mp4\n", r":1: 'a\.mp4' has neither a label nor a class folder"),
        (
            "a.mp4 1\nb.mp4 2\n",
            r":2: label 2, but no video has label 0; labels count from 0: number the classes",
        ),
        ("a.mp4,walk\nb.mp4,run\nc.mp4,3\n", r":3: '3' is a number where other lines name the class"),
        ("", "lists no train videos"),
        ("path,label\n", "lists no train videos"),
        ("# nothing\n", "lists no train videos"),
        (b"a.mp4\x00 0\n", "not a text file"),
        (b"\x89PNG\r\n\x1a\n", "not a text file"),
    ],
)
def test_what_cannot_be_read_says_what_was_expected(tmp_path, text, match):
    (tmp_path / "train.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    refuses(ValueError, match, tmp_path, "train.csv")


def test_two_numbers_behind_a_video_that_is_there_are_two_labels(tmp_path):
    touch(tmp_path, "one.mp4")
    (tmp_path / "train.txt").write_text("one.mp4 31 0\n")
    refuses(ValueError, "2 numbers after 'one.mp4': expected one label per video", tmp_path, "train.txt")
    touch(tmp_path, "one.mp4 31")
    assert read_index(str(tmp_path), "train.txt").videos[0].path.endswith("one.mp4 31")


def test_a_test_label_names_the_nearest_class_or_says_that_labels_count_from_0(tmp_path):
    (tmp_path / "test.csv").write_text("a.mp4,Walk\n")
    refuses(ValueError, "did you mean 'walk'", tmp_path, "test.csv", known=["run", "walk"], part="test")
    (tmp_path / "test.csv").write_text("a.mp4,2\n")
    refuses(ValueError, "labels count from 0", tmp_path, "test.csv", known=["run", "walk"], part="test")


def test_class_tables(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4 1\nb.mp4 0\n")
    (tmp_path / "classes.txt").write_text("0 run\n1 walk slowly\n")
    assert read_index(str(tmp_path), "train.txt").classes == ["run", "walk slowly"]
    (tmp_path / "classes.txt").write_text("run\nwalk\nrun\n")
    refuses(
        ValueError, r"classes\.txt:3: class 'run' is there before, at .*classes\.txt:1", tmp_path, "train.txt"
    )
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    (tmp_path / "train.txt").write_text("a.mp4,run\nb.mp4,walk\n")
    assert [v.label for v in read_index(str(tmp_path), "train.txt").videos] == [1, 0]


# -- warned of -----------------------------------------------------------------------------------


def test_a_video_listed_twice_under_any_spelling(tmp_path):
    touch(tmp_path, "walk/a.mp4", "walk/b.mp4")
    (tmp_path / "link.mp4").symlink_to("walk/a.mp4")
    os.link(tmp_path / "walk/a.mp4", tmp_path / "hard.mp4")
    text = "walk/a.mp4 0\n./walk/a.mp4 0\nwalk/../walk//a.mp4 0\nlink.mp4 0\nhard.mp4 0\nwalk/b.mp4 0\n"
    with pytest.warns(
        UserWarning, match=r"train\.csv:2: '\./walk/a\.mp4' is listed before, at .*:1; 4 videos"
    ):
        assert len(read(tmp_path, text)[0].videos) == 6
    with pytest.warns(UserWarning, match="is listed before"):  # missing files too
        read(tmp_path, "x/a.mp4 0\n./x/a.mp4 0\n")


def test_a_video_with_two_labels(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/b.mp4")
    with pytest.warns(
        UserWarning, match=r":3: '\./walk/a\.mp4' has the label 'run' here and 'walk' at .*:1; 1 videos"
    ):
        read(tmp_path, "walk/a.mp4,walk\nrun/b.mp4,run\n./walk/a.mp4,run\n")


def test_a_sound_list_is_read_without_a_word(tmp_path):
    touch(tmp_path, "walk/a.mp4", "run/b.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(tmp_path, "walk/a.mp4 0\nrun/b.mp4 1\n")[1] == WALK_RUN


def test_classes_that_differ_by_case_or_spaces(tmp_path):
    for first, second in (("Walk", "walk"), ("pick up", "pickup"), ("pick  up", "pick up")):
        with pytest.warns(UserWarning, match=f"classes '{first}' and '{second}' differ by case or spaces"):
            read(tmp_path, f'a.mp4,"{first}"\nb.mp4,"{second}"\n')


def test_test_labels_that_contradict_their_folders(tmp_path):
    known = ["run", "swim", "walk"]
    (tmp_path / "test.txt").write_text("run/a.mp4 1\nswim/b.mp4 2\n")  # counted from 1
    match = r"test\.txt:1: label 1 is class 'swim', but the video lies in folder 'run'; so do 2 of 2"
    refuses(ValueError, match, tmp_path, "test.txt", known=known, part="test")
    (tmp_path / "test.txt").write_text("run/a.mp4 0\nswim/b.mp4 1\nrun/c.mp4 2\n")
    with pytest.warns(UserWarning, match=r"test\.txt:3: label 2 is class 'walk'.*1 of 3"):
        read_index(str(tmp_path), "test.txt", known=known, part="test")


def test_numbers_for_classes_that_the_training_list_names(tmp_path):
    (tmp_path / "train.txt").write_text("a.mp4,walk\nb.mp4,run\n")
    (tmp_path / "test.txt").write_text("c.mp4,0\n")
    with pytest.warns(UserWarning, match=r"--data\.test: labels are numbers.*'run', 'walk'"):
        read_lists(str(tmp_path), "train.txt", "test.txt", "auto", None)


@pytest.mark.parametrize(
    "spelling", ["./walk/a.mp4", "x/../walk/a.mp4", "link.mp4", "hard.mp4", "walk/a.mp4"]
)
def test_a_training_video_in_the_test_list_under_another_spelling(tmp_path, spelling):
    touch(tmp_path, "walk/a.mp4", "walk/b.mp4", "x/c.mp4")
    (tmp_path / "link.mp4").symlink_to("walk/a.mp4")
    os.link(tmp_path / "walk/a.mp4", tmp_path / "hard.mp4")
    (tmp_path / "train.txt").write_text("walk/a.mp4 0\nwalk/b.mp4 0\n")
    (tmp_path / "test.txt").write_text(f"{spelling} 0\n")
    data = RealData(str(tmp_path), "train.txt", "test.txt", spec=ClipSpec(frames=4, size=16))
    with pytest.warns(UserWarning, match="1 test videos are also training videos, for example"):
        _ = data.splits
