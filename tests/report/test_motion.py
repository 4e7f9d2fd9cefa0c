"""Static and dynamic classes, their scores, and pictures of what changes."""

import csv
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import Image

from tests.report.test_rows import result
from tests.small import CLASSES, SPEC, K, Videos, make_set
from vdc.condensed.preview import STRIP
from vdc.nets.teacher import load_teacher
from vdc.report.motion import (
    Groups,
    class_distances,
    differences,
    draw_all,
    feature_distance,
    group_scores,
    halves,
)
from vdc.report.report import report
from vdc.system.files import write_json


class Sampled(Videos):
    """Class a stands still, the others change at random."""

    def __init__(self):
        super().__init__(per_class=4)
        self.frames[:4] = self.frames[:4, :, :1]

    def sample(self, per_class, seed, classes=range(K)):
        return super().sample(per_class, seed)[list(classes)]

    def prepare_data(self):
        pass


def test_distance_of_neighbours_by_a_loop(teacher):
    net, clips = load_teacher(teacher), Sampled().sample(4, 0).flatten(0, 1)
    found = feature_distance(net, clips)
    for n, clip in enumerate(clips):
        stills = [net.features(clip[None, :, t, None].repeat(1, 1, 4, 1, 1))[0] for t in range(4)]
        steps = [(a - b).norm() for a, b in pairwise(stills)]
        torch.testing.assert_close(found[n], sum(steps) / 3, rtol=1e-4, atol=1e-5)
    assert found[:4].abs().max() < 1e-5
    assert found[4:].min() > 1e-3


def test_classes_that_move_least_are_static(teacher):
    found = class_distances(Sampled(), teacher)
    assert list(found) == CLASSES
    assert found["a"] < 1e-5
    assert halves(found)[0] == ["a"]
    assert sorted(halves(found)[1]) == ["b", "c"]
    assert halves({"x": 2.0, "y": 1.0, "z": 3.0, "w": 1.0}) == (["w", "y"], ["x", "z"])


def test_scores_of_groups_by_hand():
    held = {"per_class": {"a": 10.0, "b": 40.0, "c": 50.0, "d": None}}
    assert group_scores(held, (["a"], ["b", "c"])) == [10.0, 45.0]
    assert group_scores(held, (["a", "d"], ["d"])) == [10.0, None]


def test_the_report_splits_every_result(tmp_path, teacher, capsys):
    write_json(tmp_path / "x.json", result() | {"per_class": {"a": 10.0, "b": 40.0, "c": 50.0}})
    report([str(tmp_path / "x.json")], str(tmp_path / "out"), data=Sampled(), teacher=teacher)
    assert "45.0" in capsys.readouterr().out
    assert "| RDED, ipc 1, hard, minic3d | 10.0 | 45.0 |" in (tmp_path / "out/motion.md").read_text()
    lines = list(csv.DictReader((tmp_path / "out/motion.csv").open()))
    assert (lines[0]["class"], lines[0]["group"]) == ("a", "static")
    assert {line["class"]: line[str(tmp_path / "x.json")] for line in lines}["c"] == "50.0"
    with pytest.raises(ValueError, match="no evaluation is of its classes"):
        Groups([("x", result() | {"classes": ["u"], "per_class": {"u": 1.0}})], dict.fromkeys("abc", 1.0))
    with pytest.raises(ValueError, match="--data and --teacher belong together"):
        report([str(tmp_path / "x.json")], teacher=teacher, show=False)


def test_differences_by_hand():
    frames = torch.tensor([10, 10, 60, 35], dtype=torch.uint8).view(1, 4, 1, 1, 1)
    assert differences(frames).flatten().tolist() == [0, 0, 255, 127]
    assert differences(frames[:, :1]).flatten().tolist() == [0]
    assert not differences(frames[:, :2]).any()


def test_every_set_gets_a_picture_of_what_students_see(tmp_path):
    spec = replace(SPEC, stored_frames=2, interpolation="duplicate")
    make_set(tmp_path / "sets/one/condensed", spec=spec)
    make_set(tmp_path / "sets/two")
    draw_all([str(tmp_path / "sets"), str(tmp_path / "sets/two")], tmp_path / "out")
    pictures = sorted((tmp_path / "out/differences").iterdir())
    assert [path.name.endswith(end) for path, end in zip(pictures, ("one.png", "two.png"), strict=True)]
    with Image.open(pictures[0]) as picture:
        pixels = torch.tensor(list(picture.convert("L").getdata())).view(picture.height, picture.width)
    rows = pixels[: (len(pixels) - STRIP) // (2 * K) * 2 * K].view(2 * K, -1, picture.width).float()
    assert rows.shape[1] > 16
    quarter = [slice(picture.width - (4 - t) * 66 + 8, picture.width - (3 - t) * 66 - 8) for t in range(4)]
    change = [rows[1, 8:-8, quarter[t]].mean() for t in range(4)]
    assert change[0] == change[1] == change[3] == 0  # frames 0 and 1, and 2 and 3, are the same
    assert change[2] > 10
