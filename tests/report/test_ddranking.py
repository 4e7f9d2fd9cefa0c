"""DD-Ranking's scores against numbers that its own package computes, and where they appear."""

import math

import pytest

from tests.report.test_rows import result
from vdc.report.ddranking import augmentation_robust, label_robust, normalised, scores


def test_scores_are_those_of_the_package():
    # ddranking 0.2.0, LabelRobustScoreSoft and AugmentationRobustScore, accuracies as shares in place of percent
    assert label_robust(44.3, 35.2, hard=27.1, full=82.3) == pytest.approx(18.135490166970777)
    assert augmentation_robust(44.3, 35.2, 31.0, 33.7) == pytest.approx(28.277628874461685)


def test_the_scale_by_hand():
    assert normalised(-1) == 0
    assert normalised(1) == pytest.approx(100)
    assert normalised(0) == pytest.approx(100 * (1 - 1 / math.e) / (math.e - 1 / math.e))
    assert label_robust(60, 50, 40, 80, weight=1) == pytest.approx(normalised(0.1))
    assert label_robust(60, 50, 40, 80, weight=0) == pytest.approx(normalised(-0.4))


def of(method, labels, top1, augment="crop", **more):
    held = result(method, 1, (top1,), labels=labels, **more)
    held["protocol"] |= {"augment": augment, "cutmix": 0.0, "loss": "ce" if labels == "hard" else "mse_gt"}
    return "", held


def test_a_score_needs_its_references():
    full = ("", result("full data", None, (82.3,)))
    held = [
        of("DM", "soft", 44.3),
        of("DM", "hard", 27.1),
        of("Random", "soft", 35.2),
        of("Random", "hard", 20.0),
        full,
    ]
    found = scores(held, [82.3] * 5)
    assert found[0] == (pytest.approx(18.135490166970777), None)
    assert found[1] == (pytest.approx(label_robust(27.1, 20, 27.1, 82.3)), None)
    assert found[4] == (None, None)
    assert scores(held[:2] + held[3:], [82.3] * 4)[0] == (None, None)  # no random clips by soft labels
    assert scores(held, [None] * 5)[0] == (None, None)
    other = [held[0], held[1], of("Random", "soft", 35.2, student="i3d"), full]
    assert scores(other, [82.3] * 4)[0] == (None, None)  # another student's random clips


def test_augmentation_counts_where_both_ways_were_evaluated():
    held = [of("DM", "hard", 44.3), of("Random", "hard", 35.2), of("DM", "hard", 31.0, "none"),
            of("Random", "hard", 33.7, "none")]  # fmt: skip
    found = scores(held, [None] * 4)
    assert found[0][1] == pytest.approx(28.277628874461685)
    assert found[2][1] is None
    assert scores(held[:3], [None] * 3)[0][1] is None
