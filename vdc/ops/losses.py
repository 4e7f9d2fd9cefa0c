"""What a student is asked to match on a batch. Half-precision inputs are compared in float32."""

import torch
from torch import Tensor
from torch.nn import functional as F


def _wide(values: Tensor) -> Tensor:
    """At least float32: stored soft labels are fp16, and mixed precision hands over bfloat16 logits."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy with hard labels.

    Args:
        logits: (N, K).
        labels: (N,) int64.
    """
    return F.cross_entropy(_wide(logits), labels)


def soft_ce(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with softmax(targets), mean over clips.

    Args:
        logits: of the student, (N, K).
        targets: logits of the teacher, or learnt ones, (N, K).
    """
    return F.cross_entropy(_wide(logits), _wide(targets).softmax(1))


def mse(logits: Tensor, targets: Tensor) -> Tensor:
    """Squared difference of logits, mean over clips and classes.

    Args:
        logits: of the student, (N, K).
        targets: logits of the teacher, or learnt ones, (N, K).
    """
    return F.mse_loss(_wide(logits), _wide(targets))


def mse_gt(logits: Tensor, targets: Tensor, labels: Tensor, ce_weight: float = 0.1) -> Tensor:
    """MSE-GT: squared difference of logits, and a little cross-entropy with the true label.

    Video-DC 2024, sec. 3.3; the weight is in the code only, MCG-NJU/Video-DC@d51660d8:val.py.

    Args:
        logits: of the student, (N, K).
        targets: logits of the teacher, (N, K).
        labels: true classes, (N,) int64.
        ce_weight: of the cross-entropy.
    """
    return mse(logits, targets) + ce_weight * ce(logits, labels)


def kl(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student from the teacher, both softened, mean over clips.

    Not multiplied by the squared temperature, as in MCG-NJU/Video-DC@d51660d8:val.py: a higher temperature
    also means smaller steps.

    Args:
        logits: of the student, (N, K).
        targets: logits of the teacher, (N, K).
        temperature: divides both, > 0.
    """
    student = F.log_softmax(_wide(logits) / temperature, 1)
    teacher = F.log_softmax(_wide(targets) / temperature, 1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
