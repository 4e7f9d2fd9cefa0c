"""The data configurations against the numbers of Wang 2024, on lists with as many lines."""

from pathlib import Path

import pytest
import yaml

from vdc.data import RealData
from vdc.spec import ClipSpec

CONFIGS = Path(__file__).parents[2] / "configs"
# training / test videos of a class in yuz1wan/video_distillation@5871dc5:UCF101/ucf50_splits1.csv
MINIUCF = """ApplyEyeMakeup 101/44, BalanceBeam 77/31, BandMarching 112/43, BaseballPitch 107/43, Basketball 99/35,
BasketballDunk 94/37, Biking 96/38, Billiards 110/40, BlowingCandles 76/33, Bowling 112/43, BreastStroke 73/28,
CleanAndJerk 79/33, CliffDiving 99/39, CricketShot 118/49, Diving 105/45, FloorGymnastics 89/36, FrisbeeCatch 89/37,
GolfSwing 100/39, HammerThrow 105/45, HighJump 86/37, HorseRace 89/35, HorseRiding 115/49, HulaHoop 91/34,
IceDancing 112/46, JumpingJack 86/37, Knitting 89/34, MilitaryParade 92/33, Mixing 91/45, ParallelBars 77/37,
PlayingPiano 77/28, PlayingViolin 72/28, PoleVault 109/40, PommelHorse 88/35, Punch 121/39, Rafting 83/28,
Rowing 101/36, SkateBoarding 88/32, Skiing 95/40, Skijet 72/28, SkyDiving 79/31, SoccerPenalty 96/41,
StillRings 80/32, SumoWrestling 82/34, Surfing 93/33, Swing 89/42, TennisSwing 117/49, TrampolineJumping 87/32,
UnevenBars 76/28, VolleyballSpiking 81/35, WritingOnBoard 107/45"""


def made(name, root):
    """The data of a configuration, read from `root`."""
    held = yaml.safe_load((CONFIGS / f"data/data_{name}.yaml").read_text())["data"]["init_args"]
    spec = ClipSpec(**held.pop("spec"))
    return RealData(**held | {"root": str(root), "spec": spec, "load_size": tuple(held["load_size"])})


def test_miniucf(tmp_path):
    counts = {name: sizes.split("/") for name, sizes in (entry.split() for entry in MINIUCF.split(","))}
    names = sorted([*counts, "Archery", "YoYo", *(f"Other{i:02}" for i in range(49))])
    (tmp_path / "classInd.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(names, 1)))
    for part, place in (("train", 0), ("test", 1)):
        lines = [
            f"{name}/v_{name}_g{i}.avi" + f" {names.index(name) + 1}" * (part == "train")
            for name in names
            for i in range(int(counts.get(name, (5, 5))[place]))
        ]
        (tmp_path / f"{part}list01.txt").write_text("\n".join(lines) + "\n")
    data = made("miniucf", tmp_path)
    lists = data._lists
    assert data.classes == list(counts)
    assert (len(lists["train"].videos), len(lists["test"].videos)) == (4662, 1861)
    found = [video.label for video in lists["train"].videos]
    assert [found.count(label) for label in range(50)] == [int(train) for train, _ in counts.values()]
    assert (data.spec.frames, data.spec.stride, data.spec.size, data.load_size) == (16, 4, 112, (120, 160))


@pytest.mark.parametrize(("official", "videos"), [(False, 5236), (True, 3570)])
def test_hmdb51(tmp_path, official, videos):
    (tmp_path / "splits").mkdir()
    for k in range(51):
        unused = 1666 // 51 + (k < 1666 % 51)
        flags = [1] * 70 + [2] * 30 + [0] * unused
        lines = "".join(f"clip{i}.avi {flag} \n" for i, flag in enumerate(flags))
        (tmp_path / f"splits/class{k:02}_test_split1.txt").write_text(lines)
    data = made("hmdb51", tmp_path)
    if official:
        data.format = "hmdb51"
    assert (len(data._lists["train"].videos), len(data._lists["test"].videos)) == (videos, 1530)


@pytest.mark.parametrize("name", ["k400", "ssv2"])
def test_large_sets_are_squashed_to_eight_small_frames(name, tmp_path):
    data = made(name, tmp_path)
    assert (data.spec.frames, data.spec.size, data.load_size) == (8, 64, (64, 64))
