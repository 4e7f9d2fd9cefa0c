import pytest
import torch

from vdc.nets import build
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=43)


def test_dropout_is_an_option_of_minic3d():
    clips = torch.randn(2, 3, 4, 43, 43)
    whole = build("minic3d", 3, SPEC, norm="in", dropout=0.0).train()
    assert whole.options["dropout"] == 0.0
    torch.testing.assert_close(whole(clips), whole.eval()(clips))  # training equals testing: nothing dropped
    half = build("minic3d", 3, SPEC, norm="in").train()
    assert half.options["dropout"] == 0.5
    assert not torch.equal(half(clips), half(clips))


def test_width_scales_the_channels():
    half = build("minic3d", 3, SPEC, width=0.5)
    assert [conv.out_channels for conv in half.convs] == [32, 64, 64]
    assert half.features(torch.randn(2, 3, 4, 43, 43)).shape == (2, 64)
    with pytest.raises(ValueError, match=r"width must be in \(0, 4\], got 0"):
        build("minic3d", 3, SPEC, width=0)


def test_refuses_to_drop_everything():
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\), got 1"):
        build("minic3d", 3, SPEC, dropout=1.0)
