"""Condensed sets that somebody else wrote: they are read as they should be, or refused in one line."""

import json
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.condensed.conftest import IPC, SPEC, K, make_labels, make_set
from tests.mutants import fault, mutants, one_line
from vdc.condensed.format import find_set, load, verify
from vdc.condensed.labels import Labels
from vdc.condensed.memory import MultiFormation, StaticDynamic
from vdc.spec import ClipSpec
from vdc.system.files import digest, sha256


def multi_formation():
    return MultiFormation(K, IPC, SPEC, factor=2)


def static_dynamic():
    return StaticDynamic(K, IPC, ClipSpec(frames=4, size=12), budget=0)


MAKERS = {"pixels": None, "packed": multi_formation, "static": static_dynamic}


def stranger(tmp_path, name, kind="hard"):
    memory = MAKERS[name]() if MAKERS[name] else None
    if memory is None:
        return make_set(tmp_path / "set", labels=make_labels(kind))
    return make_set(tmp_path / "set", memory, Labels(memory.labels))


def rewrite(path, manifest=None):
    """The manifest, with hashes that fit: what a stranger can do."""
    manifest = json.loads((path / "manifest.json").read_text()) if manifest is None else manifest
    for name, written in manifest["files"].items() if isinstance(manifest.get("files"), dict) else ():
        if isinstance(written, dict) and "/" not in name and (path / name).is_file():
            written["sha256"] = sha256(path / name)
    if "digest" in manifest:
        manifest["digest"] = digest({key: value for key, value in manifest.items() if key != "digest"})
    (path / "manifest.json").write_text(json.dumps(manifest))


def use(path):
    """All that evaluation takes of a set."""
    found = load(path)
    memory = found.memory()
    clips, _ = memory.render(torch.arange(len(memory)))
    assert len(clips) == len(found.labels) == found.num_classes * found.ipc * found.per_item
    assert clips.isfinite().all()
    assert found.prefix(1).nbytes
    return found


@pytest.mark.parametrize(("name", "kind"), [("pixels", "views"), ("packed", "hard"), ("static", "hard")])
def test_every_changed_manifest_is_read_or_refused_in_one_line(tmp_path, name, kind):
    path = stranger(tmp_path, name, kind)
    whole = json.loads((path / "manifest.json").read_text())
    whole["config"] = {"data": {"class_path": "ToyData"}}
    refused, asked = 0, 0
    for how, manifest in mutants(whole):
        if name != "pixels" and not any(key in how for key in ("memory", "ipc", "per_item", "classes")):
            continue
        asked += 1
        rewrite(path, manifest)
        refused += fault(lambda: use(path), path, how)
    assert refused > 0.6 * asked


def tensors_of(path, file):
    return load_file(path / file)


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("labels", lambda t: t | {"soft": torch.randn(K * IPC, K + 2).half()}, "soft is"),
        ("labels", lambda t: t | {"soft": torch.full((K * IPC, K), torch.nan).half()}, "not finite"),
        ("labels", lambda t: t | {"hard": t["hard"] * 0}, "hard labels are not those of its items"),
        ("labels", lambda t: t | {"hard": t["hard"] + 200}, "hard holds 200 to 202, expected 0 to 2"),
        ("labels", lambda t: t | {"hard": t["hard"].float()}, "hard is"),
        ("labels", lambda t: t | {"hard": t["hard"][:-1]}, "expected"),
        ("labels", lambda t: t | {"hard": torch.tensor(1, dtype=torch.uint8)}, "hard"),
        ("labels", lambda t: t | {"more": t["hard"].clone()}, "tensor 'more' is none of"),
        ("labels", lambda t: {k: v for k, v in t.items() if k != "hard"}, "'hard' is missing"),
        ("labels", lambda t: t | {"views.index": t["views.index"] + 9}, "views.index holds"),
        ("labels", lambda t: t | {"views.rows": -t["views.rows"]}, "views.rows holds"),
        ("labels", lambda t: t | {"views.logits": t["views.logits"][:, :2]}, "views.logits is"),
        ("clips", lambda t: t | {"more": torch.zeros(K * IPC, 1)}, "tensor 'more' is none of Pixels"),
        ("clips", lambda t: t | {"shared.more": torch.zeros(2)}, "tensor 'shared.more' is none of Pixels"),
        ("clips", lambda t: {"other": t["videos"]}, "clips.safetensors"),
        ("clips", lambda t: {"videos": t["videos"].float() / 0}, "not finite"),
        ("clips", lambda t: {"videos": t["videos"].float()}, "expected"),
        ("clips", lambda t: {"videos": t["videos"].to(torch.float8_e4m3fn)}, "is of torch.float8_e4m3fn"),
        ("clips", lambda t: {"videos": t["videos"][1:]}, "expected 6 rows"),
        ("clips", lambda t: {"videos": torch.tensor(1, dtype=torch.uint8)}, "expected 6 rows"),
        ("clips", lambda t: {"videos": t["videos"][:, :, :8]}, "expected"),
        ("clips", lambda t: {}, "clips.safetensors"),
    ],
)  # fmt: skip
def test_tensors_that_are_not_what_the_manifest_says(tmp_path, file, change, words):
    path = stranger(tmp_path, "pixels", "views")
    name = path / f"{file}.safetensors"
    save_file({key: t.contiguous() for key, t in change(load_file(name)).items()}, name)
    rewrite(path)
    with pytest.raises(ValueError, match=words) as error:
        load(path)
    assert one_line(error.value, path)


@pytest.mark.parametrize("name", ["labels.safetensors", "clips.safetensors"])
@pytest.mark.parametrize("held", [b"", b"\0" * 8, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_damaged_tensors(tmp_path, name, held):
    path = stranger(tmp_path, "pixels")
    (path / name).write_bytes(held)
    rewrite(path)
    with pytest.raises(ValueError, match=name) as error:
        load(path)
    assert one_line(error.value, path)


# -- nothing outside of the folder -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../secret.txt", "/etc/hostname", "a/b", "..", ".", "", "a\\b", "a\0b", "a\nb"]
)
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path, name):
    path = stranger(tmp_path, "pixels")
    (tmp_path / "secret.txt").write_text("secret")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": 6, "sha256": sha256(tmp_path / "secret.txt")}
    rewrite(path, manifest)
    with pytest.raises(ValueError, match="a plain file name is needed") as error:
        verify(path)
    assert one_line(error.value, path)


@pytest.mark.parametrize("name", ["clips.safetensors", "labels.safetensors", "manifest.json", "preview.png"])
def test_links_are_not_followed(tmp_path, name):
    path = stranger(tmp_path, "pixels")
    os.rename(path / name, tmp_path / name)
    (path / name).symlink_to(tmp_path / name)
    with pytest.raises(ValueError, match=f"{name} is no plain file: links and the like are not followed"):
        load(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    path = stranger(tmp_path, "pixels")
    (path / "clips.safetensors").unlink()
    os.mkfifo(path / "clips.safetensors")
    with pytest.raises(ValueError, match="no plain file"):
        load(path)


def test_a_link_for_evaluations_is_refused(tmp_path):
    path = stranger(tmp_path, "pixels")
    (path / "evaluations").rmdir()
    (path / "evaluations").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="evaluations is a link"):
        load(path)


def test_files_of_a_set_that_are_not_hashed_are_missed(tmp_path):
    path = stranger(tmp_path, "pixels")
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["files"]["clips.safetensors"]
    rewrite(path, manifest)
    with pytest.raises(ValueError, match=r"files: clips.safetensors is missing"):
        load(path)


def test_a_run_is_as_good_as_its_set_and_a_link_to_it_too(tmp_path):
    path = make_set(tmp_path / "run-1/condensed")
    (tmp_path / "run").symlink_to("run-1")
    assert find_set(tmp_path / "run-1") == find_set(tmp_path / "run") == path
    assert find_set(path) == path
    assert load(tmp_path / "run").path == path
    with pytest.raises(FileNotFoundError, match="nor a finished run"):
        find_set(tmp_path / "none")
