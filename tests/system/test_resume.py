"""Claims of folders, and work that is done once."""

import pytest

from vdc.system.files import read_json, write_json
from vdc.system.resume import claim, drop_checkpoints, once


def test_a_folder_is_claimed_once_and_refused_to_others(tmp_path):
    mark = tmp_path / "mark.json"
    for _ in range(2):
        claim(mark, {"seed": 1, "sizes": (8, 48)}, "another run", "--out")
    with pytest.raises(ValueError, match=rf"{tmp_path} holds another run \(seed\): choose another --out"):
        claim(mark, {"seed": 2, "sizes": (8, 48)}, "another run", "--out")
    assert read_json(mark) == {"seed": 1, "sizes": [8, 48]}


def test_a_plain_key_is_compared_whole(tmp_path):
    claim(tmp_path / "key.json", "a", "results", "--name")
    with pytest.raises(ValueError, match="holds results: choose another --name"):
        claim(tmp_path / "key.json", "b", "results", "--name")


def test_work_of_the_same_identity_is_done_once(tmp_path):
    path, made = tmp_path / "net.json", []

    def make(key):
        made.append(key)
        write_json(path, {"key": key, "number": len(made)})

    found = [once(path, [1, {"lr": 0.1}], make)["number"] for _ in range(2)]
    assert found == [1, 1]
    assert once(path, [1, {"lr": 0.2}], make)["number"] == 2
    assert len(set(made)) == 2


def test_checkpoints_and_what_a_kill_left_of_them_go(tmp_path):
    for name in ("last.ckpt", ".last.0123abcd.ckpt", "result.json"):
        (tmp_path / name).touch()
    drop_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
