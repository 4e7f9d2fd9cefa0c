"""EvalModule against hand-made steps of the same network."""

import copy

import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, mse_loss, softmax
from torch.utils.data import DataLoader

from tests.network import Tiny
from tests.small import SPEC, K, Videos
from vdc.ops.pixels import to_clips
from vdc.spec import Batch
from vdc.train.module import EvalModule, objective, parameter_groups
from vdc.train.protocol import Protocol, lr_factor

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "use_distributed_sampler": False, "num_sanity_val_steps": 0,
}  # fmt: skip


def batch_of(n, seed=0, mix=False):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(K, (n,), generator=rng)
    pasted = (torch.randint(K, (n,), generator=rng), torch.tensor(0.7)) if mix else None
    clips = torch.randn(n, 3, 4, 16, 16, generator=rng)
    return Batch(clips, labels, torch.arange(n), torch.randn(n, K, generator=rng), pasted)


class Batches(LightningDataModule):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def train_dataloader(self):
        return DataLoader(self.batches, batch_size=None)


def fit(module, batches, epochs=1, **options):
    trainer = Trainer(max_epochs=epochs, **QUIET | options)
    trainer.fit(module, datamodule=Batches(batches))
    return trainer


# -- losses ----------------------------------------------------------------------------------------------


def test_losses_equal_their_equations():
    batch, logits = batch_of(5), torch.randn(5, K, generator=torch.Generator().manual_seed(9))
    labels, targets = batch.labels, batch.targets
    expected = {
        "ce": cross_entropy(logits, labels),
        "mse": mse_loss(logits, targets),
        "mse_gt": mse_loss(logits, targets) + 0.3 * cross_entropy(logits, labels),
        "soft_ce": -(softmax(targets, 1) * log_softmax(logits, 1)).sum(1).mean(),
        "kl": kl_div(log_softmax(logits / 2, 1), softmax(targets / 2, 1), reduction="batchmean"),
    }
    for loss, value in expected.items():
        found = objective(Protocol(loss=loss, ce_weight=0.3, temperature=2), logits, batch)
        torch.testing.assert_close(found, value, msg=loss)


def test_a_mixed_batch_shares_its_cross_entropy():
    batch, logits = batch_of(6, mix=True), torch.randn(6, K)
    expected = 0.7 * cross_entropy(logits, batch.labels) + 0.3 * cross_entropy(logits, batch.mix[0])
    torch.testing.assert_close(objective(Protocol(loss="ce"), logits, batch), expected)
    plain = batch._replace(mix=None)
    assert objective(Protocol(loss="mse_gt"), logits, batch) == objective(
        Protocol(loss="mse_gt"), logits, plain
    )


def test_soft_loss_without_targets_is_refused():
    with pytest.raises(ValueError, match="needs soft targets"):
        objective(Protocol(loss="kl"), torch.randn(2, K), batch_of(2)._replace(targets=None))


# -- optimiser -------------------------------------------------------------------------------------------


def test_weight_decay_reaches_matrices_only():
    net = Tiny(K, SPEC)
    groups = parameter_groups(net, Protocol())
    decayed = {id(p) for p in groups[0]["params"]}
    names = {name for name, p in net.named_parameters() if id(p) in decayed}
    assert names == {"conv1.weight", "conv2.weight", "fc.weight"}
    assert [group["weight_decay"] for group in groups] == [0.01, 0.0]
    everything = parameter_groups(net, Protocol(decay="all"))
    assert len(everything) == 1
    assert len(everything[0]["params"]) == len(list(net.parameters()))


def by_hand(net, batches, protocol, epochs, loss):
    """The same training in plain torch."""
    net.train()
    optimizer = torch.optim.SGD(
        net.parameters(), protocol.lr, momentum=0.9, weight_decay=protocol.weight_decay
    )
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = protocol.lr * lr_factor(protocol, epoch)
        for batch in batches:
            optimizer.zero_grad()
            loss(net(batch.clips), batch).backward()
            if protocol.clip_grad:
                nn.utils.clip_grad_norm_(net.parameters(), protocol.clip_grad)
            optimizer.step()
    return net


def no_dropout(**changes):
    options = {"optimizer": "sgd", "lr": 0.1, "decay": "all", "schedule": "step", "loss": "ce", "epochs": 4}
    return EvalModule("tiny", K, SPEC, Protocol(**options | changes), 3, {"dropout": 0.0})


@pytest.mark.parametrize("clip", [None, 0.05])
def test_training_equals_plain_torch(clip):
    module, batches = no_dropout(clip_grad=clip), [batch_of(5, i) for i in range(2)]
    expected = by_hand(
        copy.deepcopy(module.net), batches, module.protocol, 4, lambda z, b: cross_entropy(z, b.labels)
    )
    fit(module, batches, epochs=4)
    for found, right in zip(module.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)


def test_seed_decides_the_start_and_dropout():
    batches = [batch_of(5)]
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(runs))  # whatever happened before must not matter
        module = EvalModule("tiny", K, SPEC, Protocol(epochs=2), seed)
        fit(module, batches, epochs=2)
        runs.append(module.net.fc.weight.detach())
    assert runs[0].equal(runs[1])
    assert not runs[0].equal(runs[2])


def test_standardised_batches_have_mean_0_and_deviation_1():
    module = EvalModule("tiny", K, SPEC, Protocol(standardise=True))
    seen = []
    module.net.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    module(5 + 3 * batch_of(4).clips)
    assert float(seen[0].mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen[0].std()) == pytest.approx(1, abs=1e-5)


# -- running average -------------------------------------------------------------------------------------


def test_average_follows_the_weights_and_is_what_is_tested(videos):
    module, batches = no_dropout(ema=0.9), [batch_of(5, i) for i in range(3)]
    start = [p.detach().clone() for p in module.net.parameters()]
    steps = []

    class Watch(EvalModule):
        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            steps.append([p.detach().clone() for p in self.net.parameters()])

    module.__class__ = Watch
    fit(module, batches)
    expected = start
    for weights in steps:
        expected = [0.9 * mean + 0.1 * new for mean, new in zip(expected, weights, strict=True)]
    live = [p.detach().clone() for p in module.net.parameters()]
    with module.averaged():
        for found, right in zip(module.net.parameters(), expected, strict=True):
            torch.testing.assert_close(found.detach(), right)
    assert all(a.equal(b) for a, b in zip(module.net.parameters(), live, strict=True))
    seen = []
    module.net.fc.register_forward_pre_hook(lambda layer, _: seen.append(layer.weight.detach().clone()))
    Trainer(**QUIET).test(module, datamodule=videos, verbose=False)
    torch.testing.assert_close(seen[0], expected[-2])
    assert module.net.fc.weight.equal(live[-2])


# -- scoring ---------------------------------------------------------------------------------------------


def test_test_scores_clips_and_their_middle_frames():
    videos = Videos(clips=3)
    module = EvalModule("tiny", K, SPEC, Protocol())
    Trainer(**QUIET).test(module, datamodule=videos, verbose=False)
    net = module.net.eval()
    right = still_right = 0
    for row, label in enumerate(videos.labels.tolist()):
        clips = videos.on_after_batch_transfer(videos.raw([row]), 0).clips
        with torch.no_grad():
            right += int(net(clips).softmax(1).mean(0).argmax()) == label
            stills = torch.stack([clip[:, [2, 2, 2, 2]] for clip in clips])
            still_right += int(net(stills).softmax(1).mean(0).argmax()) == label
    found = module.outcome()
    assert found["top1"] == pytest.approx(100 * right / 12, abs=1e-3)
    assert found["still_top1"] == pytest.approx(100 * still_right / 12, abs=1e-3)
    assert found["videos"] == 12


# -- two processes ---------------------------------------------------------------------------------------


class Halves(Batches):
    """Each process has its own batch, and videos of which the last is there to make them equally many."""

    def train_dataloader(self):
        return DataLoader([self.batches[self.trainer.global_rank]], batch_size=None)

    def val_dataloader(self):
        return DataLoader([shares()[self.trainer.global_rank]], batch_size=None)


def shares():
    whole = batch_of(7, 3)
    return [Batch(*(part[rows] for part in whole[:3])) for rows in ([0, 1, 2, 3], [4, 5, 6, 0])]


@pytest.mark.ddp
def test_two_processes_average_gradients_and_count_every_video_once():
    """One SGD step on two ranks equals one step along the mean of the two gradients."""
    protocol = Protocol(
        optimizer="sgd", lr=0.5, momentum=0.0, weight_decay=0.0, loss="ce", epochs=1, schedule="constant"
    )
    module = EvalModule("tiny", K, SPEC, protocol, 3, {"dropout": 0.0})
    halves, gradients, nets = [batch_of(4, 1), batch_of(4, 2)], [], []
    for batch in halves:
        nets.append(copy.deepcopy(module.net).train())
        cross_entropy(nets[-1](batch.clips), batch.labels).backward()
        gradients.append([p.grad for p in nets[-1].parameters()])
    expected = nets[0].eval()  # with the first process's normalisation statistics
    with torch.no_grad():
        for p, a, b in zip(expected.parameters(), *gradients, strict=True):
            p.sub_(0.5 * (a + b) / 2)
    trainer = Trainer(max_epochs=1, **QUIET | {"strategy": "ddp_spawn", "devices": 2})
    trainer.fit(module, datamodule=Halves(halves))
    for found, right in zip(module.net.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(found.detach(), right.detach(), rtol=1e-4, atol=1e-6)
    videos = batch_of(7, 3)
    hits = (expected(videos.clips).argmax(1) == videos.labels).sum()
    assert float(trainer.callback_metrics["val/top1"]) == pytest.approx(100 * int(hits) / 7, abs=1e-3)


def test_passes_score_every_clip_on_its_own():
    """Three clips of each video: with passes 36 scores, without them 12 of mean probabilities."""
    videos = Videos(clips=3)
    found = {}
    for passes in (0, 3):
        protocol = Protocol(epochs=1, test_passes=passes, augment="none", standardise=False)
        module = EvalModule("tiny", K, SPEC, protocol, seed=4)
        Trainer(**QUIET).test(module, datamodule=videos, verbose=False)
        found[passes] = module.outcome()
    clips = to_clips(videos.frames.flatten(0, 1))
    with torch.no_grad():
        best = module.net.eval()(clips).argmax(1)
    right = (best == videos.labels.repeat_interleave(3)).float()
    assert found[3]["top1"] == pytest.approx(100 * float(right.mean()), abs=1e-3)
    assert found[3]["top5"] is None  # of four classes
    assert (found[0]["videos"], found[3]["videos"]) == (12, 36)
