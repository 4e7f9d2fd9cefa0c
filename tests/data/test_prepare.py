import errno
import json
import os
import signal
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.data import odd
from vdc.data import prepare as module
from vdc.data.prepare import prepare, scaled
from vdc.data.reader import open_video
from vdc.system.files import HOST
from vdc.system.mp4 import encode, write_mp4


def ramp(frames=8, height=40, width=60):
    """Frame t is grey level 20 * t + 20."""
    return (
        (20 * torch.arange(1, frames + 1)).byte().view(-1, 1, 1, 1).expand(-1, height, width, 3).contiguous()
    )


def levels(path):
    """Which frame each frame of a prepared `ramp` is."""
    with av.open(str(path)) as film:
        return [round(f.to_ndarray(format="rgb24").mean() / 20) - 1 for f in film.decode(video=0)]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "raw"
    (root / "wave").mkdir(parents=True)
    (root / "walk").mkdir()
    for name in ("wave/one.mp4", "wave/two.avi", "walk/three.mp4"):
        write_mp4(root / name, ramp(), crf=5)
    (root / "train.txt").write_text("wave/one.mp4 0\nwave/two.avi 0\n")
    (root / "lists").mkdir()
    (root / "lists" / "all.csv").write_text("label\n")
    return root


def run(root, out, **options):
    return prepare(str(root), str(out), **{"short_side": 20, "workers": 1} | options)


def times(out):
    return {str(p.relative_to(out)): p.stat().st_mtime_ns for p in sorted(out.rglob("*.mp4"))}


def test_a_copy_is_small_and_keeps_every_frame_and_every_list(root, tmp_path):
    out = tmp_path / "out"
    report = run(root, out)
    assert sorted(times(out)) == ["walk/three.mp4", "wave/one.mp4", "wave/two.mp4"]
    for name in times(out):
        with av.open(str(out / name)) as film:
            stream = film.streams.video[0]
            assert (stream.codec_context.name, stream.height, stream.width) == ("h264", 20, 30)
        assert levels(out / name) == list(range(8))
    assert (out / "train.txt").read_text() == (root / "train.txt").read_text()
    assert (out / "lists/all.csv").exists()
    assert (report["videos"], report["written"], report["kept"], report["failed"]) == (3, 3, 0, [])
    assert report["bytes"]["after"] == sum((out / name).stat().st_size for name in times(out))
    assert json.loads((out / "prepare.json").read_text()) == report


@pytest.mark.parametrize(
    ("height", "width", "want"),
    [
        (240, 320, (128, 170)),
        (320, 240, (170, 128)),
        (100, 120, (100, 120)),
        (1080, 1921, (128, 228)),
        (99, 3, (100, 4)),
    ],
)
def test_sizes_are_even_and_never_grow(height, width, want):
    assert scaled(height, width, 128) == want


def test_key_frames_come_as_often_as_asked(root, tmp_path):
    run(root, tmp_path / "out", gop=2)
    with av.open(str(tmp_path / "out/wave/one.mp4")) as film:
        assert [f.key_frame for f in film.decode(video=0)][::2] == [True] * 4
        assert not film.streams.video[0].codec_context.has_b_frames


def test_a_second_run_keeps_what_is_done(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    before = times(out)
    report = run(root, out)
    assert (report["written"], report["kept"]) == (0, 3)
    assert times(out) == before


def test_only_changed_and_missing_videos_are_written_again(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    before = times(out)
    (out / "walk/three.mp4").unlink()
    write_mp4(root / "wave/one.mp4", ramp(5))
    write_mp4(root / "walk/four.mp4", ramp(3))
    report = run(root, out)
    assert (report["videos"], report["written"], report["kept"]) == (4, 3, 1)
    assert times(out)["wave/two.mp4"] == before["wave/two.mp4"]
    assert levels(out / "wave/one.mp4") == list(range(5))
    assert levels(out / "walk/three.mp4") == list(range(8))


def test_what_a_killed_run_left_is_finished(root, tmp_path):
    out = tmp_path / "out"
    run(root, out)
    lines = (out / "prepare.jsonl").read_text().splitlines()
    kept = next(line for line in lines if "walk/three" in line)
    (out / "prepare.jsonl").write_text(
        "\n".join([lines[1], kept, '{"path": "wave/o'])
    )  # stopped while writing
    (out / "wave/one.mp4").write_bytes(b"")
    (out / f"wave/.two.{HOST}-4194304-{0:016x}.mp4").write_bytes(b"half")  # of no living process
    (out / f".prepare.{HOST}-4194304-{0:016x}.json").write_bytes(b"{")
    report = run(root, out)
    assert (report["written"], report["kept"]) == (2, 1)
    assert levels(out / "wave/one.mp4") == list(range(8))
    assert not list(out.glob(".*"))
    assert sorted(times(out)) == ["walk/three.mp4", "wave/one.mp4", "wave/two.mp4"]
    assert run(root, out)["kept"] == 3


def test_a_full_disk_names_the_journal(root, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vdc.data.prepare._run", full)
    with pytest.raises(OSError, match=r"prepare\.jsonl"):
        run(root, tmp_path / "out")


def test_lists_are_copied_whole_or_not_at_all(root, tmp_path, monkeypatch):
    run(root, tmp_path / "out")
    held = {path: path.read_text() for path in (tmp_path / "out").rglob("*.txt")}
    assert held

    def full(source, target):
        Path(target).write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vdc.data.prepared_lists.shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        run(root, tmp_path / "out")
    assert {path: path.read_text() for path in held} == held


def test_a_run_killed_in_the_middle_goes_on(tmp_path):
    root, out = tmp_path / "raw", tmp_path / "out"
    root.mkdir()
    for i in range(6):
        write_mp4(root / f"{i}.mp4", torch.randint(256, (60, 128, 128, 3), dtype=torch.uint8))
    code = f"from vdc.data.prepare import prepare; prepare({str(root)!r}, {str(out)!r}, workers=1)"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    until = time.monotonic() + 240  # a safety bound: a busy machine imports slowly
    while not times(out) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    finished = sum(
        "path" in json.loads(line) for line in (out / "prepare.jsonl").read_text().splitlines() if line
    )
    report = prepare(str(root), str(out), workers=1)
    assert (report["kept"], report["written"]) == (finished, 6 - finished)
    assert finished < 6
    assert sorted(times(out)) == [f"{i}.mp4" for i in range(6)]


def test_processes_give_the_same_files(root, tmp_path):
    (root / "wave/broken.mp4").write_bytes(b"no video")
    run(root, tmp_path / "one")
    report = run(root, tmp_path / "two", workers=2)
    assert len(report["failed"]) == 1
    for name in times(tmp_path / "one"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_cannot_be_read_is_reported_and_the_rest_is_written(root, tmp_path, capsys):
    noise = torch.randint(256, (30, 40, 60, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    write_mp4(root / "wave/cut.mp4", noise)
    whole = (root / "wave/cut.mp4").read_bytes()
    (root / "wave/cut.mp4").write_bytes(whole[: len(whole) // 2])
    (root / "wave/empty.mp4").write_bytes(b"")
    with av.open(str(root / "walk/sound.mp4"), "w") as film:
        stream = film.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        film.mux(stream.encode(sound))
        film.mux(stream.encode())
    (root / "walk/gone.mp4").symlink_to("nowhere.mp4")
    report = run(root, tmp_path / "out")
    assert (report["videos"], report["written"]) == (7, 3)
    bad = {os.path.basename(entry["path"]): entry["reason"] for entry in report["failed"]}
    assert sorted(bad) == ["cut.mp4", "empty.mp4", "gone.mp4", "sound.mp4"]
    assert all(str(root) in reason for reason in bad.values())
    assert "no video stream" in bad["sound.mp4"]
    assert sorted(times(tmp_path / "out")) == ["walk/three.mp4", "wave/one.mp4", "wave/two.mp4"]
    printed = capsys.readouterr().out
    assert "3 of 7 videos are ready" in printed
    assert all(reason in printed for reason in bad.values())
    assert run(root, tmp_path / "out")["kept"] == 3


def test_a_video_that_went_bad_leaves_no_old_copy(root, tmp_path):
    run(root, tmp_path / "out")
    (root / "wave/one.mp4").write_bytes(b"")
    assert len(run(root, tmp_path / "out")["failed"]) == 1
    assert "wave/one.mp4" not in times(tmp_path / "out")


@pytest.mark.parametrize(("space", "scale"), [("ITU709", "MPEG"), ("ITU601", "JPEG"), ("ITU709", "JPEG")])
def test_colours_are_those_a_reader_shows(tmp_path, space, scale):
    root = tmp_path / "raw"
    root.mkdir()
    image = np.broadcast_to(np.array([200, 40, 60], np.uint8), (64, 64, 3)).copy()
    with av.open(str(root / "hd.mp4"), "w") as film:  # as from cameras and web sites
        stream = film.add_stream("libx264", rate=8, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, "yuv420p"
        context = stream.codec_context
        context.colorspace, context.color_range = (
            (1 if space == "ITU709" else 6),
            (2 if scale == "JPEG" else 1),
        )
        frame = av.VideoFrame.from_ndarray(image)
        frame = frame.reformat(format="yuv420p", dst_colorspace=space, dst_color_range=scale)
        frame.pts = 0
        film.mux(stream.encode(frame))
        film.mux(stream.encode())
    run(root, tmp_path / "out")
    for path in (root / "hd.mp4", tmp_path / "out/hd.mp4"):
        colour = open_video(str(path)).get([0])[0, 5, 5]
        assert (colour.int() - torch.tensor([200, 40, 60])).abs().max() <= 5, path


def test_files_of_hmdb51_with_other_metadata_are_written(root, tmp_path):
    odd.latin(root / "wave/two.avi")
    (root / "walk/odd.avi").write_bytes(b"RIFF\x10\0\0\0AVI LIST")
    report = run(root, tmp_path / "out")
    assert report["written"] == 3
    assert [os.path.basename(entry["path"]) for entry in report["failed"]] == ["odd.avi"]
    assert levels(tmp_path / "out/wave/two.mp4") == list(range(8))


def test_variable_frame_rates_keep_every_frame(tmp_path):
    root = tmp_path / "raw"
    root.mkdir()
    with av.open(str(root / "vfr.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 40, 60, "yuv420p"
        for i, image in enumerate(ramp().numpy()):
            frame = av.VideoFrame.from_ndarray(image).reformat(format="yuv420p")
            frame.pts, frame.time_base = i * i, Fraction(1, 30)
            film.mux(stream.encode(frame))
        film.mux(stream.encode())
    run(root, tmp_path / "out")
    assert levels(tmp_path / "out/vfr.mp4") == list(range(8))


def test_other_settings_need_another_folder(root, tmp_path):
    run(root, tmp_path / "out")
    with pytest.raises(ValueError, match=r"made with .*'short_side': 20.*: choose another folder"):
        run(root, tmp_path / "out", short_side=24)


def test_a_folder_inside_the_source_is_not_read_again(root):
    assert run(root, root / "small")["videos"] == 3
    assert run(root, root / "small")["videos"] == 3


def test_hidden_files_are_left_out_and_lists_from_elsewhere_taken_along(root, tmp_path):
    (root / "wave/._one.mp4").write_bytes(b"resource fork")
    (tmp_path / "split1.txt").write_text("x")
    report = run(root, tmp_path / "out", lists=[str(tmp_path / "split1.txt")])
    assert report["videos"] == 3
    assert (tmp_path / "out/split1.txt").read_text() == "x"


def test_a_full_disk_ends_the_run(root, tmp_path, monkeypatch):
    def full(*rest):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "encode", full)
    with pytest.raises(OSError, match="No space left"):
        run(root, tmp_path / "out")


def test_bad_arguments_are_refused(root, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(FileNotFoundError, match=r"--root .*nowhere: no such folder"):
        run(tmp_path / "nowhere", out)
    with pytest.raises(ValueError, match="is the source itself"):
        run(root, root)
    with pytest.raises(FileNotFoundError, match=r"--lists .*x\.txt: no such file"):
        run(root, out, lists=[str(tmp_path / "x.txt")])
    with pytest.raises(ValueError, match="--gop must be at least 1, got 0"):
        run(root, out, gop=0)
    with pytest.raises(ValueError, match="holds no videos"):
        run(root / "lists", out)
    encode(root / "wave/one.avi", [av.VideoFrame(16, 16)], (16, 16), 8, {})
    with pytest.raises(ValueError, match=r"one\.mp4 and .*one\.avi would both become wave/one\.mp4"):
        run(root, out)
    assert not out.exists()


# -- lists, and what is left out -----------------------------------------------------------------


def test_every_line_of_every_list_is_accounted_for(root, tmp_path, capsys):
    (root / "wave/broken.avi").write_bytes(b"no video")
    (root / "train.txt").write_text(
        "wave/one.mp4 0\n# a comment\nwave/two.avi 0\nwave/gone.mp4 1\nwave/broken.avi 1\n"
    )
    (root / "test.csv").write_text(f"path,label\nwalk/three.mp4,7\n{root}/wave/one.mp4,7\n")
    (root / "classes.txt").write_text("wave\nwalk\n")
    (root / "notes.txt").write_text("Recorded in May.\nSee the page.\n")
    out = tmp_path / "out"
    lists = {entry.pop("path"): entry for entry in run(root, out)["lists"]}
    assert lists["classes.txt"] == {"not_read": "names of classes"}
    assert lists["notes.txt"]["not_read"]
    assert lists["lists/all.csv"]["not_read"]
    train = lists["train.txt"]
    assert (train["listed"], train["ready"]) == (4, 2)
    gone, broken = train["without_video"]
    assert gone == {"where": f"{out}/train.txt:4", "path": "wave/gone.mp4", "reason": "no such video"}
    assert broken["where"] == f"{out}/train.txt:5"
    assert "broken.avi" in broken["reason"]
    assert (lists["test.csv"]["listed"], lists["test.csv"]["ready"]) == (2, 1)
    assert "names the original" in lists["test.csv"]["without_video"][0]["reason"]
    printed = capsys.readouterr().out
    assert "train.txt: 2 of 4 listed videos are not in the copy, first" in printed
    assert "test.csv: 1 of 2 listed videos are not in the copy" in printed


def test_official_lists_are_accounted_for(root, tmp_path):
    (root / "splits").mkdir()
    (root / "splits/wave_test_split1.txt").write_text("one.mp4 1\ntwo.avi 2\nthree.avi 0\n")
    (root / "classInd.txt").write_text("1 walk\n2 wave\n")
    (root / "testlist01.txt").write_text("wave/one.mp4\nwave/two.avi\n")
    (root / "k.csv").write_text("label,youtube_id,time_start,time_end\nwave,gone,0,10\n")
    (root / "list.json").write_text('[{"id": "one", "class": 0}, {"id": "five", "class": 0}]')
    lists = {entry["path"]: entry for entry in run(root, tmp_path / "out")["lists"]}
    counts = {name: (entry.get("listed"), entry.get("ready")) for name, entry in lists.items()}
    assert counts["splits/wave_test_split1.txt"] == (3, 2)
    assert counts["testlist01.txt"] == (2, 2)
    assert counts["k.csv"] == (1, 0)
    assert counts["list.json"] == (2, 1)


def test_what_is_no_video_is_left_out_counted_and_named(root, tmp_path, capsys):
    for name in ("wave/a.MTS", "wave/b.mts", "wave/c.srt", "annotations/preview.mp4", "annotations/all.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("x")
    for name in ("__MACOSX/wave/._one.mp4", "__MACOSX/two.mp4", "wave/Thumbs.db", ".cache/three.mp4"):
        (root / name).parent.mkdir(exist_ok=True, parents=True)
        (root / name).write_text("x")
    out = tmp_path / "out"
    report = run(root, out)
    assert {kind: held["count"] for kind, held in report["left_out"].items()} == {
        ".mts": 2,
        ".srt": 1,
        "in a folder of annotations": 1,
    }
    assert report["videos"] == 3
    assert (out / "annotations/all.txt").exists()
    assert not (out / "__MACOSX").exists()
    assert "left out, as no videos by their names: 2 .mts (" in capsys.readouterr().out


def test_two_lists_of_one_name_are_refused(root, tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "split.txt").write_text("wave/one.mp4 0\n")
    with pytest.raises(ValueError, match=r"--lists: .*y/split\.txt and .*x/split\.txt would both become"):
        run(root, tmp_path / "out", lists=[str(tmp_path / f"{folder}/split.txt") for folder in ("x", "y")])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_names_that_are_not_utf8_are_prepared(root, tmp_path, capsys, workers):
    odd = os.fsdecode(b"gr\xfcn\n")
    os.rename(root / "walk", root / odd)
    (root / odd / "bad.mp4").write_bytes(b"nothing")
    (root / "test.txt").write_bytes(os.fsencode(f"{odd.strip()}/three.mp4 0\n"))
    out = tmp_path / "out"
    report = run(root, out, workers=workers)
    assert levels(out / odd / "three.mp4") == list(range(8))
    assert json.loads((out / "prepare.json").read_text(encoding="utf-8")) == report
    printed = capsys.readouterr().out
    printed.encode()  # any terminal can print it
    assert "gr\\udcfcn" in printed
    assert run(root, out, workers=workers)["kept"] == 3
