"""Curves of accuracy against size, from results written by hand."""

import csv
import json
import statistics

import pytest

from tests.report.test_rows import result
from vdc.evaluate.results import made
from vdc.report.report import report
from vdc.report.results import title
from vdc.report.sizes import KINDS, charts, curves, lines


def entry(ipc, top1, whole=None, sizes="plain", digest="d", seed=0, method="DM", **more):
    held = result(method, ipc, top1, total=100 * ipc, **more)
    whole = whole or ipc
    return (f"{digest}-{ipc}", held | {
        "stored_ipc": whole, "sizes": sizes, "condensed": f"{digest}{whole}", "condensed_seed": seed
    })  # fmt: skip


A = [entry(n, (10.0 * n, 10.0 * n + 4), digest="a") for n in (1, 2)]
C = [entry(n, top1, 3, digest="c") for n, top1 in ((1, (8.0, 12.0)), (2, (14.0, 22.0)), (3, (30.0, 40.0)))]
B = [entry(n, top1, 3, "joined", "b") for n, top1 in ((1, (9.0, 9.0)), (2, (11.0, 11.0)), (3, (13.0, 13.0)))]
M = [
    entry(n, top1, 3, "multi-size", "m")
    for n, top1 in ((1, (12.0, 14.0)), (2, (20.0, 20.0)), (3, (33.0, 33.0)))
]


def test_the_four_ways_to_several_sizes():
    found = {one.kind: one for one in curves(A + C + B + M)}
    assert list(found) == ["separate", "joined", "prefix", "multi-size"]
    # the whole run is C at its full size, and A's run of that size
    assert found["separate"].sizes == (1, 2, 3)
    assert found["separate"].top1 == (12.0, 22.0, 35.0)
    assert found["separate"].bytes == (100, 300, 600)  # each size is stored
    for kind, top1 in (
        ("prefix", (10.0, 18.0, 35.0)),
        ("joined", (9.0, 11.0, 13.0)),
        ("multi-size", (13.0, 20.0, 33.0)),
    ):
        assert found[kind].top1 == top1
        assert found[kind].bytes == (100, 200, 300)
    assert found["prefix"].average == pytest.approx(21.0)
    assert found["prefix"].average_spread == pytest.approx(
        statistics.stdev([52 / 3, 74 / 3])
    )  # of the two seeds
    assert found["prefix"].spread[0] == pytest.approx(statistics.stdev([8.0, 12.0]))
    assert found["prefix"].gain == 0
    assert found["multi-size"].gain == pytest.approx(22 - 21)
    assert found["joined"].gain == pytest.approx(11 - 21)
    assert found["separate"].gain == pytest.approx(23 - 21)
    assert {one.runs for one in found.values()} == {2}


def test_only_sizes_that_all_runs_have_count_and_gains_are_over_shared_ones():
    second = [entry(n, (50.0, 50.0), 3, "multi-size", "n", seed=1) for n in (2, 3)]
    found = {one.kind: one for one in curves(C[:2] + M + second)}
    assert found["multi-size"].sizes == (2, 3)
    assert found["multi-size"].runs == 4
    assert found["multi-size"].top1 == (35.0, 41.5)
    assert found["multi-size"].gain == pytest.approx(35 - 18)  # over 2 alone
    assert "separate" not in found  # one size is no curve


def test_methods_labels_students_and_protocols_are_apart():
    groups = (("EDC", "hard", "minic3d"), ("DM", "soft", "minic3d"), ("DM", "hard", "i3d"))
    other = [
        entry(n, (5.0, 5.0), 3, digest="o", method=method, labels=labels, student=student)
        for n in (1, 3)
        for method, labels, student in groups
    ]
    found = [(one.method, one.labels, one.student, one.top1) for one in curves(C + other)]
    assert found == [
        ("DM", "hard", "i3d", (5.0, 5.0)), ("DM", "hard", "minic3d", (10.0, 18.0, 35.0)),
        ("DM", "soft", "minic3d", (5.0, 5.0)), ("EDC", "hard", "minic3d", (5.0, 5.0)),
    ]  # fmt: skip


def test_selection_methods_have_sizes_for_free():
    chosen = [entry(n, (6.0 * n, 6.0 * n), 3, digest="h", method="Herding") for n in (1, 2, 3)]
    apart = [entry(n, (7.0, 7.0), digest="x", method="Herding") for n in (1, 2)]  # need no curve of their own
    (one,) = curves(chosen + apart)
    assert (one.kind, one.top1, one.gain) == ("selection", (6.0, 12.0, 18.0), None)
    assert "for free" in KINDS[one.kind]


def test_results_from_before_sizes_were_noted_are_runs_per_size():
    old = [(str(n), result("DM", n, (10.0 * n,))) for n in (1, 5)]
    (one,) = curves(old)
    assert (one.kind, one.sizes, one.average_spread) == ("separate", (1, 5), None)
    assert curves([("full", result("full data", None))]) == []


def test_a_prefix_says_what_it_is_of():
    assert title(C[0][1]) == "DM, first of 3"
    assert title(C[2][1]) == "DM"
    assert title(M[1][1]) == "DM, multi-size, first of 3"
    assert title(result("DM", 1)) == "DM"
    assert title(result("full data", None)) == "full data"


@pytest.mark.parametrize(
    ("learnt", "how"),
    [
        ({}, "plain"),
        ({"multisize": {"interval": 9}, "step_size": 1.0}, "multi-size"),
        ({"joined": 3}, "joined"),
    ],
)
def test_how_a_set_was_made_is_in_its_manifest(learnt, how):
    assert made({"learnt": learnt}) == how
    assert made({}) == "plain"


def test_the_report_prints_and_writes_curves(tmp_path, capsys):
    for name, held in A + B + C + M:
        (tmp_path / f"{name}.json").write_text(json.dumps(held))
    report([str(tmp_path)], out=str(tmp_path / "out"))
    printed = capsys.readouterr().out
    assert "multi-size" in printed
    assert "+1.0" in printed
    told = list(csv.DictReader((tmp_path / "out/sizes.csv").open()))
    assert len(told) == 12
    last = told[-1]
    assert (last["kind"], last["size"], last["top1"], last["bytes"]) == ("multi-size", "3", "33.0", "300")
    table = (tmp_path / "out/sizes.md").read_text().splitlines()
    assert [cell.strip() for cell in table[5].split("|")[1:-1]] == [
        "DM", "hard", "minic3d", "multi-size", "13.0 ± 1.4", "20.0 ± 0.0", "33.0 ± 0.0", "22.0 ± 0.5", "+1.0", "300"
    ]  # fmt: skip
    assert (tmp_path / "out/sizes.png").read_bytes().startswith(b"\x89PNG")


def test_selection_is_drawn_beside_every_learnt_method():
    chosen = [entry(n, (6.0 * n, 6.0 * n), 3, digest="h", method="Herding") for n in (1, 3)]
    other = [entry(n, (5.0, 5.0), 3, digest="o", method="EDC") for n in (1, 3)]
    drawn = charts(curves(C + M + other + chosen))
    assert [title for title, _ in drawn] == ["DM, hard, minic3d", "EDC, hard, minic3d"]
    names = [
        {value["name"] for held in chart.to_dict()["datasets"].values() for value in held}
        for _, chart in drawn
    ]
    assert names == [
        {"C: prefixes of one run", "multi-size", "Herding: selection order"},
        {"C: prefixes of one run", "Herding: selection order"},
    ]
    assert charts(curves(C)) == []  # a single line
    assert len(list(lines(curves(C)))) == 2
