import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from vdc.ops.ridge import centred_labels, label_margin, ridge_predict


def rows(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(3, 7), (5, 2)])  # fewer and more clips than features
@pytest.mark.parametrize("reg", [1e-2, 1.0])
def test_prediction_is_the_least_squares_head(n, d, reg):
    """The kernel form equals w = argmin |F_s w - Y|^2 + lam |w|^2, solved in feature space."""
    fs, ys, ft = rows(n, d), rows(n, 2, seed=1), rows(4, d, seed=2)
    lam = reg * fs.square().sum() / n  # trace of the kernel is the squared size of the features
    head = torch.linalg.inv(fs.T @ fs + lam * torch.eye(d, dtype=fs.dtype)) @ fs.T @ ys
    assert torch.allclose(ridge_predict(fs, ys, ft, reg), ft @ head, atol=1e-10)


def test_by_hand():
    predicted = ridge_predict(
        torch.tensor([[2.0]]), torch.tensor([[1.0, -1.0]]), torch.tensor([[4.0]]), reg=1.0
    )
    assert predicted.tolist() == [[1.0, -1.0]]  # 4 * 2 / (4 + 4)


def test_targets_that_are_the_support_get_their_labels():
    fs, ys = rows(4, 2, 3), rows(4, 3, seed=1)
    for reg in (0.0, 1e-10):
        assert torch.allclose(ridge_predict(fs, ys, fs, reg), ys, atol=1e-7)


def test_gradient():
    args = (
        rows(3, 4).requires_grad_(),
        rows(3, 2, seed=1).requires_grad_(),
        rows(2, 4, seed=2).requires_grad_(),
    )
    assert gradcheck(lambda *a: ridge_predict(*a, reg=1e-2), args)
    assert gradgradcheck(lambda *a: ridge_predict(*a, reg=1e-1), args)


@pytest.mark.parametrize("reg", [0.0, 1e-6])
@pytest.mark.parametrize("case", ["repeated", "zero", "huge", "tiny", "flat"])
def test_never_nan(case, reg):
    fs = {
        "repeated": rows(1, 5).expand(6, 5),
        "zero": torch.zeros(6, 5),
        "huge": rows(6, 5) * 1e18,
        "tiny": rows(6, 5) * 1e-18,
        "flat": torch.ones(6, 5) + 1e-7 * rows(6, 5),
    }[case]
    fs = fs.float().clone().requires_grad_()
    ys = rows(6, 3, seed=1).float().requires_grad_()
    predicted = ridge_predict(fs, ys, rows(4, 5, seed=2).float(), reg)
    predicted.square().sum().backward()
    assert predicted.dtype == torch.float32
    for t in (predicted, ys.grad, fs.grad):
        assert torch.isfinite(t).all()


def test_reg_by_default_predicts_alike_in_single_precision():
    fs, ys, ft = rows(8, 30), rows(8, 3, seed=1), rows(5, 30, seed=2)
    single = ridge_predict(fs.float(), ys.float(), ft.float())
    assert torch.allclose(single.double(), ridge_predict(fs, ys, ft), atol=1e-5)


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        ridge_predict(torch.full((2, 2), torch.nan), torch.eye(2), torch.eye(2))


def test_centred_labels_by_hand():
    assert torch.allclose(centred_labels(torch.tensor([1]), 4), torch.tensor([[-0.25, 0.75, -0.25, -0.25]]))
    assert torch.allclose(centred_labels(torch.arange(3), 3).sum(1), torch.zeros(3), atol=1e-7)


def test_label_margin_by_hand():
    labels = torch.tensor([[0.9, 0.1, 0.0, 0.0], [0.3, 0.1, 0.25, 0.0]], dtype=torch.float64)
    assert label_margin(labels).item() == pytest.approx(-(0.25 + 0.05) / 2)  # the first is cut at 1 / 4
    grad = torch.autograd.grad(label_margin(labels.requires_grad_()), labels)[0]
    assert grad.tolist() == [[0, 0, 0, 0], [-0.5, 0, 0.5, 0]]
    assert gradcheck(label_margin, rows(3, 4).requires_grad_())
