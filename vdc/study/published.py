"""Published numbers that stand beside cells."""

from collections.abc import Mapping, Sequence
from typing import Any

from vdc.study.study import Published, Value, find, read_yaml


def entries(published: Published) -> list[dict[str, Any]]:
    """Entries of a file of published numbers that a study is about.

    Raises:
        ValueError: it is not a list `results` of `method` and `value`, or says nothing of the table.
    """
    path = find(f"published/{published.file}")
    held = read_yaml(path).get("results")
    if not isinstance(held, list) or any("value" not in entry for entry in held):
        raise ValueError(f"{path} has no list `results` whose entries tell a `value`")
    found = [
        entry for entry in held if all(same(entry.get(key), value) for key, value in published.where.items())
    ]
    if not found:
        raise ValueError(f"{path} has no entry of {published.where}")
    return found


def of_cell(
    every: Sequence[Mapping[str, Any]], published: Published, values: Mapping[str, Value], score: str
) -> tuple[float | None, float | None]:
    """Published mean and deviation of a cell; `None` where nothing or more than one thing was published.

    Args:
        every: entries of the study.
        published: how they name values.
        values: of the cell's axes; an entry without one of them is of all its values.
        score: shown there.
    """
    fitting = [
        entry
        for entry in every
        if entry.get("metric", "top1") == score
        and all(same(entry[a], theirs(published, a, v)) for a, v in values.items() if a in entry)
    ]
    if len(fitting) != 1:
        return None, None
    return float(fitting[0]["value"]), fitting[0].get("std")


def theirs(published: Published, axis: str, value: Value) -> Value:
    """How the file names a value of ours."""
    return published.names.get(axis, {}).get(value, value)


def same(one: object, other: object) -> bool:
    """Whether two values of YAML say the same."""
    return str(one) == str(other)
