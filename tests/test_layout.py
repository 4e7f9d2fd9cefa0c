"""Tests mirror the rooms: `vdc/a/b.py` is tested by `tests/a/test_b.py`, or where a line here says."""

from pathlib import Path

import pytest

from tests.test_floors import FILES, GRAPH, ROOT, imported

TESTS = Path(__file__).parent
ELSEWHERE = {  # a test file, and why it is the one of modules of other names
    "test_cli.py": {  # only a command as a whole tells whether they are right
        "cli.commands", "cli.configs", "cli.listing", "cli.messages", "cli.signals", "cli.signatures",
        "cli.stated_data", "cli.training",
        "system.logs", "system.shipped", "system.processes",
    },
    "data/test_doctor.py": {"cli.doctor", "data.probe"},  # what doctor prints, and what it looks at
    "study/test_run.py": {"study.steps", "study.progress"},  # parts of one run of a study
    "study/test_plan.py": {"study.commands"},
    "study/test_table.py": {"study.plot", "study.published"},
    "study/test_files.py": {"cli.study", "study.cluster"},  # it imports the latter: no test has a cluster
    "condensed/test_format.py": {"condensed.manifest", "condensed.preview", "system.versions"},  # what save writes
    "condensed/test_strangers.py": {"system.schema", "system.text"},  # what may come from elsewhere
    "nets/test_teacher.py": {"nets.stored"},
    "cli/test_condense.py": {"data.settle", "study.quick"},
    "condensed/test_join.py": {"condensed.describe"},
    "condensed/memory/test_pixels.py": {"condensed.memory.base"},  # abstract: the simplest memory shows it
    "data/test_lists.py": {  # formats, recognised and read as lists are
        "data.formats", "data.tables", "data.text", "data.splits",
    },
    "data/test_cache.py": {"data.store"},
    "data/test_prepare.py": {"data.prepared_lists"},
    "data/test_stratify.py": {"data.sources"},
    "data/test_real.py": {"data.loaders"},  # what the data module puts together
    "data/readers/test_pyav.py": {  # the default reader's parts
        "data.readers.base", "data.readers.container", "data.readers.timeline", "data.readers.whole",
    },
    "evaluate/test_evaluate.py": {"evaluate.results", "evaluate.stored", "train.run", "train.recovery"},
    "methods/test_papers.py": {  # published defaults, nothing else
        "methods.cda", "methods.edc", "methods.gvbsm", "methods.sre2l",
    },
    "methods/test_dm.py": {  # the simplest learner shows them
        "methods.base.features", "methods.base.learner", "methods.base.options",
        "methods.base.per_class", "methods.dream",
    },
    "methods/test_dc.py": {"methods.base.gradient"},
    "methods/test_mtt.py": {"methods.datm"},  # its runs are of DATM, which is MTT and more
    "methods/test_selection.py": {"methods.base.selection"},
    "report/test_page.py": {"report.clips", "report.provenance", "report.report", "report.results"},
    "report/test_charts.py": {"train.confusion"},
    "ops/test_windows.py": {"spec"},
}  # fmt: skip
LISTED = {f"vdc.{module}": TESTS / file for file, modules in ELSEWHERE.items() for module in sorted(modules)}
CODE = [m for m, path in FILES.items() if path.name not in ("__init__.py", "__main__.py")]


def mirror(module):
    path = FILES[module].relative_to(ROOT)
    return TESTS / path.parent / f"test_{path.name}"


def reached(test):
    """Modules that a test imports, or their packages, and what those import, and so on."""
    seen = set()
    left = set(imported(test))
    left |= {name.rpartition(".")[0] for name in left} & FILES.keys()
    while left:
        seen |= left
        left = {other for name in left for other in GRAPH[name]} - seen
    return seen


@pytest.mark.parametrize("module", CODE)
def test_every_module_has_its_tests(module):
    assert mirror(module).exists() or module in LISTED, (
        f"{module}: no {mirror(module)}, nor a line in ELSEWHERE"
    )


@pytest.mark.parametrize("module", LISTED)
def test_the_list_is_short_and_true(module):
    assert module in FILES, f"{module} is no more"
    assert not mirror(module).exists(), f"{module} has its own tests: no line is needed"
    assert module in reached(LISTED[module]), f"{LISTED[module]} does not reach {module}"
