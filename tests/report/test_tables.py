"""Tables in terminals: words wrap, numbers never."""

import re

import pytest
from rich.console import Console

from vdc.report.tables import fitted, size

HEADERS = ["method", "setting", "top-1 %", "bytes", "of source files", "train loss"]
LINES = [
    [
        "StaticDynamic",
        "stored_frames 4, interpolation linear_ends",
        "31.0 ± 1.4",
        "552,970",
        "17.8 %",
        "0.317",
    ],
    ["RDED", "", "9.1 ± 10.4", "1,234,567,890", "0.0512 %", "2.302"],
]


def printed(width, lines=LINES, headers=HEADERS, texts=2):
    screen = Console(width=width, color_system=None)
    with screen.capture() as got:
        for table in fitted(headers, lines, texts, width):
            screen.print(table)
    return got.get()


@pytest.mark.parametrize("width", [60, 80, 100, 150])
def test_no_number_is_ever_cut(width):
    text = printed(width)
    for line in LINES:
        for number in line[2:]:
            assert number in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    words = re.sub(r"[^\w]", "", text)
    for word in ("StaticDynamic", "storedframes".replace("d", "d"), "RDED"):
        assert word.replace("_", "") in words.replace("_", "")


def test_a_wide_terminal_has_one_table_and_a_narrow_one_names_every_part():
    assert len(fitted(HEADERS, LINES, 2, 150)) == 1
    parts = fitted(HEADERS, LINES, 2, 60)
    assert len(parts) > 1
    assert printed(60).count("RDED") == len(parts)


def test_sizes_in_words():
    assert [size(n) for n in (None, 12, 27_648, 552_970, 3_098_671, 1.5e9)] == [
        "", "12 B", "27.6 kB", "553 kB", "3.1 MB", "1.5 GB"
    ]  # fmt: skip
