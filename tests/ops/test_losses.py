import math

import pytest
import torch

from vdc.ops.losses import ce, kl, mse, mse_gt, soft_ce
from vdc.ops.rng import generator


def batch(n=3, k=4, dtype=torch.float64):
    logits, targets = torch.randn(2, n, k, generator=generator(n, k), dtype=dtype) * 3
    return logits, targets, torch.arange(n) % k


def softmax(row):
    return [math.exp(x) / sum(math.exp(y) for y in row) for x in row]


def by_hand(name, logits, targets, labels, temperature=1.0, ce_weight=0.1):
    n, k = logits.shape
    total = 0.0
    for s, t, y in zip(logits.tolist(), targets.tolist(), labels.tolist(), strict=True):
        p, q = softmax([x / temperature for x in t]), softmax([x / temperature for x in s])
        total += {
            "ce": -math.log(q[y]),
            "soft_ce": -sum(a * math.log(b) for a, b in zip(p, q, strict=True)),
            "kl": sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True)),
            "mse": sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / k,
            "mse_gt": sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / k - ce_weight * math.log(q[y]),
        }[name]
    return total / n


@pytest.mark.parametrize(("n", "k"), [(1, 2), (3, 4), (7, 5)])
def test_losses_equal_loops(n, k):
    logits, targets, labels = batch(n, k)
    assert ce(logits, labels).item() == pytest.approx(by_hand("ce", logits, targets, labels))
    assert mse(logits, targets).item() == pytest.approx(by_hand("mse", logits, targets, labels))
    assert soft_ce(logits, targets).item() == pytest.approx(by_hand("soft_ce", logits, targets, labels))
    assert mse_gt(logits, targets, labels).item() == pytest.approx(by_hand("mse_gt", logits, targets, labels))
    for w in (0.0, 2.0):
        want = by_hand("mse_gt", logits, targets, labels, ce_weight=w)
        assert mse_gt(logits, targets, labels, w).item() == pytest.approx(want)
    for temperature in (0.5, 1.0, 20.0):
        want = by_hand("kl", logits, targets, labels, temperature)
        assert kl(logits, targets, temperature).item() == pytest.approx(want)


def test_mse_gt_in_numbers():
    logits, targets = torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, -3.0]])
    assert mse_gt(logits, targets, torch.tensor([1])).item() == pytest.approx(5 + 0.1 * math.log(2))


def test_a_perfect_student_has_no_loss():
    logits, _, labels = batch()
    assert kl(logits, logits + 5, 4.0).item() == pytest.approx(0, abs=1e-12)  # softmax ignores a shift
    assert mse(logits, logits).item() == 0
    assert mse_gt(logits, logits, labels, 0.0).item() == 0
    sure = 100 * torch.eye(4)[:3].double()
    assert soft_ce(sure, sure).item() == pytest.approx(0, abs=1e-12)


def test_gradients_reach_student_and_learnt_labels():
    logits, targets, labels = batch(2, 3)
    pair = (logits.requires_grad_(), targets.requires_grad_())
    for loss in (mse, soft_ce, lambda s, t: kl(s, t, 3.0), lambda s, t: mse_gt(s, t, labels)):
        assert torch.autograd.gradcheck(loss, pair)
        assert torch.autograd.gradgradcheck(loss, pair)


def test_half_precision_is_compared_in_float32():
    logits, targets, labels = batch(dtype=torch.float32)
    student, stored = logits.bfloat16(), targets.half()
    for loss in (
        lambda s, t: mse(s, t),
        lambda s, t: kl(s, t, 4.0),
        lambda s, t: soft_ce(s, t),
        lambda s, t: mse_gt(s, t, labels),
        lambda s, t: ce(s, labels),
    ):
        found = loss(student, stored)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(student.float(), stored.float()))
