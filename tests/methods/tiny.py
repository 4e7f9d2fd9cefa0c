"""Toy videos of 16 px, teachers, experts, short runs; child processes import it too."""

from pathlib import Path

import torch
from lightning.pytorch import Trainer
from torch import nn

from vdc.data.toy import ToyData
from vdc.nets import build, save_teacher
from vdc.nets.experts import Recorder, describe
from vdc.spec import ClipSpec
from vdc.system.files import write_json

SPEC = ClipSpec(frames=4, size=16, stride=2)
CLASSES = ["down", "grow", "spin", "up"]
K = len(CLASSES)


def make_teacher(path, seed=5, spec=SPEC, classes=CLASSES, **options):
    """A teacher folder with random weights and random running statistics."""
    net, rng = build("tiny", len(classes), spec, **options), torch.Generator().manual_seed(seed)
    net.reset_parameters("default", rng)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm3d):
            layer.running_mean.normal_(0, 0.3, generator=rng)
            layer.running_var.uniform_(0.5, 1.5, generator=rng)
    save_teacher(path, net, {"classes": list(classes)})
    return str(path)


def make_experts(path, count=3, epochs=4, classes=CLASSES, spec=SPEC):
    """Networks that wander: every epoch adds a little to every parameter."""
    for number in range(count):
        net, rng = build("tiny", len(classes), spec, norm="in"), torch.Generator().manual_seed(number)
        net.reset_parameters("default", rng)
        recorder = Recorder(path / f"{number}.partial", net, epochs, "fp32")
        for epoch in range(epochs + 1):
            recorder.write(epoch, net)
            with torch.no_grad():
                for p in net.parameters():
                    p.add_(0.05 * torch.randn(p.shape, generator=rng))
        write_json(path / "experts.json", describe(net, list(classes), epochs, "fp32", {}))
        recorder.finish(path, number, {"number": number})
    return str(path)


def toy(root, spec=SPEC, **options):
    """Five training videos of each of four toy classes."""
    given = {"train_videos": 5, "test_videos": 1, "classes": CLASSES, "batch_size": 4, "load_size": (20, 20)}
    data = ToyData(str(Path(root)), spec, **given | options)
    data.prepare_data()
    return data


def fit(model, data, ckpt_path=None, **options):
    """Run a condenser on one CPU process."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    one = {"accelerator": "cpu", "devices": 1, "enable_checkpointing": False}
    trainer = Trainer(**quiet | one | options, use_distributed_sampler=False)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return model
