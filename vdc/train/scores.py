"""Scores of a network on videos: each counts once, however many clips, batches or processes it took."""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np
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
            counts, true class first; `videos`: how many; `correct`: (videos,) bool, whether the best class
            of each is the true one, in the order of the rows.
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
            "correct": hits[:, 0],
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


def shown(found: Mapping[str, Tensor], num_classes: int) -> dict[str, float | None]:
    """Top-1 and top-5 in percent; of five classes or fewer every answer is among the best five: `None`."""
    top5 = percent(found["top5"]) if num_classes > BEST else None
    return {"top1": percent(found["top1"]), "top5": top5}


def pack(correct: Tensor) -> str:
    """Answers (N,) bool as base64 text of one bit each, the first in the highest bit: what results store."""
    return b64encode(np.packbits(correct.cpu().numpy()).tobytes()).decode()


def unpack(text: str, videos: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The answers (N,) that `pack` stored.

    Args:
        text: of a result.
        videos: N.

    Raises:
        ValueError: the text holds another number of answers.
    """
    stored = np.frombuffer(b64decode(text, validate=True), np.uint8)
    if len(stored) != -(-videos // 8):
        raise ValueError(f"{len(stored)} bytes of answers for {videos} videos")
    return np.unpackbits(stored, count=videos).astype(bool)
