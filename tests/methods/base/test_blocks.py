import math

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.format import load
from vdc.condensed.memory import Pixels
from vdc.methods.base import blocks as blocks_module
from vdc.methods.base import memory_estimate
from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.multisize import MatchPrefixes
from vdc.methods.base.prefixes import MultiSize
from vdc.ops.pixels import to_clips, valid_range
from vdc.ops.rng import generator


class Chase(BlockCondenser):
    """Pulls every clip to its class number, by a random share of its distance."""

    begun = 0

    def begin_block(self):
        self.begun += 1
        self.pulls = torch.zeros(())

    def block_state(self):
        return {"pulls": self.pulls}

    def load_block_state(self, state):
        self.pulls = state["pulls"]

    def context(self, batch):
        return torch.rand(len(self.memory), generator=self.rng("pull"))

    def loss(self, clips, labels, context):
        self.pulls = self.pulls + context.sum()
        goal = (labels + self.classes[0]).float() / 4
        apart = (clips - goal.view(-1, 1, 1, 1, 1)).square().mean((1, 2, 3, 4))
        return {"pull": (apart * context * (1 + self.pulls)).sum()}


def adam(p):
    return torch.optim.Adam(p, lr=0.2, betas=(0.5, 0.9))


def chase(spec=SPEC, num_classes=K, **options):
    return Chase(num_classes, spec, **{"ipc": 2, "block": 5, "iterations": 3, "optimizer": adam} | options)


@pytest.fixture
def data(toy_root):
    return toy(toy_root)


def by_hand(data, blocks, ipc, iterations, seed=0, lr=0.2, b1=0.5, b2=0.9):
    """Every block on its own: Adam and the falling rate written out."""
    low, high = valid_range(torch.device("cpu"))
    frames = []
    for index, classes in enumerate(blocks):
        x = data.sample(ipc, seed, classes).flatten(0, 1)
        goal = torch.tensor(classes).repeat_interleave(ipc).view(-1, 1, 1, 1, 1) / 4
        m, v, pulls = torch.zeros_like(x), torch.zeros_like(x), 0.0
        for step in range(iterations):
            x = x.clamp(low, high)
            share = torch.rand(len(x), generator=generator(seed, "pull", index, step))
            pulls = pulls + share.sum()
            gradient = share.view(-1, 1, 1, 1, 1) * (1 + pulls) * 2 * (x - goal) / x[0].numel()
            m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient**2
            rate = lr * 0.5 * (1 + math.cos(math.pi * step / iterations))
            x = x - rate * (m / (1 - b1 ** (step + 1))) / ((v / (1 - b2 ** (step + 1))).sqrt() + 1e-8)
        frames.append(x.clamp(low, high))
    return torch.cat(frames)


@pytest.mark.parametrize("block", [2, 5, 100])
def test_blocks_are_learnt_one_by_one(data, tmp_path, block):
    out = tmp_path / "set"
    model = fit(chase(block=block, out=str(out)), data)
    size = {2: 1, 5: 2, 100: 4}[block]
    blocks = [range(k, k + size) for k in range(0, 4, size)]
    assert model.begun == len(blocks)
    expected = by_hand(data, blocks, ipc=2, iterations=3)
    stored = load(out)
    assert stored.labels.hard.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    step = 1 / 255 / 0.224  # one grey level
    assert (to_clips(stored.tensors["videos"]) - expected).abs().max() < 0.51 * step


class Watch(Callback):
    """What exists at every step."""

    def __init__(self):
        self.pixels, self.moments, self.rates = [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        (parameter,) = module.memory.parameters()
        state = trainer.optimizers[0].state[parameter]
        self.pixels.append(len(parameter))
        self.moments.append((len(state["exp_avg"]), int(state["step"])))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_pixels_and_optimiser_exist_for_one_block_only(data):
    seen, model = Watch(), chase(block=6, iterations=2)  # classes 0-2, then class 3
    assert not list(model.parameters())  # nothing before the start
    fit(model, data, callbacks=[seen])
    assert seen.pixels == [6, 6, 2, 2]
    assert seen.moments == [(6, 1), (6, 2), (2, 1), (2, 2)]  # a fresh one each
    assert seen.rates == pytest.approx([0.1, 0.0, 0.1, 0.0])  # of the step to come
    assert model.memory.frames.dtype == torch.uint8  # the finished set is what is stored
    assert len(model.memory) == 8


def still(p):
    return torch.optim.Adam(p, lr=0.0)


def test_noise_does_not_depend_on_the_blocks(data):
    one, many = (fit(chase(init="noise", optimizer=still, block=b), data).memory.frames for b in (100, 2))
    assert one.equal(many)
    expected = Pixels(1, 2, SPEC)
    expected.initialise(torch.randn(1, 2, 3, 4, 16, 16, generator=generator(0, "init", 2)))
    assert one[4:6].equal(expected.state()["videos"])


def test_starts_from_a_condensed_set(data, tmp_path):
    fit(chase(init="noise", ipc=3, out=str(tmp_path / "start")), data)
    model = fit(chase(init=str(tmp_path / "start"), block=3, optimizer=still), data)
    stored = load(tmp_path / "start").tensors["videos"].view(4, 3, 4, 16, 16, 3)
    assert model.memory.frames.view(4, 2, 4, 16, 16, 3).equal(stored[:, :2])
    with pytest.raises(ValueError, match=r"init .*start: 4 classes x 3 clips of 4 frames.*x 4 of 4 frames"):
        fit(chase(init=str(tmp_path / "start"), ipc=4), data)


def test_stopped_early_the_rest_is_stored_as_it_starts(data, monkeypatch):
    said = []
    monkeypatch.setattr(blocks_module, "rank_zero_warn", said.append)
    model = fit(chase(block=2, iterations=2), data, max_steps=3)
    assert said == ["stopped at step 3: later blocks are stored as they start"]
    start = fit(chase(block=2, optimizer=still), data).memory.frames
    changed = (model.memory.frames != start).flatten(1).any(1)
    assert changed.tolist() == [True] * 4 + [False] * 4


@pytest.mark.parametrize("step", [2, 3, 5])  # within the first block, at its end, within the second
def test_resumed_ends_the_same(data, tmp_path, step):
    whole = fit(chase(), data)
    saved = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, every_n_train_steps=1)
    fit(chase(), data, callbacks=[saved], enable_checkpointing=True, max_steps=step)
    resumed = fit(chase(), data, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.memory.frames.equal(whole.memory.frames)
    assert resumed.begun == (1 if step == 5 else 2)


def test_a_checkpoint_of_another_plan_is_refused(data, tmp_path):
    saved = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, every_n_train_steps=1)
    fit(chase(), data, callbacks=[saved], enable_checkpointing=True, max_steps=1)
    with pytest.raises(ValueError, match=r"'iterations': 3.*'iterations': 4"):
        fit(chase(iterations=4), data, ckpt_path=tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"'ipc': 2.*'ipc': 1"):
        fit(chase(ipc=1), data, ckpt_path=tmp_path / "last.ckpt")


def test_what_cannot_fit_is_refused_before_it_is_allocated(data, monkeypatch):
    monkeypatch.setattr(memory_estimate, "free_memory", lambda *_: 10 * 2**20)
    message = (
        r"about 820.3 MiB of memory needed on cpu \(pixels 234.4 MiB.*10.0 MiB are free: lower model.init"
    )
    with pytest.raises(ValueError, match=message):
        fit(chase(ipc=10**4), data)  # a block is a class at least
    with pytest.raises(ValueError, match=r"pixels 234.4 MiB.*earlier items 117.2 MiB"):
        fit(chase(ipc=10**4), data, callbacks=[MatchPrefixes(MultiSize(2, 1))])
    fit(chase(ipc=1, block=1), data)


@pytest.mark.parametrize("options", [{"iterations": 0}, {"block": 0}])
def test_nothing_is_no_plan(options):
    with pytest.raises(ValueError, match="at least 1"):
        chase(**options)
