"""The page: what it holds, and what a browser makes of it."""

import base64
import json
import re
import shlex
from pathlib import Path

import av
import pytest
import torch

from tests.report.browser import browsing, needs_chromium
from tests.report.test_rows import result
from tests.small import CLASSES, SPEC, make_set
from vdc.condensed.format import load
from vdc.report import page
from vdc.report.clips import film, show
from vdc.report.page import script, write_page
from vdc.report.provenance import evaluate_command
from vdc.report.report import report
from vdc.train.scores import pack


def evaluation(method, ipc, top1, **more):
    confusion = [[4, 1, 1], [0, 5, 1], [2, 2, 2]]
    curve = [[[e, 3 * e, 2.0 / e] for e in range(1, 9)]] * 2
    return result(method, ipc, top1, 1000 * (ipc or 9), **more) | {
        "per_class": {"a": 66.7, "b": 83.3, "c": 33.3}, "confusion": confusion, "curve": curve, "steps": [24, 24],
        "final_loss": [0.25, 0.25], "seconds": {"mean": 1.5, "std": 0.1, "values": [1.4, 1.6]}, "per_item": 1,
        "correct": [pack(torch.arange(9) < 5)] * 2, "condensed_seed": 0,
    }  # fmt: skip


@pytest.fixture
def run(tmp_path):
    """A set of four items per class, its evaluations at two sizes, random clips, and the full data."""
    make_set(tmp_path / "dm/condensed", ipc=4)
    held = {
        "dm/condensed/evaluations/one.json": evaluation("DM", 1, (30.0, 34.0)) | {"stored_ipc": 4},
        "dm/condensed/evaluations/four.json": evaluation("DM", 4, (50.0, 54.0)),
        "dm/condensed/evaluations/twin.json": evaluation("Random", 4, (40.0, 41.0)),
        "rded/x.json": evaluation("RDED <b>", 4, (44.0, 45.0)),
        "full/x.json": evaluation("full data", None, (80.0, 81.0)),
    }
    for name, content in held.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    return tmp_path


def test_the_page_is_whole_and_asks_no_network(run, tmp_path):
    report(
        [str(run)], html=str(tmp_path / "page.html"), paired=(str(run / "dm"), str(run / "rded")), show=False
    )
    html = (tmp_path / "page.html").read_text()
    markup = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"(src|href)=\"(?!#|data:)", markup)
    assert "@import" not in markup
    assert "url(" not in markup
    for name in CLASSES:
        assert f"<figcaption>{name}</figcaption>" in markup
    assert "RDED &lt;b&gt;" in markup
    assert "<b>" not in re.sub(r"<summary>.*?</summary>|<summary><b>[^<]*</b>", "", markup)
    assert load(run / "dm/condensed").manifest["digest"] in markup
    assert "52.0 ± 1.4" in markup
    assert markup.count("<video") == 3
    assert len(html) < 2_000_000


def test_charts_of_the_page_are_what_vega_lite_takes(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "plain", lambda chart: chart.to_dict())  # with validation
    html = write_page([str(run)], tmp_path / "page.html").read_text()
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', html, re.DOTALL)[1])
    assert {name.split("-")[0] for name in specs} == {"overview", "detail"}
    assert len([name for name in specs if name.startswith("detail")]) == 3 * 5


def test_films_play_what_is_stored(run, tmp_path):
    stored = load(run / "dm/condensed")
    shown = film(stored, 1, 4)
    (tmp_path / "film.mp4").write_bytes(base64.b64decode(shown.data))
    with av.open(str(tmp_path / "film.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert (shown.columns, shown.rows, shown.clips, len(frames)) == (2, 2, 4, SPEC.frames)
    assert frames[0].shape == (2 * 96 + 2, 2 * 96 + 2, 3)  # 16 pixels, enlarged; a gap between
    pixels = stored.tensors["videos"].view(3, 4, 4, 16, 16, 3)[1, 3]  # class, item: below right
    for t in (0, 3):
        ours = torch.from_numpy(frames[t][-96:, -96:]).float().view(16, 6, 16, 6, 3).mean((1, 3, 4))
        assert (ours - pixels[t].float().mean(-1)).abs().mean() < 12


def test_what_does_not_fit_is_left_out_and_said(run):
    folder = run / "dm/condensed"
    whole = show(folder, 10_000_000)
    assert whole.note == ""
    size = len(whole.films[0].data)
    few = show(folder, int(2.2 * size))
    assert "of 4 clips of a class" in few.note
    assert sum(len(one.data) for one in few.films) <= 2.2 * size
    single = len(film(load(folder), 0, 1).data)
    fewer = show(folder, int(2.5 * single))
    assert "2 of 3 classes" in fewer.note


def test_a_page_too_large_is_refused_and_many_evaluations_are_cut(run, tmp_path, monkeypatch):
    monkeypatch.setattr(page, "DETAILS", 15_000)
    html = write_page([str(run)], tmp_path / "page.html").read_text()
    assert re.search(r"Shown: the first [1-4] of 5 evaluations", html)
    monkeypatch.setattr(page, "LIMIT", 10_000)
    with pytest.raises(ValueError, match="more than 10 kB"):
        write_page([str(run)], tmp_path / "other.html")
    assert not (tmp_path / "other.html").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither condensed sets nor evaluations"):
        write_page([str(tmp_path / "empty")], tmp_path / "other.html")


def test_sets_without_evaluations_and_evaluations_without_sets_have_pages(run, tmp_path):
    make_set(tmp_path / "bare/condensed")
    assert "<video" in write_page([str(tmp_path / "bare")], tmp_path / "a.html").read_text()
    assert "<video" not in write_page([str(run / "rded")], tmp_path / "b.html", heading="Mine").read_text()
    assert "<h1>Mine</h1>" in (tmp_path / "b.html").read_text()


def test_commands_repeat_an_evaluation():
    held = evaluation("DM", 1, (30.0, 34.0), norm="in") | {"stored_ipc": 4, "teacher": None}
    held["protocol"] |= {"epochs": 20, "milestones": [0.5], "crop_scale": [0.5, 1.0], "optimizer": "adamw"}
    words = shlex.split(evaluate_command("runs/dm/condensed/evaluations/x.json", held))
    assert words[:4] == ["vdc", "evaluate", "--condensed", "runs/dm/condensed"]
    told = dict(zip(words[2::2], words[3::2], strict=True))
    assert (told["--ipc"], told["--seeds"], told["--student"]) == ("1", "2", "minic3d")
    assert told["--protocol.crop_scale"] == "[0.5, 1.0]"
    assert told["--protocol.epochs"] == "20"
    assert json.loads(told["--net_options"]) == {"norm": "in"}
    assert not {"--protocol.milestones", "--protocol.optimizer"} & told.keys()  # defaults


def test_nothing_in_json_closes_the_script():
    assert "<" not in script({"name": "</script><b>", "line": "\u2028"})


CONTRAST = Path(__file__).with_name("contrast.js").read_text()


@needs_chromium
def test_a_browser_plays_sorts_and_complains_of_nothing(run, tmp_path):
    make_set(tmp_path / "many/condensed", ipc=1)
    path = write_page([str(run), str(tmp_path / "many")], tmp_path / "page.html")
    with browsing(tmp_path / "profile") as browser:
        browser.open(path)
        browser.draw_all()
        assert browser.run("document.querySelectorAll('.chart svg').length") >= 4

        browser.run("document.querySelector('#clips').scrollIntoView()")
        first = "document.querySelector('video')"
        browser.wait(f"{first}.readyState >= 2 && {first}.currentTime > 0")
        assert browser.run(f"[{first}.videoWidth, {first}.videoHeight]") == [194, 194]
        before = browser.run(f"{first}.currentTime")
        browser.wait(f"{first}.currentTime !== {before}")
        browser.run("document.getElementById('play').click()")
        browser.wait(f"{first}.paused")

        column = (
            "[...document.querySelectorAll('#results tbody tr')].map((row) => row.cells[4].dataset.value)"
        )
        browser.run("document.querySelectorAll('#results th button')[4].focus()")  # top-1, by keyboard
        browser.key("Enter", "\r")
        down = [float(value) for value in browser.run(column)]
        assert down == sorted(down, reverse=True)
        assert (
            browser.run("document.querySelector('#results th[aria-sort]').getAttribute('aria-sort')")
            == "descending"
        )
        browser.key("Enter", "\r")
        assert [float(value) for value in browser.run(column)] == sorted(down)

        browser.run("document.querySelector('.skip').focus()")
        seen = []
        for _ in range(12):
            seen.append(
                browser.run(
                    "document.activeElement.tagName + (document.activeElement.textContent || '').slice(0, 9)"
                )
            )
            browser.key("Tab")
        assert len(set(seen)) > 8  # the keyboard gets everywhere
        browser.run("document.getElementById('chosen').value = 1")
        browser.run("document.getElementById('chosen').dispatchEvent(new Event('change')) && 0")
        hidden = browser.run("[...document.querySelectorAll('.detail')].map((one) => one.hidden)")
        assert hidden == [True, False, True, True, True]
        assert browser.complaints() == []


@needs_chromium
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (1280, False), (1280, True)])
def test_nothing_overflows_and_everything_can_be_read(run, tmp_path, width, dark):
    path = write_page([str(run)], tmp_path / "page.html")
    with browsing(tmp_path / "profile") as browser:
        browser.open(path, width, dark=dark)
        browser.draw_all()
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(
            "[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, .chart, nav') &&"
            "one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"
        ) == []  # fmt: skip
        ground = browser.run("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(20, 23, 28)" if dark else "rgb(255, 255, 255)")
        assert browser.run(CONTRAST) == []
        assert browser.complaints() == []
        pale = "#555" if dark else "#888"
        browser.run(f"document.documentElement.style.setProperty('--soft', '{pale}')")
        assert len(browser.run(CONTRAST)) > 5  # the check sees what is pale
