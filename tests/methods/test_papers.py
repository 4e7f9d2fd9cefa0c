"""Methods that are another one with published defaults: the same items as that one with the options written out."""

from functools import partial

import pytest
import torch

from tests.methods.tiny import SPEC, K, fit, make_teacher, toy
from vdc.condensed.format import load
from vdc.methods import CDA, DREAM, EDC, GVBSM, IDC, SRe2L, Statistics
from vdc.methods.base.options import Network, RealClips

NOISE = {"init": "noise", "alpha": 1.0, "crop_scale": (0.08, 1.0)}
SQUEEZED = {**NOISE, "taps": "norm", "momentum": 0.0}


def adam(rate):
    return partial(torch.optim.Adam, lr=rate, betas=(0.5, 0.9))


PAPERS = {  # steps, what `Statistics` is given instead
    SRe2L: (4000, SQUEEZED | {"optimizer": adam(0.25)}),
    CDA: (4000, SQUEEZED | {"optimizer": adam(0.25), "curriculum": "cosine"}),
    GVBSM: (4000, NOISE | {"optimizer": adam(0.05), "patch": True}),
    EDC: (1000, {"init": "real", "alpha": 0.5, "momentum": 0.8, "crop_scale": (0.5, 1.0)}),
}


@pytest.mark.parametrize("paper", PAPERS)
def test_a_paper_is_its_choice_of_options(paper, toy_root, tmp_path):
    steps, options = PAPERS[paper]
    teachers = [make_teacher(tmp_path / str(seed), seed) for seed in (5, 6)]
    own = paper(K, SPEC, teachers, iterations=3, out=str(tmp_path / "own"))
    general = Statistics(K, SPEC, teachers, iterations=3, out=str(tmp_path / "general"), **options)
    for model in (own, general):
        fit(model, toy(toy_root))
    found, expected = (load(tmp_path / name) for name in ("own", "general"))
    assert found.tensors["videos"].equal(expected.tensors["videos"])
    assert found.manifest["method"] == paper.__name__
    assert paper(K, SPEC, teachers).iterations == steps
    plain = fit(Statistics(K, SPEC, teachers, iterations=3), toy(toy_root)).memory.frames
    assert plain.equal(found.tensors["videos"]) is (paper is EDC)  # whose choice is the general one's


def test_dream_is_idc_on_clips_that_cover_their_class(toy_root, tmp_path):
    given = {"net": Network("tiny", {"norm": "in"}), "iterations": 2, "outer": 2, "inner": 1}
    videos = []
    for name, cls, more in (("a", DREAM, {}), ("b", IDC, {"real": RealClips("dream")}), ("c", IDC, {})):
        fit(cls(K, SPEC, **given, **more, out=str(tmp_path / name)), toy(toy_root, per_class=2))
        videos.append(load(tmp_path / name).tensors["videos"])
    assert load(tmp_path / "a").manifest["method"] == "DREAM"
    assert videos[0].equal(videos[1])
    assert not videos[0].equal(videos[2])
