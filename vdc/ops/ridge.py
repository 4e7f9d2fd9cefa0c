"""Kernel ridge regression on features: what a linear head fitted to the synthetic clips predicts."""

import torch
from torch import Tensor
from torch.nn import functional as F


def ridge_predict(support: Tensor, labels: Tensor, targets: Tensor, reg: float = 1e-6) -> Tensor:
    """Predictions for `targets` of ridge regression on `support` (FRePo: Zhou et al., NeurIPS 2022).

    F_t F_s' (F_s F_s' + reg tr(F_s F_s') / n I)^-1 Y_s, solved in float64 through a Cholesky factor. The
    diagonal is 1e-12 larger, and raised tenfold while rounding leaves the kernel not positive definite (clips
    that repeat, with reg 0): finite inputs give finite predictions and gradients.

    Args:
        support: features F_s of synthetic clips, (n, ...).
        labels: their regression labels Y_s, (n, K).
        targets: features F_t of real clips, (m, ...).
        reg: share of the kernel's mean diagonal added to the diagonal.

    Returns:
        (m, K), in the dtype of `labels`.
    """
    fs, ft, ys = (t.flatten(1).double() for t in (support, targets, labels))
    kernel = fs @ fs.T
    ridge = kernel.diagonal().mean()
    factor = _factor(kernel, ridge, reg)
    return (ft @ (fs.T @ torch.cholesky_solve(ys, factor))).to(labels.dtype)


def _factor(kernel: Tensor, ridge: Tensor, reg: float) -> Tensor:
    """Cholesky factor of kernel + reg * ridge * I, with the extra diagonal, from 1e-12 on, that it needs."""
    if not torch.isfinite(ridge):
        raise ValueError("features of the synthetic clips are not finite: lower the learning rate")
    eye = torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device)
    factor: Tensor
    extra = 1e-12
    while True:
        factor, failed = torch.linalg.cholesky_ex(kernel + (reg * ridge + extra) * eye)
        if not failed:
            return factor
        extra = max(10 * extra, 1e-12 * ridge.item())


def centred_labels(labels: Tensor, num_classes: int) -> Tensor:
    """One-hot minus 1/K: regression labels (N, K) of classes (N,) int64.

    FRePo starts learnable labels at these over sqrt(K / 10).
    """
    return F.one_hot(labels, num_classes).to(torch.get_default_dtype()) - 1 / num_classes


def label_margin(labels: Tensor) -> Tensor:
    """Mean of -min(largest - second largest, 1/K) over rows: keeps learnt labels (N, K) from going flat.

    FRePo: Zhou et al., NeurIPS 2022; K at least 2.
    """
    best = labels.topk(2, dim=1).values
    return -(best[:, 0] - best[:, 1]).clamp_max(1 / labels.shape[1]).mean()
