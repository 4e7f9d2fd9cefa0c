"""Paired differences against slow loops over the same draws."""

import json
import math
import statistics

import numpy as np
import pytest
import torch

from tests.report.test_rows import result
from vdc.report.paired import bootstrap, by_kind, compare, draw_runs, matched, mean_and_error, paired
from vdc.report.report import report
from vdc.train.scores import pack

VIDEOS = 20


def held(method, start, answers, videos="v", **more):
    answers = np.array(answers, dtype=bool)
    top1 = tuple(100 * answers.mean(1))
    found = result(method, top1=top1, **more) | {"test_videos": answers.shape[1], "condensed_seed": start}
    correct = [pack(torch.tensor(row)) for row in answers]
    return found | {"correct": correct, "test_data": {"videos": {"sha256": videos}}}


def random_answers(seed, share, runs=2):
    return np.random.default_rng(seed).random((runs, VIDEOS)) < share


def test_difference_and_error_by_hand():
    assert mean_and_error([[1.0, 3.0], [4.0, 4.0], [6.0, 0.0]]) == (
        3.0,
        statistics.stdev([2, 4, 3]) / math.sqrt(3),
    )
    assert mean_and_error([[1.0, 3.0]]) == (2.0, statistics.stdev([1, 3]) / math.sqrt(2))
    assert mean_and_error([[1.0]]) == (1.0, None)


def test_runs_of_equal_seeds_are_pairs():
    ours, theirs = [(0, 0), (0, 1), (1, 0)], [(0, 0), (1, 0), (2, 0)]
    assert matched(ours, theirs) == [(0, (0, 0), (0, 0)), (1, (1, 0), (1, 0))]
    assert matched(ours, [(7, 0)]) == [(0, (0, 0), (7, 0)), (1, (1, 0), (7, 0))]  # one set beside all starts
    assert matched([(7, 0)], theirs[:2]) == [(0, (7, 0), (0, 0)), (1, (7, 0), (1, 0))]
    assert matched([(0, 0)], [(0, 1)]) == []


def test_a_start_drawn_again_brings_students_drawn_again():
    weights = draw_runs([2, 3], np.random.default_rng(0), 20000)
    assert weights.sum(1) == pytest.approx(np.ones(20000))
    assert weights.mean(0) == pytest.approx([1 / 4, 1 / 4, 1 / 6, 1 / 6, 1 / 6], abs=5e-3)
    first = weights[:, :2].sum(1)  # a start is drawn 0, 1 or 2 times of two
    assert [(np.isclose(first, n / 2)).mean() for n in range(3)] == pytest.approx([0.25, 0.5, 0.25], abs=0.02)


def test_bootstrap_equals_a_loop_over_the_same_draws():
    rows = [np.random.default_rng(s).integers(-1, 2, (2, VIDEOS)).astype(float) for s in range(3)]
    low, high = bootstrap(rows, draws=300, seed=4)
    rng = np.random.default_rng(4)
    runs = draw_runs([2, 2, 2], rng, 300)
    clips = rng.multinomial(VIDEOS, np.full(VIDEOS, 1 / VIDEOS), size=300)
    every, means = np.concatenate(rows), []
    for b in range(300):
        total = 0.0
        for r in range(6):
            for v in range(VIDEOS):
                total += runs[b, r] * every[r, v] * clips[b, v]
        means.append(total / VIDEOS)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_the_interval_covers_the_truth_as_often_as_it_says():
    inside = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        rows = [(rng.random((1, 300)) < 0.6).astype(float) - (rng.random((1, 300)) < 0.5)]
        low, high = bootstrap(rows, draws=300, seed=trial)
        inside += low <= 0.1 <= high
    assert 85 <= inside <= 100


def test_two_sets_of_several_starts_are_compared():
    ours = [held("DM", start, random_answers(start, 0.7)) for start in range(3)]
    theirs = [held("Random", start, random_answers(10 + start, 0.4)) for start in range(3)]
    found = compare(ours, theirs)
    gaps = [
        statistics.fmean(a["top1"]["values"]) - statistics.fmean(b["top1"]["values"])
        for a, b in zip(ours, theirs, strict=True)
    ]
    assert found.difference == pytest.approx(statistics.fmean(gaps))
    assert found.error == pytest.approx(statistics.stdev(gaps) / math.sqrt(3))
    assert found.low < found.difference < found.high
    assert (found.starts, found.runs) == (3, 6)


def test_what_cannot_be_compared_is_said(tmp_path):
    ours, other = held("DM", 0, random_answers(0, 0.7)), held("Random", 0, random_answers(1, 0.4), "w")
    with pytest.raises(ValueError, match="tested on other videos"):
        compare([ours], [other])
    with pytest.raises(ValueError, match="none is in both"):
        compare([ours], [other | {"seeds": [8, 9]}])
    for name, content in {"a": ours, "b": held("RDED", 0, random_answers(1, 0.4), student="i3d")}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"minic3d, hard, ipc 1 and i3d, hard, ipc 1"):
        paired(str(tmp_path / "a.json"), str(tmp_path / "b.json"))


def test_the_report_tells_the_difference(tmp_path, capsys):
    old = {key: v for key, v in held("RDED", 0, random_answers(2, 0.5)).items() if key != "correct"}
    contents = {
        "a": held("DM", 0, random_answers(0, 0.9)),
        "b": held("RDED", 0, random_answers(1, 0.3)),
        "c": old,
    }
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    a, b, c = (str(tmp_path / f"{name}.json") for name in "abc")
    report(paired=(a, b))
    (pair,) = paired(a, b)
    printed = capsys.readouterr().out
    assert f"{pair.difference:+.1f} ± {pair.error:.1f}" in printed
    assert f"{pair.low:+.1f} .. {pair.high:+.1f}" in printed
    report(paired=(a, c))
    assert "evaluate again" in capsys.readouterr().out


def test_a_teacher_beside_a_set_is_not_what_is_compared():
    random = held("Random", 0, random_answers(1, 0.5))
    teacher = held("full data", 0, random_answers(2, 0.9)) | {"ipc": None}
    (sizes,) = by_kind([("a", random), ("b", teacher)]).values()
    assert sizes == {1: [random]}
    (bound,) = by_kind([("b", teacher)]).values()
    assert bound == {None: [teacher]}
