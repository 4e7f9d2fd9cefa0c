import math

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from vdc.ops.match import class_means, gradient_distance, mean_distance, ncf_distance

K = 4


def features(seed: int = 0):
    """Ragged classes; class 3 is missing among the synthetic rows, class 0 among the real ones."""
    g = torch.Generator().manual_seed(seed)
    real_labels = torch.tensor([1, 2, 1, 3, 3, 2, 1])
    syn_labels = torch.tensor([2, 0, 1, 1, 2])
    real = torch.randn(7, 2, 3, generator=g, dtype=torch.float64)
    return real, real_labels, torch.randn(5, 2, 3, generator=g, dtype=torch.float64), syn_labels


def test_mean_distance_by_hand():
    real = torch.tensor([[1.0, 2.0], [3.0, 4.0]])  # mean (2, 3)
    syn = torch.tensor([[0.0, 1.0]])
    assert mean_distance(real, torch.tensor([0, 0]), syn, torch.tensor([0]), 1).item() == 8.0


def test_mean_distance_is_the_loop_over_classes():
    real, real_labels, syn, syn_labels = features()
    expected = 0.0
    for k in (1, 2):  # the classes on both sides
        gap = real[real_labels == k].mean(0) - syn[syn_labels == k].mean(0)
        expected += sum(value**2 for value in gap.flatten().tolist())
    found = mean_distance(real, real_labels, syn, syn_labels, K)
    assert found.item() == pytest.approx(expected, rel=1e-12)
    order = torch.tensor([4, 2, 0, 3, 1])
    assert mean_distance(real, real_labels, syn[order], syn_labels[order], K).item() == pytest.approx(
        expected
    )


def test_mean_distance_gradient():
    real, real_labels, syn, syn_labels = features()
    syn.requires_grad_()
    assert gradcheck(lambda s: mean_distance(real, real_labels, s, syn_labels, K), syn)
    mean_distance(real, real_labels, syn, syn_labels, K).backward()
    assert (syn.grad[syn_labels == 0] == 0).all()  # no real row: no pull
    assert (syn.grad[syn_labels == 1] != 0).all()


def test_class_means_of_half_precision_are_summed_in_single():
    rows = torch.full((300, 1), 1.001, dtype=torch.bfloat16)
    means, counts = class_means(rows, torch.zeros(300, dtype=torch.int64), 2)
    assert means.dtype == torch.float32
    assert means[0, 0].item() == pytest.approx(rows[0, 0].item(), rel=1e-5)
    assert counts.tolist() == [300, 0]
    assert means[1, 0].item() == 0


def slow_ncf(real, syn, frequencies, alpha, beta):
    total = 0.0
    for t in frequencies:
        phi = [torch.exp(1j * (x.flatten(1) @ t)).mean() for x in (real, syn)]
        size = [abs(p.item()) for p in phi]
        phase = 2 * (size[0] * size[1] - (phi[0] * phi[1].conj()).real.item())
        total += math.sqrt(alpha * (size[0] - size[1]) ** 2 + beta * phase)
    return total / len(frequencies)


@pytest.mark.parametrize(("alpha", "beta"), [(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.2, 0.7)])
def test_ncf_is_the_loop_over_classes_and_frequencies(alpha, beta):
    real, real_labels, syn, syn_labels = features()
    frequencies = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = sum(
        slow_ncf(real[real_labels == k], syn[syn_labels == k], frequencies, alpha, beta) for k in (1, 2)
    )
    found = ncf_distance(real, real_labels, syn, syn_labels, K, frequencies, alpha, beta)
    assert found.item() == pytest.approx(expected, rel=1e-5)  # the roots' 1e-8


def test_ncf_squared_is_the_maximum_mean_discrepancy():
    """E over normal t of |Phi_r - Phi_s|^2 is the biased MMD^2 with kernel exp(-|x - y|^2 / 2)."""
    g = torch.Generator().manual_seed(2)
    real, syn = (torch.randn(n, 3, generator=g, dtype=torch.float64) for n in (6, 4))
    frequencies = torch.randn(200_000, 3, generator=g, dtype=torch.float64)
    zeros = [torch.zeros(n, dtype=torch.int64) for n in (6, 4)]
    # one frequency at a time: the distance is the mean of roots, the discrepancy the mean of squares
    squares = torch.stack(
        [
            ncf_distance(real, zeros[0], syn, zeros[1], 1, t[None], alpha=1, beta=1).square()
            for t in frequencies[:50]
        ]
    )
    phi = [
        torch.exp(1j * (x.to(torch.complex128) @ frequencies.T.to(torch.complex128))).mean(0)
        for x in (real, syn)
    ]
    gaps = (phi[0] - phi[1]).abs().square()
    assert torch.allclose(squares, gaps[:50], atol=1e-7)

    def kernel(a, b):
        return (-0.5 * torch.cdist(a, b).square()).exp().mean()

    closed = kernel(real, real) + kernel(syn, syn) - 2 * kernel(real, syn)
    assert gaps.mean().item() == pytest.approx(closed.item(), rel=5e-3)


def test_ncf_gradient_and_match():
    real, real_labels, syn, syn_labels = features()
    frequencies = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    syn.requires_grad_()
    assert gradcheck(lambda s: ncf_distance(real, real_labels, s, syn_labels, K, frequencies), syn)
    same = real.clone().requires_grad_()
    at_match = ncf_distance(real, real_labels, same, real_labels, K, frequencies)
    at_match.backward()
    assert at_match.item() == pytest.approx(3 * 2e-8**0.5)  # three classes, two guards
    assert torch.isfinite(same.grad).all()
    assert same.grad.abs().max() < 1e-2


def test_ncf_ignores_autocast():
    real, real_labels, syn, syn_labels = (t.float() if t.is_floating_point() else t for t in features())
    frequencies = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    plain = ncf_distance(real, real_labels, syn, syn_labels, K, frequencies)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ncf_distance(real, real_labels, syn, syn_labels, K, frequencies).item() == plain.item()


def gradients(seed: int):
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "conv.weight": (3, 2, 2, 2, 2),
        "conv.bias": (3,),
        "image.weight": (2, 2, 3, 3),
        "fc.weight": (4, 3),
    }
    return {name: torch.randn(shape, generator=g, dtype=torch.float64) for name, shape in shapes.items()}


def slow_rows(a, b):
    total = 0.0
    for name in a:
        if a[name].ndim == 1:
            continue
        for x, y in zip(a[name], b[name], strict=True):  # what feeds one output
            x, y = x.flatten().tolist(), y.flatten().tolist()
            dot = sum(p * q for p, q in zip(x, y, strict=True))
            total += 1 - dot / (math.sqrt(sum(p * p for p in x)) * math.sqrt(sum(q * q for q in y)))
    return total


def test_gradient_distance_is_the_loop_over_rows():
    a, b = gradients(0), gradients(1)
    assert gradient_distance(a, b).item() == pytest.approx(slow_rows(a, b), rel=1e-12)


def test_gradient_distance_by_hand():
    a = {"w": torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])}
    b = {"w": torch.tensor([[0.0, 5.0], [0.0, 1.0], [-3.0, -4.0]])}
    assert gradient_distance(a, b).item() == 3.0  # 1 + 0 + 2
    assert gradient_distance(a, b, "mse").item() == 26 + 1 + 100
    cosine = (2 - 25) / math.sqrt(30 * 51)
    assert gradient_distance(a, b, "cos").item() == pytest.approx(1 - cosine)


def test_gradient_distance_of_equal_gradients_is_zero():
    a = gradients(0)
    a["fc.weight"][1] = 0  # a dead unit
    a["image.weight"] *= 1e-2
    for metric in ("ours", "mse", "cos"):
        assert gradient_distance(a, a, metric).item() == pytest.approx(0, abs=1e-12)
    b = {**a, "fc.weight": a["fc.weight"] + 1.0}
    assert gradient_distance(a, b).item() > 0.5  # the dead unit came to life


def test_gradient_distance_is_blind_to_row_scale_and_vectors():
    a, b = gradients(0), gradients(1)
    expected = gradient_distance(a, b).item()
    scaled = {
        n: t * torch.rand(len(t), dtype=t.dtype).add(0.1).view(-1, *[1] * (t.ndim - 1)) for n, t in a.items()
    }
    assert gradient_distance(scaled, b).item() == pytest.approx(expected, rel=1e-12)
    assert gradient_distance({**a, "conv.bias": b["conv.bias"] + 7}, b).item() == pytest.approx(expected)
    flat_a, flat_b = ({**g, "conv.weight": g["conv.weight"].view(3, -1)} for g in (a, b))
    assert gradient_distance(flat_a, flat_b).item() == pytest.approx(expected, rel=1e-12)


def test_flat_metrics_and_idc():
    a, b = gradients(0), gradients(1)
    flat_a, flat_b = (torch.cat([t.flatten() for t in g.values()]) for g in (a, b))
    assert gradient_distance(a, b, "mse").item() == pytest.approx((flat_a - flat_b).square().sum().item())
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b, dim=0).item()
    assert gradient_distance(a, b, "cos").item() == pytest.approx(1 - cosine)
    convs = sum((a[n] - b[n]).square().sum().item() for n in ("conv.weight", "image.weight"))
    assert gradient_distance(a, b, "mse", conv_only=True).item() == pytest.approx(convs)


@pytest.mark.parametrize("metric", ["ours", "mse", "cos"])
def test_gradient_distance_gradient(metric):
    b = {"w": torch.randn(2, 1, 1, 2, 2, dtype=torch.float64), "b": torch.randn(2, dtype=torch.float64)}
    w, v = (torch.randn_like(t).requires_grad_() for t in b.values())

    def distance(w, v):
        return gradient_distance({"w": w, "b": v}, b, metric)

    assert gradcheck(distance, (w, v))
    assert gradgradcheck(distance, (w, v))


def test_gradient_distance_at_a_dead_unit_is_finite():
    a, b = gradients(0), gradients(1)
    weight = torch.zeros_like(a["fc.weight"]).requires_grad_()
    gradient_distance({**a, "fc.weight": weight}, b).backward()
    assert torch.isfinite(weight.grad).all()


def test_gradient_distance_refuses():
    a = gradients(0)
    with pytest.raises(ValueError, match=r"fc\.weight"):
        gradient_distance({n: t for n, t in a.items() if n != "fc.weight"}, a)
    with pytest.raises(ValueError, match="axes"):
        gradient_distance({"b": a["conv.bias"]}, {"b": a["conv.bias"]})


def test_gradient_distance_reads_a_convolution_as_rows():
    """And not, as the references do for a Conv3d, along its last axis."""
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 3, 2, 2, 2, generator=rng) for _ in range(2))
    last_axis = 1 - torch.nn.functional.cosine_similarity(a, b, dim=-1)
    assert not torch.isclose(gradient_distance({"conv": a}, {"conv": b}), last_axis.sum())


def test_gradient_distance_in_absolute_values_by_hand():
    three, one = (torch.full((1, 1, 1, 1, 1), value) for value in (3.0, 1.0))
    assert gradient_distance({"conv": three}, {"conv": one}, "l1") == 2
