"""Claims of folders, and work that is done once."""

import os

import pytest

from tests.killing import Killed
from vdc.system.files import read_json, write_json
from vdc.system.resume import claim, drop_checkpoints, once, work_folder


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


def test_what_a_kill_left_at_the_very_end_goes_at_the_next_start(tmp_path):
    path = tmp_path / "net.json"

    def make(key):
        write_json(path, {"key": key})
        work = work_folder(tmp_path, key)
        work.mkdir()
        for name in ("last.ckpt", "best.safetensors", "events"):
            (work / name).touch()
        raise Killed

    with pytest.raises(Killed):
        once(path, [1], make)
    once(path, [1], make)
    (work,) = tmp_path.glob("run-*")
    assert [entry.name for entry in work.iterdir()] == ["events"]


def test_a_kill_while_an_older_network_moves_aside_loses_nothing(tmp_path, monkeypatch):
    path, weights = tmp_path / "net.json", tmp_path / "weights.safetensors"

    def make(key):
        weights.write_text(key)
        write_json(path, {"key": key})

    def killed(*_):
        raise Killed

    older = once(path, [1], make)["key"]
    moved = os.rename

    def once_only(one, other):
        moved(one, other)
        monkeypatch.setattr(os, "rename", killed)

    monkeypatch.setattr(os, "rename", once_only)
    with pytest.raises(Killed):
        once(path, [2], make)
    monkeypatch.setattr(os, "rename", moved)
    once(path, [2], make)
    before = tmp_path / "before-1"
    assert (before / weights.name).read_text() == older
    assert read_json(before / path.name)["key"] == older


def test_checkpoints_and_what_a_kill_left_of_them_go(tmp_path):
    for name in ("last.ckpt", ".last.0123abcd.ckpt", "result.json"):
        (tmp_path / name).touch()
    drop_checkpoints(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
