"""Distances between what real and synthetic clips make of a network: class means, whole laws, gradients."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

Metric = Literal["ours", "mse", "l1", "cos"]


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of every class, in one pass whatever the number of classes.

    Args:
        features: (N, ...), flattened to (N, D); half precision is summed in float32.
        labels: class of each row, (N,) int64.
        num_classes: K.

    Returns:
        means (K, D), zero for a class without rows; rows per class (K,), same dtype.
    """
    rows = features.flatten(1)
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    sums = rows.new_zeros(num_classes, rows.shape[1]).index_add(0, labels, rows)
    counts = rows.new_zeros(num_classes).index_add(
        0, labels, rows.new_ones(len(labels))
    )  # bincount waits for it
    return sums / counts.clamp_min(1)[:, None], counts


def mean_distance(
    real: Tensor, real_labels: Tensor, syn: Tensor, syn_labels: Tensor, num_classes: int
) -> Tensor:
    """Sum over classes of the squared distance of class means (DM: Zhao & Bilen, WACV 2023).

    Classes missing on either side contribute nothing, so a step may hold a block of classes.

    Args:
        real: features of real clips, (N, ...); held constant by the caller.
        real_labels: (N,) int64.
        syn: features of synthetic clips, (M, ...).
        syn_labels: (M,) int64.
        num_classes: K.
    """
    real_means, real_counts = class_means(real, real_labels, num_classes)
    syn_means, syn_counts = class_means(syn, syn_labels, num_classes)
    present = (real_counts > 0) & (syn_counts > 0)
    return ((real_means - syn_means).square().sum(1) * present).sum()


def ncf_distance(
    real: Tensor,
    real_labels: Tensor,
    syn: Tensor,
    syn_labels: Tensor,
    num_classes: int,
    frequencies: Tensor,
    alpha: float = 0.5,
    beta: float = 0.5,
) -> Tensor:
    """Sum over classes of the distance of characteristic functions (NCFM: Wang et al., CVPR 2025).

    Phi(t) = mean_n exp(i t.f_n); the distance is the mean over t of sqrt(alpha A^2 + beta P), with the
    amplitude gap A = |Phi_r| - |Phi_s| and the phase gap P = 2 (|Phi_r||Phi_s| - Re Phi_r conj Phi_s). Then
    A^2 + P = |Phi_r - Phi_s|^2. The authors use unit-length features and multiply the result by 300. Both
    roots have 1e-8 added below them: at a match their slope would be infinite.

    Args:
        real: features of real clips, (N, ...); held constant by the caller.
        real_labels: (N,) int64.
        syn: features of synthetic clips, (M, ...).
        syn_labels: (M,) int64.
        num_classes: K; classes missing on either side contribute nothing.
        frequencies: t, (F, D); standard normal in the paper.
        alpha: weight of amplitudes.
        beta: weight of phases.
    """
    real_re, real_im, real_counts = _characteristic(real, real_labels, num_classes, frequencies)
    syn_re, syn_im, syn_counts = _characteristic(syn, syn_labels, num_classes, frequencies)
    real_size = (real_re.square() + real_im.square() + 1e-8).sqrt()
    syn_size = (syn_re.square() + syn_im.square() + 1e-8).sqrt()
    phase = 2 * (real_size * syn_size - real_re * syn_re - real_im * syn_im).clamp_min(0)
    gap = (alpha * (real_size - syn_size).square() + beta * phase + 1e-8).sqrt().mean(1)
    return (gap * ((real_counts > 0) & (syn_counts > 0))).sum()


def _characteristic(
    features: Tensor, labels: Tensor, num_classes: int, frequencies: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Characteristic function of every class, real and imaginary part (K, F) each; rows per class (K,)."""
    with torch.autocast(features.device.type, enabled=False):  # a phase in half precision is noise
        angles = features.flatten(1).to(frequencies.dtype) @ frequencies.T  # (N, F)
    means, counts = class_means(torch.cat([angles.cos(), angles.sin()], 1), labels, num_classes)
    re, im = means.chunk(2, 1)
    return re, im, counts


def gradient_distance(
    syn: Mapping[str, Tensor], real: Mapping[str, Tensor], metric: Metric = "ours", conv_only: bool = False
) -> Tensor:
    """Distance of two gradients of one network, layer by layer.

    `ours` (DC: Zhao et al., ICLR 2021) sums 1 - cosine over the rows of every weight, a row being what feeds
    one output: (out, rest) for linear layers and for convolutions of any dimension. Tensors of one axis
    (biases, norms) do not count. `mse` sums squared and `l1` absolute differences, `cos` takes one cosine,
    all over all tensors. IDC (Kim et al., ICML 2022) is `mse`, or `l1` for large images, with `conv_only`.

    Args:
        syn: gradient on synthetic clips per parameter name.
        real: gradient on real clips, same names and shapes; held constant by the caller.
        metric: see above.
        conv_only: count weights of convolutions (four axes or more) only.
    """
    if syn.keys() != real.keys():
        raise ValueError(f"gradients of different parameters: {sorted(syn.keys() ^ real.keys())}")
    least = 4 if conv_only else 2 if metric == "ours" else 0
    pairs = [(g, real[name]) for name, g in syn.items() if g.ndim >= least]
    if not pairs:
        raise ValueError(f"no parameter has the {least} axes that count here")
    if metric == "l1":
        return torch.stack([(a - b).abs().sum() for a, b in pairs]).sum()
    if metric == "mse":
        return torch.stack([(a - b).square().sum() for a, b in pairs]).sum()
    if metric == "cos":
        flat = (torch.cat([pair[side].flatten() for pair in pairs])[None] for side in (0, 1))
        return _row_cosines(*flat)
    return torch.stack([_row_cosines(a.flatten(1), b.flatten(1)) for a, b in pairs]).sum()


def _row_cosines(a: Tensor, b: Tensor) -> Tensor:
    """Sum over rows of 1 - cosine; rows that are zero on both sides are equal and count 0.

    The authors add 1e-6 to the product of norms; as a floor instead, it leaves equal gradients at distance 0.
    """
    a_norm: Tensor = torch.linalg.vector_norm(a, dim=1)
    b_norm: Tensor = torch.linalg.vector_norm(b, dim=1)
    cosine = (a * b).sum(1) / (a_norm * b_norm).clamp_min(1e-6)
    return ((1 - cosine) * ((a_norm > 0) | (b_norm > 0))).sum()
