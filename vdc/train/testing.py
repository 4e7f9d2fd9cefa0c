"""Testing a network on videos, and probes: what is left of its score when nothing moves, or time is out of order."""

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from vdc.ops.rng import generator
from vdc.spec import Batch
from vdc.system.logs import log_image, takes_images
from vdc.train.confusion import confusion_png
from vdc.train.scores import VideoScores, pack, percent, shown


def middle_frame(clips: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) that show their middle frame only."""
    return clips[:, :, clips.shape[2] // 2, None].expand_as(clips)


def backwards(clips: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) with their last frame first."""
    return clips.flip(2)


def out_of_order(clips: Tensor, rows: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) with their frames shuffled: an order for each of `rows` (N,), the same in every test."""
    frames = clips.shape[2]
    orders = [torch.randperm(frames, generator=generator(0, "shuffled frames", row)) for row in rows.tolist()]
    order = torch.stack(orders).to(clips.device)
    return clips.gather(2, order[:, None, :, None, None].expand_as(clips))


PROBES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "still": lambda clips, rows: middle_frame(clips),
    "reversed": lambda clips, rows: backwards(clips),
    "shuffled": out_of_order,
}  # of test clips and the rows of their videos


class Tested(LightningModule):
    """A network under test, on real clips and on the same clips stilled, reversed and shuffled.

    Args:
        net: maps clips (N, C, T, H, W) to logits (N, K).
        num_classes: K.
    """

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.net: Any = net
        self.scores = VideoScores(num_classes)
        self.probed = torch.nn.ModuleDict({name: VideoScores(num_classes) for name in PROBES})
        self.results: dict[
            str, dict[str, Tensor]
        ] = {}  # of the last test, see `VideoScores`: `clips` and those of `PROBES`

    def forward(self, clips: Tensor) -> Tensor:
        """Logits (N, K) of clips (N, C, T, H, W)."""
        logits: Tensor = self.net(clips)
        return logits

    def agree(self) -> None:
        """Give all processes the first one's normalisation statistics, different since the last step."""
        if self.trainer.world_size > 1:
            for statistic in self.net.buffers():
                torch.distributed.broadcast(statistic, 0)

    def on_test_start(self) -> None:
        """Test the same network everywhere."""
        self.agree()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score test clips, and the same clips as probes show them."""
        self.scores.update(self(batch.clips), batch.labels, batch.rows)
        for name, show in PROBES.items():
            self._scores(name).update(self(show(batch.clips, batch.rows)), batch.labels, batch.rows)

    def _scores(self, name: str) -> VideoScores:
        """Of the clips themselves, or of a probe."""
        scores = self.scores if name == "clips" else self.probed[name]
        assert isinstance(scores, VideoScores)
        return scores

    def on_test_epoch_end(self) -> None:
        """Keep and log the result."""
        for name in ("clips", *PROBES):
            scores = self._scores(name)
            found = {key: value.cpu() for key, value in scores.compute().items()}
            k = scores.num_classes  # of one class or video, torchmetrics gives numbers
            lists = {"per_class": found["per_class"].view(k), "confusion": found["confusion"].view(k, k)}
            self.results[name] = found | lists | {"correct": found["correct"].view(-1)}
            scores.reset()
        for name, value in shown(self.results["clips"], self.scores.num_classes).items():
            if value is not None:
                self.log(f"test/{name}", value, rank_zero_only=True)
        for name in PROBES:
            self.log(f"test/{name}_top1", percent(self.results[name]["top1"]), rank_zero_only=True)
        classes = getattr(self.trainer.datamodule, "classes", None)  # type: ignore[attr-defined]
        if classes and self.trainer.is_global_zero and takes_images(self.loggers):
            png, size = confusion_png(self.results["clips"]["confusion"].tolist(), classes)
            log_image(self.loggers, "test/confusion", png, size, self.trainer.global_step)

    def outcome(self) -> dict[str, Any]:
        """What the last test found, in percent, as stored in results.

        Raises:
            ValueError: the test ran in spawned processes, which keep what they found.
        """
        if not self.results:
            raise ValueError("a test in spawned processes returns nothing: set --trainer.strategy ddp")
        clips, k = self.results["clips"], self.scores.num_classes
        return {
            **shown(clips, k),
            **{
                f"{probe}_{name}": value
                for probe in PROBES
                for name, value in shown(self.results[probe], k).items()
            },
            "per_class": [
                None if share != share else percent(share) for share in clips["per_class"].tolist()
            ],
            "confusion": clips["confusion"].tolist(),
            "videos": int(clips["videos"]),
            "correct": pack(clips["correct"]),
        }


def probe(
    net: nn.Module, data: LightningDataModule, num_classes: int, trainer: Trainer | None = None
) -> dict[str, Any]:
    """Test a trained network, e.g. a teacher, on the test videos, and on them stilled, reversed and shuffled.

    Args:
        net: maps clips (N, C, T, H, W) to logits (N, K).
        data: the videos.
        num_classes: K.
        trainer: that runs the test; `None` makes a plain one.
    """
    module = Tested(net, num_classes)
    trainer = trainer or Trainer(logger=False, enable_checkpointing=False, use_distributed_sampler=False)
    trainer.test(module, datamodule=data, verbose=False)
    return module.outcome()
