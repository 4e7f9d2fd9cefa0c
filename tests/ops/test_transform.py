import math

import pytest
import torch

from vdc.ops.transform import colours, dct_matrix, log_bands, separable
from vdc.spec import MEAN, STD


def test_the_transform_is_the_sum_it_stands_for():
    clip = torch.rand(1, 2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = separable(clip, *(dct_matrix(n) for n in (3, 4, 5)))

    def wave(n, k, at):
        return math.sqrt((1 if k == 0 else 2) / n) * math.cos(math.pi * k * (2 * at + 1) / (2 * n))

    for c, a, b, d in ((0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 0, 2), (1, 0, 2, 0)):
        by_hand = sum(
            float(clip[0, c, t, y, x]) * wave(3, a, t) * wave(4, b, y) * wave(5, d, x)
            for t in range(3)
            for y in range(4)
            for x in range(5)
        )
        assert float(found[0, c, a, b, d]) == pytest.approx(by_hand, abs=1e-12)


def test_the_transform_turns_and_nothing_else():
    for n in (1, 2, 7, 48):
        torch.testing.assert_close(dct_matrix(n) @ dct_matrix(n).T, torch.eye(n, dtype=torch.float64))


def test_a_few_columns_stand_for_coefficients_that_are_zero():
    few = torch.rand(2, 3, 2, 3, 1, dtype=torch.float64)
    whole = torch.zeros(2, 3, 4, 6, 5, dtype=torch.float64)
    whole[:, :, :2, :3, :1] = few
    waves = [dct_matrix(n).T for n in (4, 6, 5)]
    cut = [m[:, :k] for m, k in zip(waves, (2, 3, 1), strict=True)]
    torch.testing.assert_close(separable(few, *cut), separable(whole, *waves))


def test_colours_are_those_of_bt601():
    forth, back, offset = colours(torch.device("cpu"))
    rgb = torch.tensor([[255.0, 0, 0], [0, 128, 64], [255, 255, 255]], dtype=torch.float64).T
    normal = (rgb / 255 - torch.tensor([MEAN]).T) / torch.tensor([STD]).T
    y, cb, cr = forth @ normal + offset
    torch.testing.assert_close(y, 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2], atol=1e-4, rtol=0)
    torch.testing.assert_close(cb, (rgb[2] - y) / 1.772, atol=1e-3, rtol=0)
    torch.testing.assert_close(cr, (rgb[0] - y) / 1.402, atol=1e-3, rtol=0)
    torch.testing.assert_close(back @ (torch.stack([y, cb, cr]) - offset), normal, atol=1e-6, rtol=0)


def test_bands_rise_and_are_as_wide_as_they_are_high():
    assert log_bands(4, 16).tolist() == [0, 1, 2, 3]
    assert log_bands(5, 1).tolist() == [0] * 5
    assert log_bands(8, 2).tolist() == [0, 0, 1, 1, 1, 1, 1, 1]  # split at 1 + f = 3, the root of 9
    bands = log_bands(48, 16)
    assert bands[0] == 0
    assert bands[1] == 1
    assert set(bands.diff().tolist()) <= {0, 1}
    widths = bands.bincount()
    assert len(widths) <= 16
    assert widths[-1] >= 8
