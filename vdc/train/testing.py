"""Testing a network on videos, and the single-frame probe: what is left of its score when nothing moves."""

from typing import Any

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from vdc.spec import Batch
from vdc.system.logs import log_image, takes_images
from vdc.train.confusion import confusion_png
from vdc.train.scores import VideoScores, pack, percent, shown


def middle_frame(clips: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) that show their middle frame only."""
    return clips[:, :, clips.shape[2] // 2, None].expand_as(clips)


class Tested(LightningModule):
    """A network under test, on real clips and on the same clips stilled.

    Args:
        net: maps clips (N, C, T, H, W) to logits (N, K).
        num_classes: K.
    """

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.net: Any = net
        self.scores, self.still_scores = VideoScores(num_classes), VideoScores(num_classes)
        self.results: dict[
            str, dict[str, Tensor]
        ] = {}  # of the last test, see `VideoScores`: `clips` and `still`

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
        """Score test clips, and the same clips with their middle frame only."""
        self.scores.update(self(batch.clips), batch.labels, batch.rows)
        self.still_scores.update(self(middle_frame(batch.clips)), batch.labels, batch.rows)

    def on_test_epoch_end(self) -> None:
        """Keep and log the result."""
        for name, scores in (("clips", self.scores), ("still", self.still_scores)):
            found = {key: value.cpu() for key, value in scores.compute().items()}
            k = scores.num_classes  # of one class or video, torchmetrics gives numbers
            lists = {"per_class": found["per_class"].view(k), "confusion": found["confusion"].view(k, k)}
            self.results[name] = found | lists | {"correct": found["correct"].view(-1)}
            scores.reset()
        for name, value in shown(self.results["clips"], self.scores.num_classes).items():
            if value is not None:
                self.log(f"test/{name}", value, rank_zero_only=True)
        self.log("test/still_top1", percent(self.results["still"]["top1"]), rank_zero_only=True)
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
        clips, still = self.results["clips"], self.results["still"]
        return {
            **shown(clips, self.scores.num_classes),
            **{f"still_{name}": value for name, value in shown(still, self.scores.num_classes).items()},
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
    """Test a trained network, e.g. a teacher, on the test videos and on their middle frames.

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
