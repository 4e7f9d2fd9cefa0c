"""Configs that build on others."""

import pytest

from vdc.system.overlays import first_asked, overlays_of, with_overlays


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    """`mine` on `data` on `base`; `ring` on itself by `round`."""
    monkeypatch.chdir(tmp_path)
    given = {
        "base": "", "data": "overlays: [base]", "mine": "overlays: [data]", "ring": "overlays: [round]",
        "round": "overlays: [ring]", "broken": "overlays: [", "odd": "overlays: {a: 1}",
    }  # fmt: skip
    for name, text in given.items():
        (tmp_path / f"{name}.yaml").write_text(text)


@pytest.mark.parametrize("given", [["--config", "mine"], ["--config=mine"], ["-c", "mine"]])
def test_overlays_come_before_the_config_that_names_them(given):
    wanted = ["--config", "base", "--config", "data", "--config", "mine"]
    assert with_overlays(["--x", "1", *given, "--y=2"]) == ["--x", "1", *wanted, "--y=2"]


def test_a_run_is_named_by_the_first_config_asked_for():
    assert first_asked(["base.yaml", "data.yaml", "mine.yaml", "other.yaml"]) == "mine.yaml"
    assert first_asked(["base.yaml"]) == "base.yaml"
    assert first_asked([]) is None


def test_a_circle_is_refused():
    with pytest.raises(ValueError, match="config ring is its own overlay, by ring -> round -> ring"):
        with_overlays(["--config", "ring"])


@pytest.mark.parametrize("name", ["broken", "odd", "nowhere", '{"overlays": ["base"]}'])
def test_what_is_wrong_with_a_file_is_left_to_the_parser(name):
    assert overlays_of(name) == []
    assert with_overlays(["--config", name]) == ["--config", name]
    assert with_overlays(["--config"]) == ["--config"]
