"""WebDataset shards: samples, labels, parts, and names that lead elsewhere."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.data.videos import tags, write
from vdc.data import RealData
from vdc.data.index import read_index
from vdc.data.shards import expanded, shards_of, unpacked
from vdc.data.splits import read_lists
from vdc.spec import ClipSpec


def shard(path, members, mode="w"):
    with tarfile.open(path, mode) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def found(index):
    return [(video.path.rsplit("/.", 1)[1], index.classes[video.label]) for video in index.videos]


@pytest.mark.parametrize("kind", ["cls", "txt", "json"])
def test_samples_with_labels_of_every_kind(tmp_path, kind):
    note = {
        "cls": lambda k: str(k),
        "txt": lambda k: "ab"[k],
        "json": lambda k: json.dumps({"label": "ab"[k], "x": 1}),
    }
    members = [
        (name, data.encode())
        for k in (0, 1)
        for name, data in ((f"./clips/{k}.v1.{kind}", note[kind](k)), (f"./clips/{k}.v1.mp4", "video"))
    ]
    members = [(name.replace(".v1", ""), data) for name, data in members]
    shard(tmp_path / "train-000.tar", [*members, ("clips/0.jpg", b"thumb"), ("clips/._0.mp4", b"macOS")])
    (tmp_path / "classes.txt").write_text("a\nb\n")
    index = read_index(str(tmp_path), None)
    assert found(index) == [("train-000/clips/0.mp4", "a"), ("train-000/clips/1.mp4", "b")]
    assert all(Path(video.path).read_text() == "video" for video in index.videos)


def test_shards_become_splits_and_clips(tmp_path):
    for part, numbers in (("train", range(4)), ("test", range(4, 6))):
        for n, some in enumerate((list(numbers)[::2], list(numbers)[1::2])):
            members = []
            for number in some:
                data = write(tmp_path / "v.mp4", tag=10 * number).read_bytes()
                members += [(f"{number:04d}.mp4", data), (f"{number:04d}.cls", str(number % 2).encode())]
            shard(tmp_path / f"{part}-{n:06d}.tar", members)
    data = RealData(str(tmp_path), spec=ClipSpec(frames=2, size=16, stride=2), batch_size=4)
    assert data.classes == ["0", "1"]
    assert [len(data.splits[part]) for part in ("train", "test")] == [4, 2]
    shown = {
        int(row): tag
        for raw in data.shuffled()
        for row, tag in zip(raw.rows, tags(raw.frames[:, 0, 0]), strict=True)
    }
    assert [shown[row] for row in range(4)] == [0, 20, 10, 30]
    lists = read_lists(str(tmp_path), "train-{000000..000001}.tar", "test-*.tar", "auto", None)
    assert [len(lists[part].videos) for part in ("train", "test")] == [4, 2]


def test_a_shard_is_unpacked_once_and_known_again(tmp_path):
    path = tmp_path / "a.tar"
    shard(path, [("0.mp4", b"x"), ("0.cls", b"0")])
    folder = unpacked(path)
    before = (folder / "0.mp4").stat().st_mtime_ns
    assert unpacked(path) == folder == tmp_path / ".a"
    assert (folder / "0.mp4").stat().st_mtime_ns == before
    (tmp_path / ".a.tar.lock").unlink()
    unpacked(path)
    assert not (tmp_path / ".a.tar.lock").exists()  # nothing is written any more
    shard(path, [("0.mp4", b"y"), ("0.cls", b"0")])
    with pytest.raises(ValueError, match=r"\.a was unpacked from another a.tar: remove that folder"):
        unpacked(path)


@pytest.mark.parametrize("name", ["../x.mp4", "/x.mp4", "a/../../x.mp4", "a\\x.mp4", "a//x.mp4", "x\n.mp4"])
def test_names_that_lead_elsewhere(tmp_path, name):
    (tmp_path / "in").mkdir()
    shard(tmp_path / "in/a.tar", [("0.mp4", b"x"), ("0.cls", b"0"), (name, b"evil")])
    with pytest.raises(ValueError, match=r"a.tar: member .* would be unpacked elsewhere"):
        unpacked(tmp_path / "in/a.tar")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".a.tar.lock", "a.tar", "in"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret.mp4").write_text("secret")
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("0.mp4")
        link.type, link.linkname = tarfile.SYMTYPE, "secret.mp4"
        tar.addfile(link)
    assert json.loads((unpacked(tmp_path / "a.tar") / "samples.json").read_text())["samples"] == []


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("0.mp4", b"x")], "sample '0' has no label"),
        ([("0.mp4", b"x"), ("0.avi", b"x")], "sample '0' has two videos"),
        ([("0.mp4", b"x"), ("0.json", b"{")], "damaged, or no tar file of samples"),
        ([("0.mp4", b"x"), ("0.cls", b"\xff")], "damaged, or no tar file of samples"),
    ],
)
def test_samples_that_make_no_sense(tmp_path, members, told):
    shard(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=rf"a\.tar: {told}"):
        read_index(str(tmp_path), "a.tar")
    assert not (tmp_path / ".a").exists()


def test_damaged_and_missing_shards(tmp_path):
    shard(tmp_path / "a.tar", [("0.mp4", b"x" * 5000), ("0.cls", b"0")])
    whole = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "a.tar").write_bytes(whole[:3000])
    with pytest.raises(ValueError, match=r"a\.tar: damaged"):
        unpacked(tmp_path / "a.tar")
    (tmp_path / "a-0.tar").write_bytes(whole)
    with pytest.raises(FileNotFoundError, match=r"a-1\.tar: no such shard"):
        read_index(str(tmp_path), "a-{0..1}.tar")


def test_patterns(tmp_path):
    assert expanded("t-{08..11}.tar") == ["t-08.tar", "t-09.tar", "t-10.tar", "t-11.tar"]
    assert expanded("{0..1}{0..1}") == ["00", "01", "10", "11"]
    assert expanded("plain") == ["plain"]
    for name in ("b.tar", "a.tar", "c.txt", ".d.tar"):
        (tmp_path / name).touch()
    assert [path.name for path in shards_of(tmp_path)] == ["a.tar", "b.tar"]
    assert [path.name for path in shards_of(tmp_path / "[ab].tar")] == ["a.tar", "b.tar"]
    assert shards_of(tmp_path / "c.txt") == []


def test_webdataset_reads_and_writes_the_same(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    with webdataset.TarWriter(str(tmp_path / "train-0.tar")) as sink:
        for k in range(3):
            sink.write({"__key__": f"clip{k}", "mp4": b"video%d" % k, "cls": k})
    index = read_index(str(tmp_path), "train-0.tar")
    theirs = (
        webdataset.WebDataset(str(tmp_path / "train-0.tar"), shardshuffle=False)
        .decode()
        .to_tuple("mp4", "cls")
    )
    ours = [(Path(video.path).read_bytes(), video.label) for video in index.videos]
    assert ours == [(video, int(label)) for video, label in theirs]
