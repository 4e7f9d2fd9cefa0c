import hashlib
import json
import shutil

import av
import pytest
import torch
from PIL import Image, ImageFont

from tests.condensed.conftest import IPC, SPEC, K, draw, make_labels, make_set, stored_frames
from vdc.condensed.format import load, save, verify
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels
from vdc.condensed.preview import STRIP
from vdc.ops.pixels import to_frames
from vdc.spec import ClipSpec

FILES = ["clips.safetensors", "labels.safetensors", "manifest.json", "preview.mp4", "preview.png"]


def test_load_gives_back_what_was_saved(folder):
    found, labels = load(folder), make_labels()
    assert (found.path, found.classes, found.num_classes) == (folder, ["a", "b", "c"], K)
    assert (found.ipc, found.per_item, found.spec) == (IPC, 1, SPEC)
    assert list(found.tensors) == ["videos"]
    assert torch.equal(found.tensors["videos"], stored_frames())
    assert torch.equal(found.labels.hard, labels.hard)
    assert torch.equal(found.labels.soft, labels.soft)
    assert torch.equal(found.labels.views.logits, labels.views.logits)
    assert torch.equal(found.labels.views.index, labels.views.index)
    assert (found.labels.views.seed, found.labels.views.recipe) == (
        9,
        {"crop_scale": [0.08, 1.0], "flip": 0.5},
    )


def test_what_is_stored_is_what_is_rendered(tmp_path):
    learnt = Pixels(K, IPC, SPEC)
    learnt.initialise(draw(K, IPC, 3, 4, 12, 12))
    before = learnt.state()["videos"]
    memory = load(make_set(tmp_path / "set", learnt)).memory()
    again = make_set(tmp_path / "again", memory)
    assert torch.equal(memory.state()["videos"], before)
    assert (again / "clips.safetensors").read_bytes() == (tmp_path / "set" / "clips.safetensors").read_bytes()


def test_the_manifest_says_everything(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    assert (manifest["format"], manifest["version"]) == ("vdc condensed set", 1)
    assert manifest["memory"] == {"class": "Pixels", "options": {}}
    assert manifest["labels"]["kind"] == "views"
    assert (manifest["method"], manifest["seed"]) == ("Random", 4)
    assert manifest["config"] == {"ipc": 2, "path": str(folder)}
    assert manifest["source"]["decoder"] == "decord 0.6"
    assert manifest["normalisation"]["mean"] == [0.485, 0.456, 0.406]
    assert {"python", "torch", "vdc"} <= manifest["versions"].keys()
    assert sorted(manifest["files"]) == [name for name in FILES if name != "manifest.json"]
    for name, described in manifest["files"].items():
        held = (folder / name).read_bytes()
        assert described == {"bytes": len(held), "sha256": hashlib.sha256(held).hexdigest()}
    assert (folder / "evaluations").is_dir()


def test_bytes_by_hand(folder):
    clips = K * IPC * 4 * 12 * 12 * 3
    labels = K * IPC * (1 + 2 * K + 5 * 2 * 3 + 4)  # hard, soft, 5 views of 2 logits and classes, view number
    assert load(folder).nbytes == {"clips": clips, "decoder": 0, "labels": labels}
    assert load(folder).manifest["bytes"] == load(folder).nbytes
    half = load(folder, ipc=1).nbytes
    assert half == {"clips": clips // 2, "decoder": 0, "labels": labels // 2}


def test_a_prefix_is_the_first_items_of_every_class(folder):
    found, whole = load(folder, ipc=1), load(folder)
    assert found.ipc == 1
    assert torch.equal(found.tensors["videos"], stored_frames()[[0, 2, 4]])
    assert found.labels.hard.tolist() == [0, 1, 2]
    assert torch.equal(found.labels.soft, whole.labels.soft[[0, 2, 4]])
    assert found.labels.views.rows.tolist() == [0, 2, 4]
    memory = found.memory()
    assert torch.equal(memory.state()["videos"], stored_frames()[[0, 2, 4]])
    assert memory.render(torch.tensor([2]))[1].tolist() == [2]


@pytest.mark.parametrize("ipc", [0, 3])
def test_more_items_than_stored_are_refused(folder, ipc):
    with pytest.raises(ValueError, match=f"ipc {ipc} asked of .*set, which holds 2 items per class"):
        load(folder, ipc=ipc)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_a_changed_byte_is_caught_and_the_file_named(folder, name, where):
    held = bytearray((folder / name).read_bytes())
    held[int(where * (len(held) - 2))] ^= 1
    (folder / name).write_bytes(held)
    with pytest.raises(ValueError, match=name):
        load(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises((ValueError, FileNotFoundError), match=f"{name} is missing"):
        load(folder)


def test_a_folder_moved_elsewhere_still_loads(folder, tmp_path):
    moved = shutil.move(folder, tmp_path / "moved")
    assert verify(moved)["digest"] == load(moved).manifest["digest"]


def test_an_unknown_version_and_another_format_are_refused(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": 2}))
    with pytest.raises(ValueError, match="format version 2, this vdc reads 1"):
        load(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="does not describe a condensed set"):
        load(folder)


def test_a_folder_that_is_no_set_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=r"manifest\.json is missing"):
            load(path)


class Broken(Pixels):
    """Fails after the tensors were handed over, before the set is complete."""

    def render(self, rows):
        raise RuntimeError("out of memory")


def test_a_failure_leaves_the_older_set_and_nothing_else(folder, tmp_path):
    before = (folder / "manifest.json").read_bytes()
    for out in (folder, tmp_path / "new"):
        with pytest.raises(RuntimeError, match="out of memory"):
            make_set(out, Broken(K, IPC, SPEC))
    assert (folder / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    load(folder)


def test_a_set_is_replaced_without_its_evaluations(folder):
    (folder / "evaluations" / "old.json").write_text("{}")
    make_set(folder, seed=5)
    assert load(folder).manifest["seed"] == 5
    assert list((folder / "evaluations").iterdir()) == []


@pytest.mark.parametrize("held", ["notes.txt", "manifest.json"])
def test_other_peoples_folders_are_not_replaced(tmp_path, held):
    (tmp_path / held).write_text("{}")
    with pytest.raises(ValueError, match="is no condensed set: it is not replaced"):
        make_set(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == [held]


def test_parts_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match="2 class names for a memory of 3 classes"):
        make_set(tmp_path / "set", classes=["a", "b"])
    with pytest.raises(ValueError, match="4 labels for a memory of 6 clip rows"):
        make_set(tmp_path / "set", labels=Labels(torch.arange(4)))
    assert list(tmp_path.iterdir()) == []


class Packed(Pixels):
    """Two clips per item, and a tensor all items share."""

    per_item = 2
    shared = "shared.bank"

    def clips(self, rows):
        half = self.videos.unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)[rows]
        return half.repeat_interleave(2, 2)

    def state(self):
        return super().state() | {self.shared: torch.ones(5)}

    @classmethod
    def restore(cls, state, *args, **options):
        return super().restore({"videos": state["videos"]}, *args, **options)


def test_clip_rows_of_packed_items_and_shared_tensors(tmp_path, monkeypatch):
    monkeypatch.setattr("vdc.condensed.memory.MEMORIES", (Packed,))
    labels = Labels(torch.arange(K).repeat_interleave(2 * IPC), draw(2 * K * IPC, K).half())
    memory = Packed(K, IPC, SPEC)
    found = load(make_set(tmp_path / "set", memory, labels), ipc=1)
    assert found.rows().tolist() == [0, 1, 2, 3, 4, 5]
    assert torch.equal(found.labels.soft, labels.soft[[0, 1, 4, 5, 8, 9]])
    assert found.tensors["videos"].shape[0] == K
    assert found.tensors["shared.bank"].tolist() == [1] * 5
    assert found.nbytes["decoder"] == 5 * 4
    memory.shared = "bank"
    with pytest.raises(ValueError, match="'bank' has 5 rows, not one per item"):
        make_set(tmp_path / "set", memory, labels)


def test_previews_open_and_show_the_clips(folder):
    with av.open(str(folder / "preview.mp4")) as film:
        stream = film.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = [f.to_ndarray(format="gray") for f in film.decode(stream)]
    assert len(frames) == 32
    assert frames[0].shape[0] == STRIP + K * 98
    names = 8 + max(int(ImageFont.load_default().getlength(name)) for name in load(folder).classes)
    stored = to_frames(load(folder).memory().render(torch.tensor([(K - 1) * IPC]))[0])[0]
    times = 96 // stored.shape[1]
    corner = frames[3][-98:, names:][: times * stored.shape[1], : times * stored.shape[2]].astype(float)
    ours = torch.from_numpy(corner).view(stored.shape[1], times, stored.shape[2], times).mean((1, 3))
    luma = stored[3].float() @ torch.tensor([0.299, 0.587, 0.114])
    assert (ours - luma).abs().mean() < 12
    assert Image.open(folder / "preview.png").size[1] == STRIP + K * (60 + 2) + STRIP


def test_a_long_class_list_is_shown_in_part(tmp_path):
    memory = Pixels(40, 1, ClipSpec(frames=1, size=8))
    labels = Labels(memory.labels)
    out = save(tmp_path / "set", memory, labels, classes=[f"c{k}" for k in range(40)], source={}, method="m",
               config={}, seed=0)  # fmt: skip
    assert Image.open(out / "preview.png").size[1] == STRIP + 16 * 66 + STRIP


def test_the_same_set_is_written_byte_for_byte(tmp_path):
    make_set(tmp_path / "a", config={})
    make_set(tmp_path / "b", config={})
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
