"""Splits of class folders that had none: stratified, clips of one source together."""

import random
import time
from collections import Counter
from pathlib import Path

import pytest

from vdc.data.index import Video
from vdc.data.sources import sources_of
from vdc.data.stratify import stratify

CLASSES = ["hug", "kick", "wave"]


def split(names, classes=CLASSES, **options):
    """Split of `<class>/<name>` and, per part, the paths."""
    videos = [Video(f"/set/{name}", classes.index(name.split("/")[0])) for name in names]
    found = stratify(videos, classes, **options)
    rows = [row for part in found.parts.values() for row in part]
    assert sorted(rows) == list(range(len(names)))  # each once
    return found, {part: [names[row] for row in rows] for part, rows in found.parts.items()}


def ucf(groups=25, clips=4):
    return [
        f"{k}/v_{k}_g{g:02}_c{c:02}.avi"
        for k in CLASSES
        for g in range(1, groups + 1)
        for c in range(1, clips + 1)
    ]


def hmdb():
    return [
        f"{k}/Film_{film}_{k}_{'fulh'[film % 4]}_{'cm' if film % 2 else 'nm'}_np1_fr_med_{i}.avi"
        for k in CLASSES
        for film in range(10)
        for i in range(1 + film % 3)
    ]


def ut():
    return [
        f"{k}/ut_s{1 + s // 11}_seq{s:02}_{(7 * s) % 60:03}_{k}.mp4" for k in CLASSES for s in range(1, 21)
    ]


PERSONS = [
    f"{k}/person{p:02}_{k}_d{d}_uncomp.avi" for k in CLASSES for p in range(1, 11) for d in range(1, 5)
]
SPEAKERS = [
    f"{k}/s{p}_{a}{k[0]}{i}n.mpg"
    for k in CLASSES
    for p in range(1, 9)
    for i, a in enumerate(("bb", "lg", "sw"))
]
FIRST = [
    f"{k}/{who}_{k}{i}.avi" for k in CLASSES for who in ("daria", "eli", "ido", "ira", "lena") for i in (1, 2)
]
KINETICS = [
    f"{k}/-{v}bc_efghi{v}_{s:06}_{s + 10:06}.mp4" for k in CLASSES for v in range(10) for s in (3, 17)
]


@pytest.mark.parametrize(
    ("names", "told", "source"),
    [
        (ucf(), "UCF101's groups", lambda name: Path(name).stem[:-4]),
        (hmdb(), "HMDB51's sources", lambda name: "_".join(Path(name).name.split("_")[:2])),
        (KINETICS, "Kinetics' video ids", lambda name: Path(name).stem[:-14]),
        (ut(), "sequences", lambda name: name.split("_")[2]),
        (PERSONS, "persons", lambda name: Path(name).name[:8]),
        (SPEAKERS, "persons", lambda name: Path(name).name.split("_")[0]),
        (FIRST, "first words of the names", lambda name: Path(name).name.split("_")[0]),
        ([n.replace("person", "a1_s") for n in PERSONS], "persons", lambda name: Path(name).name.split("_")[1]),
        ([f"{k}/S001C00{c}P{p:03}R001A0{c}1.avi" for k in CLASSES for p in range(9) for c in (1, 2)],
         "NTU's persons", lambda name: Path(name).name[8:12]),
    ],
)  # fmt: skip
def test_clips_of_one_source_stay_together(names, told, source):
    found, parts = split(names)
    assert found.told_by == told
    assert found.sources == len({source(name) for name in names})
    assert not {source(name) for name in parts["train"]} & {source(name) for name in parts["test"]}
    for k in CLASSES:
        share = sum(name.startswith(k) for name in parts["test"]) / sum(name.startswith(k) for name in names)
        assert 0.1 <= share <= 0.34
    assert any(told in note for note in found.notes)


def test_shares_are_met_exactly_where_sources_allow():
    _, parts = split(ut())
    assert Counter(name.split("/")[0] for name in parts["test"]) == dict.fromkeys(CLASSES, 4)
    _, parts = split(ucf(), shares={"train": 3, "val": 1, "test": 1})
    counts = {part: Counter(name.split("/")[0] for name in held) for part, held in parts.items()}
    assert counts == {
        "train": dict.fromkeys(CLASSES, 60),
        "val": dict.fromkeys(CLASSES, 20),
        "test": dict.fromkeys(CLASSES, 20),
    }


def test_names_that_do_not_tell_are_said_not_to():
    words = [f"{a}{b}{c}{d}8{e}" for a in "bls" for b in "bgr" for c in "aw" for d in "adfz" for e in "np"]
    for names in (
        [
            f"{k}/{word}.mp4" for k in CLASSES for word in random.Random(k).sample(words, 40)
        ],  # GRID, one speaker
        [f"{k}/{i:03}.mp4" for k in CLASSES for i in range(40)],
        [f"{k}/{k}_{i}.mp4" for k in CLASSES for i in range(40)],
        [f"{k}/{('IMG', 'MOV', 'clip')[i % 3]}_{i:04}.mp4" for k in CLASSES for i in range(40)],
    ):
        found, parts = split(names)
        assert (found.told_by, found.sources) == ("", 120)
        assert "names do not tell" in found.notes[0]
        assert Counter(name.split("/")[0] for name in parts["test"]) == dict.fromkeys(CLASSES, 8)


def test_it_is_a_function_of_names_and_seed():
    names = ucf()
    shuffled = random.Random(0).sample(names, len(names))
    first, again, other = (split(n, seed=s)[1]["test"] for n, s in ((names, 0), (shuffled, 0), (names, 1)))
    assert sorted(first) == sorted(again)
    assert sorted(first) != sorted(other)


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_part_has_every_class_where_it_can(count):
    found, parts = split([f"{k}/{i}.mp4" for k in CLASSES for i in range(count)])
    for part in ("train", "test"):
        assert {name.split("/")[0] for name in parts[part]} == set(CLASSES)
    assert len(parts["test"]) == 3
    assert len(found.notes) == 1


def test_a_single_clip_trains_and_is_said_to():
    found, parts = split(["hug/1.mp4", "kick/1.mp4", "kick/2.mp4", "kick/3.mp4"])
    assert "hug/1.mp4" in parts["train"]
    assert any("1 classes have too few sources to be in test: 'hug'" in note for note in found.notes)


def test_a_class_of_one_source_is_split_clip_by_clip_and_said_to_be():
    names = [*ucf(), *(f"jump/v_jump_g01_c{i:02}.avi" for i in range(1, 11))]
    found, parts = split(names, classes=[*CLASSES, "jump"])
    assert sum(name.startswith("jump") for name in parts["test"]) == 2
    assert any(
        "1 classes have a single source, and are split clip by clip: 'jump'" in note for note in found.notes
    )


def test_persons_who_do_not_do_everything():
    names = [f"hug/p01_{i}.avi" for i in range(4)] + [f"hug/p02_{i}.avi" for i in range(4)]
    names += [f"kick/p02_{i}.avi" for i in range(4)] + [f"kick/p03_{i}.avi" for i in range(4)]
    found, parts = split(names)
    assert found.told_by == "persons"
    held = {part: {name.split("/")[1][:3] for name in paths} for part, paths in parts.items()}
    assert not held["train"] & held["test"]
    assert {name.split("/")[0] for name in parts["train"]} == {"hug", "kick"}


def test_shares_must_be_positive():
    with pytest.raises(ValueError, match="must be positive"):
        split(["hug/1.mp4"], shares={"train": 1, "test": 0})


def test_the_class_is_no_part_of_a_source():
    names = [
        "brush hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "wave/April_09_wave_u_nm_np1_ba_goo_1.avi",
    ]
    assert sources_of(names, ["brush hair", "wave"])[0] == ["April_09", "April_09"]


def test_many_sources_take_time_in_proportion():
    """Kinetics has 306,245 videos of as many sources; the ratio of two CPU times does not depend on load."""

    def seconds(count):
        videos = [Video(f"/set/{CLASSES[i % 3]}/{i}.avi", i % 3) for i in range(count)]
        started = time.process_time()
        stratify(videos, CLASSES)
        return time.process_time() - started

    seconds(1000)
    assert seconds(32000) < 10 * seconds(8000)
