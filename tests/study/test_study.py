"""Study files: what they may hold, what they take from a base, and one line for what is wrong."""

import pytest

from vdc.study.study import Study, find, known, load, over


def refusal(write, held):
    with pytest.raises(ValueError, match=r"mine\.yaml") as error:
        load(write(held))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_becomes_a_study(write, held):
    study = load(write(held))
    assert isinstance(study, Study)
    assert study.axes == {"method": ["a", "b"], "ipc": [1, 5]}
    assert study.steps["fit"].run == "fit"
    assert study.rules[0].steps["fit"].flags == {"model.teacher": "@teacher"}
    assert study.table.rows == ["method"]
    assert (study.seeds.condensation, study.seeds.students) == (1, 3)


def test_values_keep_their_types(write, held):
    held["axes"] = {"method": [1, "1", 0.5, True], "ipc": [1, 5]}
    held["rules"] = []
    assert [type(value) for value in load(write(held)).axes["method"]] == [int, str, float, bool]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"titel": "x"}, "no key 'titel'; did you mean 'title'?"),
        ({"version": 2}, "version 2, where this vdc reads studies of version 1"),
        ({"version": None}, "version None"),
        ({"axes": {"method": 3}}, "axes.method: Input should be a valid list, got 3"),
        ({"goal": "evaluat"}, "no step of goal 'evaluat'; did you mean 'evaluate'?"),
        ({"seeds": {"students": 0}}, "seeds.students must be at least 1, got 0"),
        ({"table": {"rows": ["metod"]}}, "no axis of table.rows 'metod'; did you mean 'method'?"),
        ({"table": {"row": ["method"]}}, "no key 'table.row'; did you mean 'rows'?"),
        ({"exclude": [{"ipc": 3}]}, "no value of ipc in exclude.0 '3'; there are 1, 5"),
        (
            {"rules": [{"when": {"method": "bb"}}]},
            "no value of method in rules.0.when 'bb'; did you mean 'b'?",
        ),
        ({"rules": [{"wen": {"method": "a"}}]}, "no key 'rules.0.wen'; did you mean 'when'?"),
        ({"variants": {"small": {"icp": [1]}}}, "no axis of variants.small 'icp'; did you mean 'ipc'?"),
        ({"steps": {"fit": {"run": "condense"}}}, "steps.fit.run"),
    ],
)
def test_what_is_wrong_is_named(write, held, change, told):
    assert told in refusal(write, held | change)


def test_a_missing_key_is_named(write, held):
    del held["claim"]
    assert "key 'claim' is missing" in refusal(write, held)


def test_no_yaml_and_no_keys(tmp_path):
    (tmp_path / "a.yaml").write_text("title: [")
    (tmp_path / "b.yaml").write_text("[1]")
    with pytest.raises(ValueError, match="not YAML"):
        load(tmp_path / "a.yaml")
    with pytest.raises(ValueError, match="holds list, where keys are expected"):
        load(tmp_path / "b.yaml")


def test_a_base_is_completed(write, held, monkeypatch, tmp_path):
    base = {key: held.pop(key) for key in ("steps", "rules", "fixed")}
    base["rules"] = [*base["rules"], {"when": {"elsewhere": 1}, "score": "top5"}]
    base["table"] = {"rows": ["ipc"], "names": {"a": "A"}}
    write(base, "studies/base/shared.yaml")
    held |= {"base": "shared", "steps": {"evaluate": {"flags": {"labels": "soft"}}}}
    held["rules"] = [{"when": {"ipc": 5}, "score": "top5"}]
    monkeypatch.chdir(tmp_path)
    study = load(write(held))
    assert study.fixed == "everything else"
    assert study.steps["evaluate"].flags == {"condensed": "@fit", "labels": "soft"}
    assert [rule.when for rule in study.rules] == [{"method": "b"}, {"ipc": 5}]
    assert study.table.rows == ["method"]
    assert study.table.names == {"a": "A"}


def test_over_replaces_lists_and_axes():
    base = {"axes": {"a": [1], "b": [2]}, "table": {"rows": ["a"], "plot": "bars"}, "title": "x"}
    own = {"axes": {"a": [3]}, "table": {"rows": ["b"]}}
    assert over(base, own) == {"axes": {"a": [3]}, "table": {"rows": ["b"], "plot": "bars"}, "title": "x"}


def test_a_variant_changes_axes_and_further_cells(write, held):
    held["include"] = [{"method": "full", "ipc": 1}, {"method": "full", "ipc": 5}]
    held["variants"] = {"small": {"ipc": [2]}}
    study = load(write(held))
    assert study.variant("small").axes["ipc"] == [2]
    assert study.variant("small").include == [{"method": "full", "ipc": 2}]
    with pytest.raises(ValueError, match="no variant 'smal'; did you mean 'small'"):
        study.variant("smal")


def test_known_lists_few_names_where_none_is_near():
    with pytest.raises(ValueError, match=r"no cell 'xyz'; there are a, b$"):
        known("xyz", ["a", "b"], "cell")


def test_shipped_studies_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find("videodc_table6").name == "videodc_table6.yaml"
    with pytest.raises(ValueError, match=r"'videodc_tabel6'.*did you mean 'videodc_table"):
        find("videodc_tabel6")
