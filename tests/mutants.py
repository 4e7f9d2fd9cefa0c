"""Files from strangers: every place of a JSON file in turn holds something else."""

import json
from copy import deepcopy

import pytest

DEEP = json.loads("[" * 70 + "]" * 70)
WRONG = [
    None, True, -1, 0, 10**30, 10**7, 1.5, float("nan"), float("inf"), "", "x", "../../secret", "a" * 5000, [], [1],
    [[1, 2], [3]], {}, {"class_path": "evilmod.X"}, DEEP,
]  # fmt: skip


def mutants(held):
    """Copies of a JSON object with one value changed, left out, or added; with a line that says how."""
    for place in places(held):
        for value in WRONG:
            yield f"{place} = {str(value)[:40]}", changed(held, place, value)
        copy = deepcopy(held)
        inner = within(copy, place[:-1])
        del inner[place[-1]]
        yield f"{place} left out", copy


def places(held, above=()):
    """Keys and positions, at every level."""
    for key, value in held.items() if isinstance(held, dict) else enumerate(held):
        yield (*above, key)
        if isinstance(value, dict | list):
            yield from places(value, (*above, key))


def within(held, place):
    for key in place:
        held = held[key]
    return held


def changed(held, place, value):
    copy = deepcopy(held)
    within(copy, place[:-1])[place[-1]] = value
    return copy


def one_line(error, path):
    """What a user gets to read: one line that names the file, and not too long a one."""
    text = str(error)
    return "\n" not in text and str(path) in text and len(text) < 900


def fault(call, path, how):
    """Whether a call refuses what it reads, in one line; anything else than that fails the test."""
    try:
        call()
    except (ValueError, FileNotFoundError) as error:
        told = str(error)
    except Exception as error:
        pytest.fail(f"{how}: {type(error).__name__}: {error}")
    else:
        return False
    assert one_line(told, path), f"{how}: {told}"
    return True
