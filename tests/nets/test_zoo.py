import pytest
import torch

from vdc.nets import build, names
from vdc.spec import ClipSpec

SMALL = ClipSpec(frames=8, size=48)


def test_names():
    assert names()[:4] == ["minic3d", "i3d", "r2plus1d", "slowonly"]
    assert {"cnn_mean", "cnn_gru", "cnn_lstm", "r3d_18", "s3d", "swin3d_t"} <= set(names())


@pytest.mark.parametrize(
    ("wrong", "right"), [("minic3", "minic3d"), ("r2plus1d18", "r2plus1d_18"), ("I3D", "i3d")]
)
def test_wrong_name_names_the_nearest(wrong, right):
    with pytest.raises(ValueError, match=f"net '{wrong}' is unknown: did you mean .*{right}"):
        build(wrong, 3, ClipSpec())


def test_wrong_option_and_class_count():
    with pytest.raises(ValueError, match="net i3d has no option 'norm': it has none"):
        build("i3d", 3, ClipSpec(), norm="in")
    with pytest.raises(ValueError, match="net cnn_gru has no option 'head'"):  # the name says it
        build("cnn_gru", 3, ClipSpec(), head="lstm")
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        build("minic3d", 0, ClipSpec())


@pytest.mark.parametrize("options", [{"width": "x"}, {"width": [1]}, {"norm": []}, {"dropout": {}}])
def test_options_of_another_kind_are_named(options):
    with pytest.raises(ValueError, match=r"^net minic3d cannot be built with \{'(width|norm|dropout)': .*: "):
        build("minic3d", 3, ClipSpec(), **options)


@pytest.mark.parametrize(
    ("name", "spec", "reason"),
    [
        ("minic3d", ClipSpec(frames=8, size=42), "minic3d needs spec.size at least 43, not 42: "),
        ("minic3d", ClipSpec(frames=3, size=112), "minic3d needs spec.frames at least 4, not 3: "),
        (
            "minic3d",
            ClipSpec(frames=2, size=8),
            "spec.frames at least 4, not 2 and spec.size at least 43, not 8: ",
        ),
        (
            "s3d",
            ClipSpec(frames=4, size=16),
            "s3d needs spec.frames at least 5, not 4 and spec.size at least 17, not",
        ),
    ],
)
def test_clips_a_net_cannot_take(name, spec, reason):
    with pytest.raises(ValueError, match=reason):
        build(name, 3, spec)


def test_least_clip_is_taken_and_the_next_smaller_is_not():
    net = build("minic3d", 3, ClipSpec(frames=4, size=43)).eval()
    assert net(torch.randn(1, 3, 4, 43, 43)).shape == (1, 3)
    for frames, size in ((4, 42), (3, 43)):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            net(torch.randn(1, 3, frames, size, size))
