"""What a study says of itself, on its page."""

import json

import pytest

from tests.report.test_rows import result
from vdc.report.report import report

HELD = {
    "title": "A <study>",
    "source": "ours",
    "fixed": "all of it",
    "claim": "nothing",
    "texts": 1,
    "table": [["method", "top-1 %"], ["DM, packed", "31.0 ± 1.4"], ["Random", ""]],
}


def page(tmp_path, held):
    (tmp_path / "x.json").write_text(json.dumps(result()))
    (tmp_path / "study").mkdir()
    (tmp_path / "study/table.json").write_text(json.dumps(held))
    report(
        [str(tmp_path / "x.json")], study=str(tmp_path / "study"), html=str(tmp_path / "p.html"), show=False
    )
    return (tmp_path / "p.html").read_text()


def test_a_page_opens_with_the_words_and_the_table_of_its_study(tmp_path):
    html = page(tmp_path, HELD)
    assert "<h1>A &lt;study&gt;</h1>" in html
    assert html.index("Held fixed: all of it") < html.index("DM, packed") < html.index('id="results"')
    assert '<td class="number" data-value="31.0">31.0 ± 1.4</td>' in html
    assert '<td class="number" data-value=""></td>' in html


@pytest.mark.parametrize(
    ("change", "words"),
    [({"table": "x"}, "table: "), ({"title": None}, "title: "), ({"texts": -1}, "texts: ")],
)
def test_what_no_study_wrote_is_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=rf"table\.json: {words}"):
        page(tmp_path, HELD | change)
    with pytest.raises(FileNotFoundError, match=r"--study .*nowhere: no table\.json there"):
        report([str(tmp_path / "x.json")], study=str(tmp_path / "nowhere"), html="p.html", show=False)
