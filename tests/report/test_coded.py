"""All training clips, coded: the bytes are those of files that play the clips."""

import json

import av
import numpy as np
import pytest
import torch

from tests.report.test_rows import result
from vdc.data import RealData
from vdc.report import coded
from vdc.report.coded import code_training_clips, training_clips
from vdc.report.report import report
from vdc.report.results import read_coded
from vdc.spec import ClipSpec
from vdc.system.mp4 import write_mp4


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("left", "right")):
        for n in range(3 - label):
            (tmp_path / "videos/train" / name).mkdir(parents=True, exist_ok=True)
            shade = torch.full((12, 32, 32, 3), 40 + 60 * n + 20 * label, dtype=torch.uint8)
            shade[:, 4:12, 4:12] = torch.from_numpy(rng.integers(0, 255, (12, 8, 8, 3)).astype(np.uint8))
            write_mp4(tmp_path / "videos/train" / name / f"{n}.mp4", shade)
    spec = ClipSpec(frames=4, size=16, stride=2)
    return RealData(str(tmp_path / "videos"), "train", "train", spec=spec, load_size=(16, 16))


def test_every_training_video_is_one_clip_class_by_class(data):
    found = list(training_clips(data))
    assert [label for label, _ in found] == [0, 0, 0, 1, 1]
    assert {tuple(frames.shape) for _, frames in found} == {(4, 16, 16, 3)}
    shades = [float(frames[:, 14:, 14:].float().mean()) for _, frames in found]
    assert shades == pytest.approx([40, 100, 160, 60, 120], abs=8)


def test_the_bytes_are_those_of_files_that_hold_the_clips(data, tmp_path, monkeypatch):
    written = []

    def keep(path, frames, **options):
        write_mp4(path, frames, **options)
        with av.open(str(path)) as container:
            pictures = list(container.decode(video=0))
        written.append((path.stat().st_size, len(frames), [p.key_frame for p in pictures]))

    monkeypatch.setattr(coded, "write_mp4", keep)
    found = code_training_clips(data, tmp_path / "out")
    assert found["bytes"] == sum(size for size, *_ in written)
    assert [count for _, count, _ in written] == [12, 8]
    for _, _, keys in written:
        assert len(keys) in (8, 12)
        assert all(keys[::4])  # every clip decodes alone
    assert (found["codec"], found["videos"], found["frames"], found["size"]) == ("H.264 crf 23", 5, 4, 16)
    assert found["train"] == data.fingerprint()["train"]["sha256"]
    assert read_coded([str(tmp_path / "out")]) == [json.loads(json.dumps(found))]
    worse = code_training_clips(data, tmp_path / "other", crf=40)
    assert worse["bytes"] < found["bytes"]


def test_the_report_codes_them_when_asked_and_finds_the_figure_again(data, tmp_path):
    held = result(total=500)
    held["spec"] = {"frames": 4, "size": 16, "stride": 2, "stored_frames": None}
    held["source"]["train"]["sha256"] = data.fingerprint()["train"]["sha256"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/a.json").write_text(json.dumps(held))
    assert report([str(tmp_path / "run")], show=False)[0].of_coded is None
    (first,) = report([str(tmp_path / "run")], show=False, data=data)
    (again,) = report([str(tmp_path / "run")], show=False)
    (figure,) = read_coded([str(tmp_path / "run")])
    assert first.of_coded == again.of_coded == 500 / figure["bytes"]
