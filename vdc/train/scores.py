"""Scores of a network on videos: each counts once, however many clips, batches or processes it took."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

BEST = 5  # classes kept per video: what top-5 needs


class VideoScores(Metric):
    """Top-1, top-5, per-class accuracy and confusion of videos, from the mean softmax of each video's clips.

    Samplers give processes equal shares by repeating videos; a repeated row is counted once.

    Args:
        num_classes: K; top-5 is top-K where K is less.
    """

    full_state_update = False
    rows: list[Tensor]
    labels: list[Tensor]
    best: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for name in ("rows", "labels", "best"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, logits: Tensor, labels: Tensor, rows: Tensor) -> None:
        """Add clips.

        Args:
            logits: (N*m, K).
            labels: (N*m,) int64.
            rows: (N*m,) int64, the video of each clip; clips of one video follow one another.
        """
        videos, of, clips = torch.unique_consecutive(rows, return_inverse=True, return_counts=True)
        mean = video_means(logits.float().softmax(1), of, clips)
        self.rows.append(videos)
        self.labels.append(labels[clips.cumsum(0) - clips])
        self.best.append(mean.topk(min(BEST, self.num_classes)).indices)

    def compute(self) -> dict[str, Tensor]:
        """Shares in [0, 1].

        Returns:
            `top1`, `top5`: scalars; `per_class`: (K,), nan for a class without videos; `confusion`: (K, K)
            counts, true class first; `videos`: how many.
        """
        rows, labels, best = (_whole(part) for part in (self.rows, self.labels, self.best))
        rows, order = rows.sort(stable=True)
        first = torch.ones_like(rows, dtype=torch.bool)
        first[1:] = rows[1:] != rows[:-1]
        labels, best = labels[order][first], best[order][first]
        hits = best == labels[:, None]
        k = self.num_classes
        confusion = torch.bincount(labels * k + best[:, 0], minlength=k * k).view(k, k)
        return {
            "top1": hits[:, 0].float().mean(),
            "top5": hits.any(1).float().mean(),
            "per_class": confusion.diag() / confusion.sum(1),
            "confusion": confusion,
            "videos": torch.tensor(len(labels)),
        }


def video_means(values: Tensor, of: Tensor, clips: Tensor) -> Tensor:
    """Mean of `values` (N*m, K) per video; `of` (N*m,): a clip's video, `clips` (N,): how many each has."""
    sums = values.new_zeros(len(clips), values.shape[1]).index_add_(0, of, values)
    return sums / clips[:, None]


def _whole(parts: Any) -> Tensor:
    """A list state, which torchmetrics has already joined where several processes are."""
    return parts if isinstance(parts, Tensor) else torch.cat(parts)


def percent(share: Tensor | float) -> float:
    """A share in [0, 1] as percent, the unit of every published number."""
    return round(100 * float(share), 4)
