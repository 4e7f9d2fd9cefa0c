"""Fitting a code to real videos, from the command line and as a function."""

import math

import pytest
import torch

from tests.methods.tiny import SPEC, toy
from vdc.condensed.code import INFO, Decoder, Law, load_code
from vdc.ops.pixels import to_frames
from vdc.train.code import fit_code


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return toy(tmp_path_factory.mktemp("toy") / "set", augment=False)


def test_it_is_fitted_to_one_clip_of_every_training_video(data, tmp_path):
    info = fit_code(data, str(tmp_path), progress=False)
    law = load_code(tmp_path, SPEC)
    clips = torch.stack([data.candidate(row, 0) for row in range(len(data.labels))])
    by_hand = Law.of([clips], (4, 16, 16))
    torch.testing.assert_close(law.mean, by_hand.mean, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(law.deviation, by_hand.deviation, atol=1e-3, rtol=1e-3)
    assert info["source"] == data.fingerprint()
    assert [int(size) for size in info["psnr"]] == [6, 12, 24, 48, 96]


def test_the_quality_told_is_that_of_test_clips(data, tmp_path):
    info = fit_code(data, str(tmp_path), progress=False)
    decoder, errors = Decoder.of(load_code(tmp_path, SPEC), 48), []
    for raw in data.every_clip(split="test"):
        clips = data.to_batch(raw).clips
        for clip in clips:
            shown = to_frames(decoder.clips(decoder.unpack(decoder.pack(decoder.encode(clip[None])))))
            errors.append(float((shown.double() - to_frames(clip[None]).double()).square().mean()))
    mean = sum(errors) / len(errors)
    assert info["psnr"]["48"] == pytest.approx(10 * math.log10(255**2 / mean), abs=0.02)
    assert list(info["psnr"].values()) == sorted(info["psnr"].values())


def test_the_same_code_is_not_fitted_twice(data, tmp_path):
    info = fit_code(data, str(tmp_path), progress=False)
    stamp = (tmp_path / INFO).stat().st_mtime_ns
    assert fit_code(data, str(tmp_path), progress=False) == info
    assert (tmp_path / INFO).stat().st_mtime_ns == stamp
