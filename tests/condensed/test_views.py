"""Stored views of the items: the few logits that are kept, spread out again."""

import torch

from vdc.condensed.views import dense


def test_dense_fills_the_rest_with_the_lowest_stored():
    logits, index = (
        torch.tensor([[3.0, 1.0], [0.5, -2.0]]).half(),
        torch.tensor([[2, 0], [1, 3]]).to(torch.uint8),
    )
    expected = [[1.0, 1.0, 3.0, 1.0], [-2.0, 0.5, -2.0, -2.0]]
    assert dense(logits, index, 4).tolist() == expected
