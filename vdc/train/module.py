"""EvalModule: the one trainer of networks, for students, teachers and the full-data bound."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from vdc.nets import build, channels_last
from vdc.nets.weights import Found, start_from
from vdc.ops.losses import ce, kl, mse, mse_gt, soft_ce
from vdc.ops.rng import derive, generator
from vdc.spec import Batch, ClipSpec
from vdc.train.protocol import Protocol, lr_factor
from vdc.train.scores import shown
from vdc.train.testing import Tested

__all__ = ["EvalModule", "Protocol", "objective", "parameter_groups"]

LOGGED = 100  # epochs, at least, whose loss is logged and kept


def objective(protocol: Protocol, logits: Tensor, batch: Batch) -> Tensor:
    """The scalar that training minimises.

    Args:
        protocol: with its loss decided (`Protocol.with_labels`).
        logits: of the student, (N, K).
        batch: its labels, targets and mix.

    Raises:
        ValueError: a loss of soft targets, and none came.
    """
    labels, targets = batch.labels, batch.targets
    if protocol.loss == "ce":
        if batch.mix is None:
            return ce(logits, labels)
        pasted, kept = batch.mix
        return kept * ce(logits, labels) + (1 - kept) * ce(logits, pasted)
    if targets is None:
        raise ValueError(
            f"protocol.loss {protocol.loss} needs soft targets, and the data gives hard labels only"
        )
    if protocol.loss == "mse_gt":  # also of a mixed batch: the label of the clip that is pasted into
        return mse_gt(logits, targets, labels, protocol.ce_weight)
    if protocol.loss == "kl":
        return kl(logits, targets, protocol.temperature)
    return soft_ce(logits, targets) if protocol.loss == "soft_ce" else mse(logits, targets)


def parameter_groups(net: nn.Module, protocol: Protocol) -> list[dict[str, Any]]:
    """Parameters with and without weight decay."""
    everything = protocol.decay == "all"
    learning = [p for p in net.parameters() if p.requires_grad]
    decayed = [p for p in learning if everything or p.ndim > 1]
    free = [p for p in learning if not everything and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": protocol.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def optimisation(net: nn.Module, p: Protocol) -> dict[str, Any]:
    """One optimiser of a network, and one learning rate per epoch, as Lightning takes them."""
    groups = parameter_groups(net, p)
    optimizer: Optimizer
    if p.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, p.rate, momentum=p.momentum)
    else:
        family = torch.optim.AdamW if p.optimizer == "adamw" else torch.optim.Adam
        optimizer = family(groups, p.rate)
    schedule = LambdaLR(optimizer, lambda epoch: lr_factor(p, epoch))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def standardise(clips: Tensor) -> Tensor:
    """The batch less its mean, over its deviation, yuz1wan/video_distillation@5871dc5b:utils.py."""
    deviation, mean = torch.std_mean(clips)
    return (clips - mean) / deviation


class EvalModule(Tested):
    """Train a network on whatever a DataModule yields as `Batch`, and score it on videos.

    Args:
        net: name of the network, see `vdc.nets.names`.
        num_classes: K, linked from the data.
        spec: clip shapes, linked from the data.
        protocol: how it is trained.
        seed: of its initial weights, dropout and order.
        net_options: further arguments of the network.
        held_out: what validation runs on: `val`, or `test` where checks on the test set are reported.
    """

    batches: ClassVar[str] = "shuffled"

    def __init__(
        self,
        net: str,
        num_classes: int,
        spec: ClipSpec,
        protocol: Protocol | None = None,
        seed: int = 0,
        net_options: dict[str, Any] | None = None,
        held_out: Literal["val", "test"] = "val",
    ) -> None:
        super().__init__(build(net, num_classes, spec, **(net_options or {})), num_classes)
        self.protocol = (protocol or Protocol()).with_labels("hard")
        self.seed, self.held_out = seed, held_out
        self.net.reset_parameters(self.protocol.init, generator(seed, "init"))
        self.history: list[dict[str, Any]] = []  # held-out scores so far: epoch, top1, top5 (percent)
        self.curve: list[list[float]] = []  # epochs done, steps done, mean loss of the last of these epochs
        self._losses: list[Tensor] = []  # of the epoch under way
        self._average: list[Tensor] = []  # of the parameters, where the protocol has an EMA

    def start_from(self, weights: Found, classes: list[str]) -> dict[str, Any]:
        """Start from weights from elsewhere instead.

        Args:
            weights: which.
            classes: names the data has, in label order.

        Returns:
            What results say of them.

        Raises:
            ValueError: they are of another network; or the protocol normalises batches, which they are not for.
        """
        if self.protocol.standardise:
            raise ValueError(
                "protocol.standardise normalises every batch by itself, which no --weights expect"
            )
        afresh = start_from(self.net, weights, classes)
        if afresh is not None:
            rank_zero_warn(
                f"--weights {weights.name}: the last layer of {self.net.name} starts afresh: {afresh}"
            )
        return weights.about | {"last_layer": "kept" if afresh is None else "fresh"}

    def setup(self, stage: str) -> None:
        """Lay out the weights for the precision that they are trained in."""
        channels_last(self.net, self.trainer.precision)

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        logits: Tensor = self.net(standardise(clips) if self.protocol.standardise else clips)
        return logits

    # -- training ----------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Start the running average, or bring that of a checkpoint to the device."""
        if self.protocol.ema:
            start = self._average or list(self.net.parameters())
            self._average = [p.detach().to(self.device, copy=True) for p in start]

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Dropout depends on the step alone, so that a resumed run repeats it."""
        seed = derive(self.seed, "step", self.global_step, self.global_rank)
        torch.default_generator.manual_seed(seed)  # torch.manual_seed spends a millisecond on absent devices
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One step of the network."""
        loss = objective(self.protocol, self(batch.clips), batch)
        self._losses.append(loss.detach())
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Follow the weights, and keep the loss of an epoch before a checkpoint is written at its end."""
        for mean, live in self._pairs():
            mean.lerp_(live.detach(), 1 - self.protocol.ema)
        if self.trainer.is_last_batch:
            self._keep_loss()

    def _keep_loss(self) -> None:
        """Keep and log the epoch's mean loss, of long runs every third or so and the last: it waits for the device."""
        done = self.current_epoch + 1
        if done % max(self.protocol.epochs // LOGGED, 1) == 0 or done == self.protocol.epochs:
            loss = self.trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean")
            self.curve.append([done, self.global_step, round(float(loss), 6)])
            self.log("train/loss", loss)
            self.log("train/lr", self.protocol.rate * lr_factor(self.protocol, self.current_epoch))
        self._losses.clear()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by the protocol, else by the trainer's own setting."""
        limit = gradient_clip_val if self.protocol.clip_grad is None else self.protocol.clip_grad
        self.clip_gradients(optimizer, limit, gradient_clip_algorithm)

    def configure_optimizers(self) -> Any:
        """One optimiser, and one learning rate per epoch."""
        return optimisation(self.net, self.protocol)

    # -- scoring -----------------------------------------------------------------------------------

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The network with its averaged weights; normalisation statistics stay those of the live one."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        """Averaged and live parameters; none where the protocol has no EMA."""
        return list(zip(self._average, self.net.parameters(), strict=True)) if self._average else []

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, live in self._pairs():
            kept = live.clone()
            live.copy_(mean)
            mean.copy_(kept)

    def adopt(self, weights: dict[str, Tensor]) -> None:
        """Take other weights for good, and follow none."""
        self.net.load_state_dict(weights)
        self._average = []

    def on_validation_start(self) -> None:
        """Score the averaged weights, the same on all processes."""
        self.agree()
        self._swap()

    def on_validation_end(self) -> None:
        """Go on with the live weights."""
        self._swap()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score held-out clips."""
        self.scores.update(self(batch.clips), batch.labels, self.counted(batch.rows))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score test clips, and those of probes."""
        super().test_step(batch._replace(rows=self.counted(batch.rows)), batch_idx)

    def counted(self, rows: Tensor) -> Tensor:
        """What counts once in a score: a video (N*m,), or every one of its clips with `test_passes`."""
        passes = self.protocol.test_passes
        return rows * passes + torch.arange(len(rows), device=rows.device) % passes if passes else rows

    def on_validation_epoch_end(self) -> None:
        """Keep and log the accuracy."""
        found = self.scores.compute()
        self.scores.reset()
        if not self.trainer.sanity_checking:
            entry = shown(found, self.scores.num_classes)
            self.history.append({"epoch": self.current_epoch, **entry})
            logged = {f"{self.held_out}/{name}": value for name, value in entry.items() if value is not None}
            self.log_dict(logged, rank_zero_only=True)

    def on_test_start(self) -> None:
        """Score the averaged weights, the same on all processes."""
        super().on_test_start()
        self._swap()

    def on_test_end(self) -> None:
        """Give the live weights back."""
        self._swap()

    def outcome(self) -> dict[str, Any]:
        """What the last test found, the steps that training took, and the mean loss of its last epoch."""
        _, steps, loss = self.curve[-1] if self.curve else (None, None, None)
        return super().outcome() | {"steps": steps, "final_loss": loss}

    # -- checkpoints -------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what is neither weight nor optimiser."""
        checkpoint["history"], checkpoint["curve"] = self.history, self.curve
        checkpoint["average"] = self._average

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take it back."""
        self.history, self._average = list(checkpoint["history"]), list(checkpoint["average"])
        self.curve = list(checkpoint.get("curve", []))  # none in those of before version 0.2
