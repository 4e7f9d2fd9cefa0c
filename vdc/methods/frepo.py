"""FRePo: a linear head, fitted in closed form to the synthetic clips, must predict the real ones."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vdc.condensed.labels import Labels
from vdc.methods.base.condenser import Batches
from vdc.methods.base.features import FeatureMatching, RealFeatures
from vdc.methods.base.learner import Learner, Terms
from vdc.methods.base.options import Network, at_least_one
from vdc.methods.online_pool import OnlinePool
from vdc.nets.base import channels_last, in_parts
from vdc.ops.ridge import centred_labels, label_margin, ridge_predict
from vdc.ops.rng import generator
from vdc.ops.windows import draw_starts
from vdc.spec import Batch

FLOOR = 0.01  # least probability of a stored label, over 1/K
PLAIN = Network(options={})  # with batch norm: networks train on what they see


@dataclass(frozen=True)
class Regression(RealFeatures):
    """Everything random about a step.

    Args:
        targets: of the real clips (M, K), centred.
        net: number of the network.
    """

    targets: Tensor
    net: int


class FRePo(FeatureMatching, Learner):
    """Neural feature regression with pooling (Zhou 2022, arXiv 2206.00719; for videos Wang 2024).

    Features come from a pool of networks that are trained on the synthetic clips meanwhile, one step each
    time they were used. Labels are learnt as regression targets, onehot - 1/K over sqrt(K / 10) at first, and
    stored as logits, see `as_logits`, so that students of any protocol can learn from them.

    Args:
        net: the networks.
        pool_size: networks.
        max_age: steps after which a network starts afresh.
        net_lr: learning rate (Adam) of the networks.
        online_batch: synthetic clips that a network sees in a step, at most.
        reg: of the regression, over the kernel's mean diagonal.
        lr_labels: learning rate of the labels; 0 keeps them.
        options: see `Learner`.
    """

    batches: ClassVar[Batches] = "shuffled"

    def __init__(
        self,
        *args: Any,
        net: Network = PLAIN,
        pool_size: int = 10,
        max_age: int = 100,
        net_lr: float = 3e-4,
        online_batch: int = 500,
        reg: float = 1e-6,
        lr_labels: float = 1e-3,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        at_least_one(pool_size=pool_size, max_age=max_age, online_batch=online_batch)
        if self.num_classes < 2:
            raise ValueError("FRePo needs at least 2 classes: its margin compares the two largest labels")
        self.network = net
        self.pool_size = pool_size
        self.max_age = max_age
        self.net_lr = net_lr
        self.online_batch = online_batch
        self.reg = reg
        self.lr_labels = lr_labels
        self.scale = (self.num_classes / 10) ** 0.5
        self.memory.learn_labels(centred_labels(self.memory.labels, self.num_classes) / self.scale)
        if self.memory.logits is not None:
            self.memory.logits.requires_grad_(lr_labels > 0)
        self.pool: OnlinePool

    def setup(self, stage: str) -> None:
        """Build the pool."""
        device = self.trainer.strategy.root_device
        nets = [self.network.build(self.num_classes, self.spec).to(device) for _ in range(self.pool_size)]
        for net in nets:
            channels_last(net, self.trainer.precision)
        self.pool = OnlinePool(nets, self.max_age, self.net_lr, self.seed)

    def drawn(self, step: int) -> int:
        """The network of a step."""
        return int(torch.randint(self.pool_size, (), generator=generator(self.seed, "pool", step)))

    @torch.no_grad()
    def context(self, batch: Batch | None) -> Regression:
        """A network, and what it sees in the real batch."""
        assert batch is not None
        number = self.drawn(self.global_step)
        features = in_parts(self.pool.still(number).embed, batch.clips)
        return Regression(features, batch.labels, centred_labels(batch.labels, self.num_classes), number)

    def features(self, clips: Tensor, context: Regression) -> Tensor:
        """Features (N, D) of stored clips in the step's network."""
        return self.pool.still(context.net).embed(self.view(clips, self.draw_starts(len(clips))))

    def match(self, features: Tensor, labels: Tensor, context: Regression) -> Terms:
        """Squared error of the predicted labels of real clips (FRePo, eq. 7), and the label margin.

        Args:
            features: of items (N, D).
            labels: (N, K), centred.
            context: from `context`.
        """
        predicted = ridge_predict(features, labels, context.real, self.reg)
        terms = {"regression": (predicted - context.targets).square().sum(1).mean()}
        if self.lr_labels > 0:
            terms["margin"] = label_margin(labels)
        return terms

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Train the network of the step before: here, because checkpoints come before a step's end hook."""
        super().on_train_batch_start(batch, batch_idx)
        if self.pool.steps < self.global_step:
            self._advance(self.pool.steps)

    @torch.no_grad()
    def _advance(self, step: int) -> None:
        """Let the network of a step learn from the clips as they are now."""
        rng = generator(self.seed, "online batch", step)
        rows = torch.randperm(len(self.memory), generator=rng)[: self.online_batch]
        clips, labels = self.memory.render(rows.to(self.device))
        self.pool.advance(
            self.drawn(step), self.view(clips, draw_starts(len(rows), self.spec, rng)), labels.detach()
        )

    def configure_optimizers(self) -> Any:
        """Pixels as configured, labels at their own rate."""
        groups = self.memory.groups()
        if self.lr_labels > 0:
            groups.append({"params": [self.memory.logits], "lr": self.lr_labels})
        return self.optimizer(groups)

    def about_step(self) -> str:
        """The network and its age."""
        number = self.drawn(self.global_step)
        return f"network {number} of age {self.pool.ages[number]}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the pool."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["pool"] = self.pool.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring back the pool."""
        super().on_load_checkpoint(checkpoint)
        self.pool.load_state_dict(checkpoint["pool"])

    def stored_labels(self) -> Labels:
        """The learnt labels as logits."""
        assert self.memory.logits is not None
        return Labels(self.memory.labels, as_logits(self.memory.logits.detach(), self.scale).half().cpu())


def as_logits(labels: Tensor, scale: float) -> Tensor:
    """Logits whose softmax is the class probabilities that regression labels (N, K) stand for.

    `labels * scale + 1/K` is 1 at the true class and 0 elsewhere before anything is learnt. Values below
    0.01 / K count as that, so that logits stay within the range of a trained teacher's. Rows have mean 0.

    Args:
        labels: centred regression targets.
        scale: sqrt(K / 10), by which the initial ones were divided.
    """
    classes = labels.shape[1]
    likely = (labels * scale + 1 / classes).clamp_min(FLOOR / classes)
    logits = (likely / likely.sum(1, keepdim=True)).log()
    return logits - logits.mean(1, keepdim=True)
