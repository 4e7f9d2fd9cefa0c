"""Videos in memory, a teacher and a condensed set: what evaluation needs and no more."""

from copy import copy

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from vdc.condensed.format import save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels
from vdc.nets import build, save_teacher
from vdc.ops.pixels import to_clips
from vdc.spec import Batch, ClipSpec, RawBatch

K = 3
SPEC = ClipSpec(frames=4, size=16, stride=1)
CLASSES = ["a", "b", "c"]


class Videos(LightningDataModule):
    """Videos in memory behind the interface of RealData; `clips` of each in training and test."""

    def __init__(self, per_class=4, clips=1, val=False, seed=0):
        super().__init__()
        self.num_classes, self.classes, self.spec = K, list(CLASSES), SPEC
        self.batch_size, self.val_share, self.seed, self.clips = 4, 0.25 if val else 0.0, seed, clips
        self.splits = {"val": [0] if val else []}
        self.labels = torch.arange(K).repeat_interleave(per_class)
        rng = torch.Generator().manual_seed(7)
        self.frames = torch.randint(
            256, (len(self.labels), clips, 4, 16, 16, 3), generator=rng, dtype=torch.uint8
        )
        self.frames[..., 0] = (self.frames[..., 0] // 4 + 60 * self.labels.view(-1, 1, 1, 1, 1)).byte()

        self.test_clips, self.short_video = clips, "dense"
        self.asked = []  # of all copies

    def fingerprint(self):
        splits = {
            name: {"videos": len(self.labels), "bytes": 1234, "sha256": name} for name in ("train", "test")
        }
        return {**splits, "decoder": "none", "load_size": [16, 16], "skipped": []}

    def with_(self, **changes):
        self.asked.append(changes)
        other = copy(self)
        for name, value in changes.items():
            setattr(other, name, value)
        return other

    def sample(self, per_class, seed):
        clips = to_clips(self.frames[:, 0]).unflatten(0, (K, -1))
        return clips[:, :per_class]

    def raw(self, rows):
        rows = torch.tensor(rows)
        return RawBatch(self.frames[rows], self.labels[rows], rows, torch.zeros(len(rows), self.clips, 5))

    def loader(self, order):
        return DataLoader(order, batch_size=self.batch_size, collate_fn=self.raw)

    def train_dataloader(self):
        return self.loader([(5 * i) % len(self.labels) for i in range(len(self.labels))])  # classes mixed

    def val_dataloader(self):
        return self.test_dataloader() if self.val_share else []

    def test_dataloader(self):
        return self.loader(list(range(len(self.labels))))

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return Batch(
            to_clips(batch.frames.flatten(0, 1)),
            batch.labels.repeat_interleave(self.clips),
            batch.rows.repeat_interleave(self.clips),
        )


def make_teacher(path):
    """A teacher folder whose logits lie far apart."""
    net = build("tiny", K, SPEC)
    net.reset_parameters("default", torch.Generator().manual_seed(5))
    with torch.no_grad():
        net.fc.weight.mul_(20)
    save_teacher(path, net, {"classes": CLASSES})
    return str(path)


def make_set(path, ipc=2, spec=SPEC, soft=None, learnt=None):
    rng = torch.Generator().manual_seed(3)
    memory = Pixels(K, ipc, spec)
    shape = (K, ipc, spec.stored, spec.size, spec.size, 3)
    frames = torch.randint(256, shape, generator=rng, dtype=torch.uint8)
    memory.initialise(to_clips(frames.flatten(0, 1)).unflatten(0, (K, ipc)))
    labels = Labels(memory.labels, soft)
    about = {"classes": CLASSES, "source": {}, "method": "Random", "config": {}, "seed": 0}
    save(path, memory, labels, **about, learnt=learnt)
    return str(path)
