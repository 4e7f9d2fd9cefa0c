"""Losses on features: methods that compare what networks make of items with what they make of real clips."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from vdc.methods.base.learner import Terms

Features = Tensor | tuple[Any, ...]  # of N clips: tensors whose first axis is N, perhaps in tuples


@dataclass(frozen=True)
class RealFeatures:
    """What a step's context knows of real clips, where it holds their `features`.

    Args:
        real: features of real clips (M, D), or their class means.
        labels: classes of these (M,) int64, counted from the first that the memory holds.
    """

    real: Tensor
    labels: Tensor


class FeatureMatching(ABC):
    """A learner whose loss depends on its items through features of each: those of some are some of those of all.

    `class Mine(FeatureMatching, Learner)` writes `features` and `match` in place of `loss`. Where the context is of
    `RealFeatures`, or a subclass, its real side is known to be of the same kind.
    """

    @abstractmethod
    def features(self, clips: Tensor, context: Any) -> Features:
        """What the step's networks make of clips; a tensor (N, D), or a tuple whose first is one.

        Args:
            clips: rendered stored clips (N, C, T_c, H, W).
            context: from `context`.
        """

    @abstractmethod
    def match(self, features: Any, labels: Tensor, context: Any) -> Terms:
        """Named terms, whose sum is minimised.

        Args:
            features: from `features`, of all items or of some.
            labels: (N,) int64 or (N, K) logits.
            context: from `context`.
        """

    def loss(self, clips: Tensor, labels: Tensor, context: Any) -> Terms:
        """Terms of the features of clips."""
        return self.match(self.features(clips, context), labels, context)
