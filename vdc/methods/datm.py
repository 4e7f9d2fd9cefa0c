"""DATM: trajectory matching from easy to hard, with learnt labels."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vdc.methods.expert_choice import expert_logits, mean_expert_logits
from vdc.methods.mtt import MTT
from vdc.spec import Batch

CHUNK = 32  # clips rendered at a time


class DATM(MTT):
    """Difficulty-aligned trajectory matching (Guo 2024, arXiv 2310.05773; for videos Chen 2024, Video-DC).

    MTT whose start epochs move from easy to hard, and whose labels are learnt as logits, which start at the
    mean of the experts that classify the clip correctly.

    Args:
        start_until: starts stay below this epoch at first, see `max_start_epoch`; `None` grows nothing.
        expansion_steps: steps over which that bound grows to `max_start_epoch`.
        lr_labels: learning rate of the labels; 0 keeps hard ones.
        momentum_labels: of SGD on them.
        threshold: a step whose loss, the mean of its terms, is larger changes nothing. A run ends with an error
            after 50 of them in a row: what is drawn differs, but nothing is learnt.
        init: see MTT.
        options: further arguments, of MTT.
    """

    def __init__(
        self,
        *args: Any,
        start_until: int | None = None,
        expansion_steps: int = 1000,
        lr_labels: float = 5.0,
        momentum_labels: float = 0.9,
        threshold: float = 1.0,
        init: str = "correct",
        **options: Any,
    ) -> None:
        super().__init__(*args, init=init, **options)
        first = self.max_start_epoch if start_until is None else start_until
        if not self.min_start_epoch < first <= self.max_start_epoch:
            raise ValueError(
                f"--model.init_args.start_until {start_until} must be above min_start_epoch "
                f"{self.min_start_epoch}, and at most max_start_epoch {self.max_start_epoch}"
            )
        self.start_until = first
        self.expansion_steps = max(expansion_steps, 1)
        self.lr_labels = lr_labels
        self.momentum_labels = momentum_labels
        self.threshold = threshold
        if lr_labels > 0:
            self.memory.learn_labels(torch.zeros(len(self.memory), self.num_classes))

    def window(self) -> tuple[int, int]:
        """The bound grows evenly (DATM, sec. 3.2; GzyAftermath/DATM:distill/DATM.py)."""
        grown = int((self.max_start_epoch - self.start_until) * self.global_step / self.expansion_steps)
        return self.min_start_epoch, min(self.max_start_epoch, self.start_until + grown)

    def groups(self) -> Iterator[dict[str, Any]]:
        """Those of MTT, and the labels."""
        yield from super().groups()
        if self.memory.logits is not None:
            yield {"params": [self.memory.logits], "lr": self.lr_labels, "momentum": self.momentum_labels}

    @torch.no_grad()
    def fill(self) -> None:
        """Clips, then the labels that experts give them."""
        super().fill()
        if self.memory.logits is None:
            return
        rows = torch.arange(len(self.memory), device=self.device)
        parts = [self.memory.clips(part).cpu() for part in torch.split(rows, CHUNK)]
        logits = expert_logits(self.experts, torch.cat(parts), self.spec, self.device)
        self.memory.logits.copy_(mean_expert_logits(logits, self.memory.labels))

    def training_step(self, batch: Batch | None, batch_idx: int) -> Tensor:
        """One step, and whether it is poor."""
        total = super().training_step(batch, batch_idx)
        self.log("skipped", float(self._poor))
        return total

    def hopeless(self, loss: float) -> None:
        """Stop.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            f"the last {self._poor_steps} steps, up to {self.global_step}, changed nothing: their losses were above "
            f"--model.init_args.threshold {self.threshold} (the last {loss:.3f}): {self.remedy}; or raise the threshold"
        )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Without gradients, the optimiser leaves values and momenta as they are."""
        super().on_before_optimizer_step(optimizer)
        if self._poor:
            optimizer.zero_grad(set_to_none=True)
