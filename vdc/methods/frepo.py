"""FRePo: a linear head, fitted in closed form to the synthetic clips, must predict the real ones."""

from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor

from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels
from vdc.methods.base.condenser import Condenser, MemoryCallable
from vdc.methods.base.multisize import MultiSize, Seen, Terms
from vdc.methods.online_pool import OnlinePool
from vdc.ops.match import class_means
from vdc.ops.ridge import centred_labels, label_margin, ridge_predict
from vdc.ops.rng import generator
from vdc.ops.windows import draw_starts
from vdc.spec import Batch, ClipSpec

FLOOR = 0.01  # least probability of a stored label, over 1/K


class Regression(NamedTuple):
    """One network, and real clips to predict."""

    net: int
    features: Tensor  # (m, D) of real clips
    targets: Tensor  # (m, K), centred


class FRePo(Condenser):
    """Neural feature regression with pooling (Zhou 2022, arXiv 2206.00719; for videos Wang 2024).

    Features come from a pool of networks that are trained on the synthetic clips meanwhile, one step each
    time they were used. Labels are learnt as regression targets, onehot - 1/K over sqrt(K / 10) at first, and
    stored as logits, see `as_logits`, so that students of any protocol can learn from them.

    Args:
        num_classes: K, linked from the data.
        spec: stored and seen clip shapes, linked from the data.
        net: name of the networks.
        net_options: their further arguments.
        ipc: items per class.
        pool: networks.
        max_age: steps after which a network starts afresh.
        net_lr: learning rate (Adam) of the networks.
        online_batch: synthetic clips that a network sees in a step, at most.
        reg: of the regression, over the kernel's mean diagonal.
        lr_labels: learning rate of the labels; 0 keeps them.
        memory: what is stored and learnt.
        optimizer: of the memory's pixels.
        init: `real`, `noise`, or the folder of a condensed set of the same shape.
        seed: of everything random; linked from `seed_everything`.
        out: folder the condensed set is written to; `None` writes none.
        multisize: match prefixes of the items too, so that they can be used alone; `None` does not.
    """

    batches: ClassVar = "shuffled"

    def __init__(
        self,
        num_classes: int,
        spec: ClipSpec,
        net: str = "minic3d",
        net_options: dict[str, Any] | None = None,
        ipc: int = 1,
        pool: int = 10,
        max_age: int = 100,
        net_lr: float = 3e-4,
        online_batch: int = 500,
        reg: float = 1e-6,
        lr_labels: float = 1e-3,
        memory: MemoryCallable = Pixels,
        optimizer: OptimizerCallable = torch.optim.Adam,
        init: str = "real",
        seed: int = 0,
        out: str | None = None,
        multisize: MultiSize | None = None,
    ) -> None:
        super().__init__(num_classes, spec, ipc, memory, optimizer, init, seed, out, multisize)
        counts = {"pool": pool, "max_age": max_age, "online_batch": online_batch}
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"--model.init_args.{name} must be at least 1, got {count}")
        if num_classes < 2:
            raise ValueError("FRePo needs at least 2 classes: its margin compares the two largest labels")
        self.net, self.net_options, self.pool_size, self.max_age = net, net_options or {}, pool, max_age
        self.net_lr, self.online_batch, self.reg, self.lr_labels = net_lr, online_batch, reg, lr_labels
        self.scale = (num_classes / 10) ** 0.5
        self.memory.learn_labels(centred_labels(self.memory.labels, num_classes) / self.scale)
        if self.memory.logits is not None:
            self.memory.logits.requires_grad_(lr_labels > 0)
        self._pool_state: dict[str, Any] | None = None
        self._found = torch.empty(0)  # features of the items in the current step
        self.pool: OnlinePool

    def prepare(self) -> None:
        """Build the pool, or bring back that of a checkpoint."""
        given = self.pool_size, self.max_age, self.net_lr, self.net, self.net_options
        self.pool = OnlinePool(*given, self.num_classes, self.spec, self.seed, self.device)
        if self._pool_state is not None:
            self.pool.load_state_dict(self._pool_state)
            self._pool_state = None

    def drawn(self, step: int) -> int:
        """The network of a step."""
        return int(torch.randint(self.pool_size, (), generator=generator(self.seed, "pool", step)))

    # -- a step ------------------------------------------------------------------------------------------

    @torch.no_grad()
    def context(self, batch: Batch | None) -> Regression:
        """A network, and what it sees in the real batch."""
        assert batch is not None
        number = self.drawn(self.global_step)
        features = self.pool.still(number).embed(batch.clips)
        return Regression(number, features, centred_labels(batch.labels, self.num_classes))

    def loss(self, clips: Tensor, labels: Tensor, context: Regression) -> dict[str, Tensor]:
        """Squared error of the predicted labels of real clips (FRePo, eq. 7), and the label margin.

        Args:
            clips: stored (N, C, T_c, H, W); any prefix of the set.
            labels: (N, K), centred.
            context: from `context`.
        """
        features = self._features(clips, context)
        self._found = features.detach()
        return self._terms(features, labels, context)

    def _features(self, clips: Tensor, context: Regression) -> Tensor:
        """Features (n, D) of stored clips in the step's network."""
        return self.pool.still(context.net).embed(self.view(clips, self.draw_starts(len(clips))))

    def losses(
        self, clips: Tensor, labels: Tensor, context: Regression, prefix: Tensor
    ) -> tuple[Terms, Terms]:
        """`loss` of all clips and of the rows `prefix` (n,): a part of the same kernel."""
        features = self._features(clips, context)
        self._found = features.detach()
        part = self._terms(features[prefix], labels[prefix], context)
        return self._terms(features, labels, context), part

    def embedded(self, clips: Tensor, earlier: Tensor, context: Regression) -> Seen:
        """The step's features, and means of those of the real batch, of the classes that are in it."""
        means = class_means(context.features, context.targets.argmax(1), self.num_classes)
        return Seen(self._found, self._features(earlier, context), *means)

    def _terms(self, features: Tensor, labels: Tensor, context: Regression) -> Terms:
        """The terms of features (n, D) with labels (n, K)."""
        found = ridge_predict(features, labels, context.features, self.reg)
        terms = {"regression": (found - context.targets).square().sum(1).mean()}
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

    # -- Lightning ---------------------------------------------------------------------------------------

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
        """Keep the pool until it is built."""
        super().on_load_checkpoint(checkpoint)
        self._pool_state = checkpoint["pool"]

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
