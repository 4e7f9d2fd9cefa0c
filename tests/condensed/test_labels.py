from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vdc.condensed.labels import Labels, Views


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_strongest_logits_of_a_view_are_kept_in_order():
    logits = torch.tensor([[[0.5, 3.0, -1.0, 2.0], [9.0, 8.0, 7.0, 6.0]]])
    views = Views.top(logits, k=2, seed=5, recipe={"net": "minic3d"})
    assert views.logits.tolist() == [[[3.0, 2.0], [9.0, 8.0]]]
    assert views.index.tolist() == [[[1, 3], [0, 1]]]
    assert (views.logits.dtype, views.index.dtype) == (torch.float16, torch.uint8)
    assert (views.seed, views.recipe) == (5, {"net": "minic3d"})


def test_more_asked_than_classes_keeps_all():
    assert Views.top(draw(2, 3, 4), k=20, seed=0, recipe={}).logits.shape == (2, 3, 4)


@pytest.mark.parametrize(("classes", "dtype"), [(256, torch.uint8), (257, torch.int16)])
def test_classes_are_stored_in_the_smallest_type(classes, dtype):
    logits = torch.zeros(1, 1, classes)
    logits[..., -1] = 1
    views = Views.top(logits, k=1, seed=0, recipe={})
    assert (views.index.dtype, views.index.item()) == (dtype, classes - 1)
    hard = Labels(torch.tensor([0, classes - 1]))
    assert hard.tensors()["hard"].dtype == dtype
    assert Labels.from_tensors(hard.tensors(), hard.info(), classes, Path("labels")).hard.tolist() == [
        0,
        classes - 1,
    ]


def test_too_many_classes_are_refused():
    with pytest.raises(ValueError, match="at most 32768 classes"):
        Views.top(torch.zeros(1, 1, 2**15 + 1), k=1, seed=0, recipe={})


def test_bytes_by_hand():
    hard = torch.arange(4)
    assert Labels(hard).nbytes == 4
    assert Labels(hard, soft=draw(4, 10).half()).nbytes == 4 + 4 * 10 * 2
    views = Views.top(draw(4, 3, 10), k=5, seed=0, recipe={})
    # logits 2 bytes, class 1 byte, and 4 bytes per row for the number its views are drawn by
    assert Labels(hard, views=views).nbytes == 4 + 4 * 3 * 5 * (2 + 1) + 4 * 4


def test_the_richest_labels_name_the_kind():
    hard, soft = torch.arange(2), draw(2, 3).half()
    views = Views.top(draw(2, 1, 3), k=1, seed=0, recipe={})
    kinds = [x.kind for x in (Labels(hard), Labels(hard, soft), Labels(hard, soft, views))]
    assert kinds == ["hard", "soft", "views"]


def test_a_prefix_keeps_the_numbers_its_views_are_drawn_by():
    logits = draw(6, 2, 4)
    labels = Labels(torch.arange(6), draw(6, 4).half(), Views.top(logits, k=4, seed=3, recipe={"a": 1}))
    cut = labels.prefix(torch.tensor([0, 2, 4])).prefix(torch.tensor([1, 2]))
    assert cut.hard.tolist() == [2, 4]
    assert torch.equal(cut.soft, labels.soft[[2, 4]])
    assert cut.views.rows.tolist() == [2, 4]
    want = logits[[2, 4]].half()
    assert torch.equal(torch.zeros_like(want).scatter_(2, cut.views.index.long(), cut.views.logits), want)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(2, 300), st.booleans(), st.booleans())
def test_tensors_and_info_describe_the_labels(rows, count, classes, soft, views):
    labels = Labels(
        torch.arange(rows) % classes,
        draw(rows, classes).half() if soft else None,
        Views.top(draw(rows, count, classes), k=2, seed=7, recipe={"crop_scale": [0.5, 1.0], "flip": 0.5})
        if views
        else None,
    )
    again = Labels.from_tensors(labels.tensors(), labels.info(), classes, Path("labels"))
    assert torch.equal(again.hard, labels.hard)
    assert again.hard.dtype == torch.int64
    assert (again.soft is None) == (not soft)
    assert not soft or torch.equal(again.soft, labels.soft)
    assert (again.views is None) == (not views)
    if views:
        for name in ("logits", "index", "rows"):
            assert torch.equal(getattr(again.views, name), getattr(labels.views, name))
        assert (again.views.seed, again.views.recipe) == (7, {"crop_scale": [0.5, 1.0], "flip": 0.5})


@pytest.mark.parametrize("soft", [draw(3, 2).half(), draw(2, 2)])
def test_soft_labels_of_other_rows_or_type_are_refused(soft):
    with pytest.raises(
        ValueError, match=r"soft labels: . rows of torch.float.., expected 2 of torch.float16"
    ):
        Labels(torch.arange(2), soft)


def test_views_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"\(2, 1, 3\) and \(2, 1, 2\), expected \(rows, V, k\) both"):
        Views(0, draw(2, 1, 3).half(), torch.zeros(2, 1, 2, dtype=torch.uint8))
