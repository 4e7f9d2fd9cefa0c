import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file

from tests.methods.tiny import CLASSES, SPEC, K, fit, make_teacher, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.methods import ShardStrategy, Statistics
from vdc.nets import load_teacher
from vdc.ops.augment import resized_crop
from vdc.ops.rng import generator
from vdc.ops.stats import patch_moments
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

ROOT = Path(__file__).parents[2]
LAYERS = ("conv1", "norm1", "conv2", "norm2")


@pytest.fixture
def data(toy_root):
    return toy(toy_root)


@pytest.fixture
def pool(tmp_path):
    return [make_teacher(tmp_path / f"teacher{seed}", seed) for seed in (5, 6)]


class Recorded(Statistics):
    """Keeps what every loss was given, gave, and its gradient."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps = []

    def loss(self, clips, labels, context):
        terms = super().loss(clips, labels, context)
        total = torch.stack(list(terms.values())).sum()
        (gradient,) = torch.autograd.grad(total, clips, retain_graph=True)
        values = {name: term.item() for name, term in terms.items()}
        self.steps.append((self.block, clips.detach().clone(), context, values, gradient))
        return terms


def statistics(folders, spec=SPEC, cls=Statistics, **options):
    small = {"ipc": 2, "block": 4, "iterations": 3, "teachers": folders}
    return cls(K, spec, **small | options)


# -- the loss, from its equations ----------------------------------------------------------------------------


def tapped(net, x):
    """Inputs of the four layers, and the logits."""
    first = net.conv1(x)
    second = torch.relu(net.norm1(first))
    third = net.conv2(second)
    logits = net.fc(torch.relu(net.norm2(third)).mean((2, 3, 4)))
    return dict(zip(LAYERS, (x, first, second, third), strict=True)), logits


def channel(x, c):
    """Mean and biased variance of one channel of a batch."""
    values = x[:, c].flatten()
    mean = values.sum() / len(values)
    return mean, ((values - mean) ** 2).sum() / len(values)


def real(data):
    keys = [(row, 0) for row in range(len(data.labels))]
    return torch.cat([data.to_batch(raw).clips for raw in data.by_key(keys, seed=0)])


def clip_stats(x):
    """Mean over clips of the clips' own channel means and variances."""
    rows = x.flatten(2)
    return torch.stack([rows.mean(2).mean(0), rows.var(2, correction=0).mean(0)])


def targets(net, data, clips, classes, layers):
    """Layer -> (of the whole set, of the classes), (2, C) each."""
    with torch.no_grad():
        seen, _ = tapped(net, clips)
    found = {}
    for name in layers:
        x, norm = seen[name], getattr(net, name) if name.startswith("norm") else None
        pixels = x.transpose(0, 1).flatten(1)
        whole = torch.stack([pixels.mean(1), pixels.var(1, correction=0)])
        if norm is not None:
            whole = torch.stack([norm.running_mean, norm.running_var])
        each = torch.stack([clip_stats(x[data.labels == k]) for k in classes])
        found[name] = (whole, each.mean(0))
    return found


class Slow:
    """The loss of a run, layer by layer and channel by channel, in the order of the steps."""

    def __init__(self, pool, data, spec=SPEC, layers=LAYERS, alpha=0.5, weight=0.01, first=10.0, momentum=0.8,
                 flat=0.0, quirks=False, every=False):  # fmt: skip
        self.nets, self.real = [load_teacher(path).net for path in pool], real(data)
        self.data, self.spec, self.layers, self.alpha, self.weight, self.first = (
            data,
            spec,
            layers,
            alpha,
            weight,
            first,
        )
        self.momentum, self.flat, self.quirks, self.every = momentum, flat, quirks, every
        self.block, self.averages, self.counts, self.slow, self.step = None, {}, {}, None, 0

    def begin(self, block):
        self.block, self.slow, self.step = block, None, 0
        if not self.quirks:
            self.averages, self.counts = {}, {}
        self.classes = range(2 * block, 2 * block + 2)
        self.targets = [targets(net, self.data, self.real, self.classes, self.layers) for net in self.nets]

    def smoothed(self, key, value):
        """Value of the moving average after this step."""
        old = self.averages.get(key, 0.0)
        self.averages[key] = self.momentum * old + (1 - self.momentum) * value.item()
        self.counts[key] = self.counts.get(key, 0) + 1
        return self.averages[key] / (1 if self.quirks else 1 - self.momentum ** self.counts[key])

    def matching(self, i, inputs):
        """Value of the statistics term; and a scalar of the same gradient."""
        value, slope = 0.0, 0.0
        for index, name in enumerate(self.layers):
            size = inputs[name].shape[1]
            now = [channel(inputs[name], c) for c in range(size)]
            average = [[self.smoothed((i, name, c, j), now[c][j]) for c in range(size)] for j in (0, 1)]
            for share, target in zip((self.alpha, 1 - self.alpha), self.targets[i][name], strict=True):
                for j in (0, 1):
                    apart = [average[j][c] - target[j, c].item() for c in range(size)]
                    length = math.sqrt(sum(d * d for d in apart))
                    factor = self.weight * share * (self.first if index == 0 else 1.0)
                    value += factor * length
                    slope += factor * sum(d / length * now[c][j] for c, d in enumerate(apart))
        return value, slope

    def __call__(self, block, clips, context):
        if block != self.block:
            self.begin(block)
        clips = clips.clone().requires_grad_()
        labels = torch.tensor([k for k in self.classes for _ in range(2)])
        look = lambda c: resized_crop(apply_view(c, self.spec, context.starts), context.boxes, self.spec.size)  # noqa: E731
        seen = look(clips)
        if self.slow is None:
            self.slow = clips.detach().clone()
        chosen = range(len(self.nets)) if self.every else [self.step % len(self.nets)]
        assert list(chosen) == context.teachers
        terms, slope = {"ce": 0.0, "statistics": 0.0} | ({"flatness": 0.0} if self.flat else {}), 0.0
        for i in chosen:
            inputs, logits = tapped(self.nets[i], seen)
            ce = -logits.log_softmax(1)[torch.arange(4), labels].mean()
            value, same = self.matching(i, inputs)
            terms["ce"] += ce.item() / len(chosen)
            terms["statistics"] += value / len(chosen)
            slope = slope + (ce + same) / len(chosen)
            if self.flat:
                p = (tapped(self.nets[i], look(self.slow))[1].detach() / 4).softmax(1)
                kl = (
                    p * (p.log() - (logits / 4).log_softmax(1))
                ).sum() / 4  # mean over the block's four items
                terms["flatness"] += self.flat * kl.item() / len(chosen)
                slope = slope + self.flat * kl / len(chosen)
        self.slow = 0.99 * self.slow + 0.01 * clips.detach()
        self.step += 1
        return terms, torch.autograd.grad(slope, clips)[0]


VARIANTS = {
    "default": ({}, {}),
    "quirks": ({"reference_quirks": True}, {"quirks": True}),
    "no momentum": ({"momentum": 0.0}, {"momentum": 0.0}),
    "class-wise": ({"alpha": 0.0, "first_multiplier": 2.0}, {"alpha": 0.0, "first": 2.0}),
    "flat": ({"flatness_weight": 3.0, "weight": 0.1}, {"flat": 3.0, "weight": 0.1}),
    "all teachers": ({"turns": "all", "flatness_weight": 1.0}, {"every": True, "flat": 1.0}),
    "norms": ({"taps": "norm"}, {"layers": ("norm1", "norm2")}),
    "convolutions": ({"taps": "conv", "alpha": 0.25}, {"layers": ("conv1", "conv2"), "alpha": 0.25}),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_the_slow_per_layer_loop(data, pool, name):
    options, slow = VARIANTS[name]
    model = fit(statistics(pool, cls=Recorded, **options), data)
    expected = Slow(pool, data, **slow)
    assert [step[0] for step in model.steps] == [0, 0, 0, 1, 1, 1]
    for block, clips, context, terms, gradient in model.steps:
        wanted, slope = expected(block, clips, context)
        assert terms == pytest.approx(wanted, rel=2e-4, abs=1e-6)
        assert (gradient - slope).abs().max() < 1e-3 * slope.abs().max()


def test_alpha_one_on_norms_is_sre2l(data, pool, monkeypatch):
    monkeypatch.setattr(data, "by_key", None)  # running statistics are all it needs
    options = {"alpha": 1.0, "taps": "norm", "momentum": 0.0, "init": "noise", "weight": 0.05}
    model = fit(statistics(pool[:1], cls=Recorded, **options), data)
    net = load_teacher(pool[0]).net
    for block, clips, context, terms, _ in model.steps:
        inputs, logits = tapped(net, resized_crop(clips, context.boxes, 16))
        bn = 0.0
        for layer, factor in (("norm1", 10), ("norm2", 1)):
            x, norm = inputs[layer], getattr(net, layer)
            mean, var = x.mean((0, 2, 3, 4)), x.transpose(0, 1).flatten(1).var(1, correction=0)
            bn += factor * ((norm.running_var - var).norm() + (norm.running_mean - mean).norm())
        labels = torch.tensor([2 * block, 2 * block, 2 * block + 1, 2 * block + 1])
        expected = {"ce": F.cross_entropy(logits, labels).item(), "statistics": 0.05 * bn.item()}
        assert terms == pytest.approx(expected, rel=1e-4)


def test_grid_cells_count_as_their_convolution(data, pool):
    plain, patched = (
        fit(
            statistics(pool[:1], cls=Recorded, taps="conv", alpha=0.0, momentum=0.0, patch=patch), data
        ).steps[0]
        for patch in (False, True)
    )
    net, extra = load_teacher(pool[0]).net, 0.0
    seen, _ = tapped(net, resized_crop(patched[1], patched[2].boxes, 16))
    whole, _ = tapped(net, real(data))
    for name, factor in (("conv1", 10), ("conv2", 1)):
        cell = patch_moments(seen[name])  # at 16 px there is one
        now = torch.stack([cell.mean.mean(), cell.var.mean() + cell.mean.var(correction=0)])
        classes = [patch_moments(whole[name][data.labels == k]) for k in (0, 1)]
        target = torch.stack([torch.stack([c.mean.mean(), c.var.mean()]) for c in classes]).mean(0)
        extra += 0.01 * factor * (now - target).abs().sum().item()
    assert patched[3]["statistics"] - plain[3]["statistics"] == pytest.approx(extra, rel=1e-3)


# -- draws ---------------------------------------------------------------------------------------------------


def test_every_step_sees_a_new_window_and_crop(toy_root, pool):
    spec = ClipSpec(
        frames=4, size=16, stride=2, stored_frames=8, window="slide", window_frames=2, interpolation="linear"
    )
    data = toy(toy_root, spec)
    model = fit(statistics(pool, spec, cls=Recorded, iterations=8, shared_crop=False), data)
    expected = Slow(pool, data, spec)
    for block, clips, context, terms, _ in model.steps:
        assert clips.shape[2] == 8
        assert context.starts.max() <= 6
        assert len(set(map(tuple, context.boxes.tolist()))) == 4  # one crop each
        assert terms == pytest.approx(expected(block, clips, context)[0], rel=2e-4, abs=1e-6)
    assert len({tuple(step[2].starts.tolist()) for step in model.steps}) > 8
    shared = fit(statistics(pool, spec, cls=Recorded), data)
    assert all(step[2].boxes.unique(dim=0).shape[0] == 1 for step in shared.steps)


def test_curriculum_goes_from_easy_to_hard(data, pool):
    model = statistics(
        pool[:1], cls=Recorded, curriculum="cosine", crop_scale=(0.25, 1.0), iterations=20, flip=0.0
    )
    areas = [(s[2].boxes[0, 2] * s[2].boxes[0, 3]).item() / 256 for s in fit(model, data).steps[:20]]
    assert areas[0] > 0.9
    least = [0.25 + 0.75 * 0.5 * (1 + math.cos(math.pi * t / 20)) for t in range(20)]
    assert all(area > low - 0.1 for area, low in zip(areas, least, strict=True))  # whole pixels: +- 0.1
    assert min(areas) < 0.6
    assert all(step[2].boxes[0, 4] == 0 for step in model.steps)  # never mirrored


def test_draws_are_those_of_block_and_step(data, pool):
    model = fit(statistics(pool, cls=Recorded), data)
    seeds = [generator(0, "crop", b, s).initial_seed() for b in (0, 1) for s in range(3)]
    assert len(set(seeds)) == 6
    boxes = [tuple(step[2].boxes[0].tolist()) for step in model.steps]
    alone = statistics(pool, cls=Recorded, block=4, seed=0)
    assert [tuple(s[2].boxes[0].tolist()) for s in fit(alone, data).steps] == boxes
    assert [
        tuple(s[2].boxes[0].tolist()) for s in fit(statistics(pool, cls=Recorded, seed=1), data).steps
    ] != boxes


# -- whole runs ----------------------------------------------------------------------------------------------


def test_learns_and_stores(data, pool, tmp_path):
    out = tmp_path / "set"
    options = {"iterations": 60, "block": 8, "weight": 1.0, "crop_scale": (1.0, 1.0), "flip": 0.0}
    model = fit(statistics(pool[:1], cls=Recorded, out=str(out), **options), data)
    first, last = (sum(model.steps[i][3].values()) for i in (0, -1))
    assert last < 0.8 * first
    stored = load(out)
    assert (stored.classes, stored.ipc, stored.manifest["method"]) == (CLASSES, 2, "Recorded")


CHILD = """
import os, signal, sys
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file
from tests.methods.test_statistics import statistics
from tests.network import register
from tests.methods.tiny import fit, toy
register()
class Killed(ModelCheckpoint):
    def on_train_batch_end(self, trainer, *rest):
        super().on_train_batch_end(trainer, *rest)
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGKILL)
saved = Killed(sys.argv[2], save_last=True, save_top_k=0, every_n_train_steps=1)
model = statistics(sys.argv[3:], flatness_weight=1.0, reference_quirks=True)
fit(model, toy(sys.argv[1]), callbacks=[saved], enable_checkpointing=True)
"""


def test_killed_within_a_block_and_resumed_ends_the_same(data, pool, toy_root, tmp_path):
    def model():
        return statistics(pool, flatness_weight=1.0, reference_quirks=True)  # the most state there is

    command = [sys.executable, "-c", CHILD, toy_root, str(tmp_path), *pool]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = fit(model(), data, ckpt_path=tmp_path / "last.ckpt")
    assert resumed.memory.frames.equal(fit(model(), data).memory.frames)


def test_a_finished_run_can_be_resumed(data, pool, tmp_path):
    saved = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, every_n_train_steps=1)
    whole = fit(statistics(pool), data, callbacks=[saved], enable_checkpointing=True)
    again = fit(statistics(pool), data, ckpt_path=tmp_path / "last.ckpt")
    assert again.memory.frames.equal(whole.memory.frames)


class Sharded(Statistics):
    def setup(self, stage):
        register()  # in a process of its own
        super().setup(stage)


@pytest.fixture
def three(toy_root, tmp_path):
    """Runs of three blocks: of two processes, the second has one block, and waits."""
    classes = CLASSES[:3]
    pool = [make_teacher(tmp_path / f"teacher{seed}", seed, classes=classes) for seed in (5, 6)]
    plan = {
        "teachers": pool,
        "ipc": 2,
        "block": 2,
        "iterations": 3,
        "flatness_weight": 1.0,
    }

    def run(name, processes=1, ckpt_path=None, **options):
        out, cache = str(tmp_path / name), str(tmp_path / f"{name} statistics")
        shard = {"devices": 2, "strategy": ShardStrategy(start_method="spawn")} if processes == 2 else {}
        model = Sharded(3, SPEC, **plan, out=out, cache=cache)
        fit(model, toy(toy_root, classes=classes), ckpt_path, **shard | options)
        return load(out).tensors["videos"]

    return run


@pytest.mark.ddp
def test_two_processes_give_what_one_gives(three, tmp_path):
    one, two = three("one"), three("two", 2)
    assert (one.int() - two).abs().max() <= 1
    assert (one != two).float().mean() < 1e-3
    for path in (tmp_path / "one statistics").iterdir():
        merged = load_file(tmp_path / "two statistics" / path.name)["sums"]
        torch.testing.assert_close(load_file(path)["sums"], merged, rtol=1e-12, atol=0)


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_resume(three, tmp_path):
    saved = ModelCheckpoint(tmp_path, save_last=True, save_top_k=0, every_n_train_steps=4)
    whole = three("set", 2, callbacks=[saved], enable_checkpointing=True)
    assert three("set", 2, tmp_path / "last.ckpt").equal(whole)
    (tmp_path / "rank1" / "last.ckpt").unlink()
    with pytest.raises(Exception, match=r"shares of the 2 processes are at steps \[4, None\]"):
        three("set", 2, tmp_path / "last.ckpt")


def test_processes_that_would_average_are_refused(data, pool, monkeypatch):
    model = statistics(pool)
    monkeypatch.setattr(Trainer, "world_size", 2)
    with pytest.raises(
        ValueError, match=r"2 processes would average unrelated classes: add --trainer\.strategy shard"
    ):
        fit(model, data)
    with pytest.raises(ValueError, match="reference_quirks lets blocks depend on one another"):
        fit(statistics(pool, reference_quirks=True), data)


# -- bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
        ({"alpha": -0.1}, "alpha must be"),
        ({"momentum": 1.0}, r"momentum must be in \[0, 1\)"),
        ({"crop_scale": (0.0, 1.0)}, "crop_scale must be"),
        ({"crop_scale": (0.9, 0.5)}, "crop_scale must be"),
        ({"teachers": []}, "teachers is empty"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        statistics(["nowhere"], **options)


def test_teachers_of_something_else_are_refused(data, tmp_path, toy_root):
    other = make_teacher(tmp_path / "classes", classes=["down", "grow", "spin", "shake"])
    with pytest.raises(ValueError, match=r"class 3 is 'shake' there, 'up' in the data"):
        fit(statistics([other]), data)
    larger = make_teacher(tmp_path / "size", spec=ClipSpec(frames=4, size=24, stride=2))
    with pytest.raises(ValueError, match="4 frames of 24 px, the data has 4 of 16 px"):
        fit(statistics([larger]), data)
    with pytest.raises(FileNotFoundError, match="vdc pretrain"):
        fit(statistics([str(tmp_path / "missing")]), data)


def test_a_window_longer_than_what_is_stored_is_refused():
    with pytest.raises(ValueError, match="shorter than its window of 4"):
        ClipSpec(frames=4, size=16, stored_frames=2, window="slide")
