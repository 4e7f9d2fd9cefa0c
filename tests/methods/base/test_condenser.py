"""The Condenser base, on a method that pulls all items to one colour."""

import pytest
import torch

from tests.methods.tiny import CLASSES, SPEC, K, fit, toy
from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import Pixels
from vdc.methods import Condenser, FeatureMatching, Learner, Selection
from vdc.methods.base.blocks import BlockCondenser
from vdc.methods.base.gradient import GradientMatching
from vdc.methods.base.per_class import Classwise
from vdc.ops.pixels import to_clips, to_frames


class Pull(Learner):
    """Towards a colour of the step's own generator and of the global one."""

    batches = "none"

    def prepare(self):
        self.teacher = torch.nn.Linear(2, 2).requires_grad_(False)

    def context(self, batch):
        return 3 * torch.rand((), generator=self.rng("colour")) + torch.rand(
            ()
        )  # beyond white: clamping matters

    def loss(self, clips, labels, context):
        return {"near": (clips - context).square().sum(), "small": 0.01 * clips.square().sum()}


class PerRank(Learner):
    """Whose gradient on process r is r + 1 everywhere."""

    batches = "none"

    def loss(self, clips, labels, context):
        return {"sum": (self.global_rank + 1) * clips.sum()}


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.2, momentum=0.9)


def plain_sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.1)


def pull(**options):
    return Pull(K, SPEC, optimizer=sgd, **options)


def test_a_checkpoint_holds_the_memory_only_and_resuming_repeats_the_run(toy_root, tmp_path):
    data = toy(toy_root)
    whole = fit(pull(), data, max_steps=6)
    half = fit(pull(), data, max_steps=3)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    held = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"]
    assert list(held) == ["memory.videos"]
    resumed = fit(pull(), data, str(tmp_path / "half.ckpt"), max_steps=6)
    assert torch.equal(resumed.memory.videos, whole.memory.videos)
    assert not torch.equal(half.memory.videos, whole.memory.videos)


def test_a_checkpoint_written_before_clamping_resumes_alike(toy_root, tmp_path):
    data = toy(toy_root)
    model = fit(pull(), data, max_steps=3)
    with torch.no_grad():
        model.memory.videos.add_(50)  # what a checkpoint in the middle of a step may hold
    model.trainer.save_checkpoint(tmp_path / "far.ckpt")
    resumed = fit(pull(), data, str(tmp_path / "far.ckpt"), max_steps=3)
    assert resumed.memory.videos.max() <= resumed.memory.high.max()


def test_a_checkpoint_of_another_memory_is_refused(toy_root, tmp_path):
    model = fit(pull(), toy(toy_root), max_steps=1)
    model.trainer.save_checkpoint(tmp_path / "a.ckpt")
    broken = torch.load(tmp_path / "a.ckpt", weights_only=True)
    broken["state_dict"] = {}
    torch.save(broken, tmp_path / "b.ckpt")
    with pytest.raises(ValueError, match=r"checkpoint lacks memory\.videos"):
        fit(pull(), toy(toy_root), str(tmp_path / "b.ckpt"), max_steps=2)


def test_it_writes_what_it_learnt(toy_root, tmp_path):
    model = pull(out=str(tmp_path / "set"), ipc=2)
    model.config = {"model": {"ipc": 2}}
    fit(model, toy(toy_root), max_steps=2)
    stored = load(tmp_path / "set")
    assert stored.manifest["method"] == "Pull"
    assert stored.manifest["config"] == {"model": {"ipc": 2}}
    assert stored.classes == CLASSES
    assert torch.equal(stored.tensors["videos"], to_frames(model.memory.videos.detach()))


@pytest.mark.parametrize("init", ["real", "noise"])
def test_it_starts_from_clips_or_noise(toy_root, init):
    data = toy(toy_root)
    model = fit(
        Pull(K, SPEC, ipc=2, init=init, optimizer=plain_sgd, seed=3), data, limit_train_batches=0, max_steps=1
    )
    if init == "real":
        assert torch.equal(model.memory.videos, data.sample(2, 3).flatten(0, 1))
    else:
        assert 0.8 < model.memory.videos.std() < 1.2


def write_set(folder, ipc, classes=CLASSES):
    memory = Pixels(len(classes), ipc, SPEC)
    frames = torch.randint(256, (len(classes), ipc, 4, 16, 16, 3), dtype=torch.uint8)
    memory.initialise(to_clips(frames.flatten(0, 1)).unflatten(0, (len(classes), ipc)))
    save(folder, memory, Labels(memory.labels), classes=classes, source={}, method="x", config={}, seed=0)
    return str(folder)


def test_it_starts_from_the_first_items_of_a_condensed_set(toy_root, tmp_path):
    source = write_set(tmp_path / "a", 3)
    data = toy(toy_root)
    model = fit(
        Pull(K, SPEC, ipc=2, init=source, optimizer=plain_sgd), data, limit_train_batches=0, max_steps=1
    )
    expected, _ = load(source, ipc=2).memory().render(torch.arange(2 * K))
    assert torch.equal(model.memory.videos, expected)


def test_a_set_of_other_classes_or_too_few_items_is_no_start(toy_root, tmp_path):
    other, small = write_set(tmp_path / "a", 1, ["w", "x", "y", "z"]), write_set(tmp_path / "b", 1)
    for source, ipc in ((other, 1), (small, 2)):
        with pytest.raises(ValueError, match=r"init_args\.init .*needed the 4 classes of the data"):
            fit(Pull(K, SPEC, ipc=ipc, init=source, optimizer=plain_sgd), toy(toy_root), max_steps=1)


def test_half_precision_pixels_are_refused(toy_root):
    with pytest.raises(ValueError, match=r"--trainer.precision bf16-true rounds"):
        fit(pull(), toy(toy_root), max_steps=1, precision="bf16-true")


class Half(FeatureMatching, Learner):
    def features(self, clips, context):
        return clips


@pytest.mark.parametrize(
    ("cls", "missing"),
    [
        (Condenser, "fill"),
        (Learner, "loss"),
        (Half, "match"),
        (Selection, "pick"),
        (BlockCondenser, "begin_block"),
        (Classwise, "load"),
        (GradientMatching, "net_losses"),
    ],
)
def test_what_says_not_what_it_does_is_no_method(cls, missing):
    with pytest.raises(TypeError, match=f"abstract.*{missing}"):
        cls(2, SPEC)


@pytest.mark.ddp
def test_two_processes_step_by_the_mean_gradient(toy_root):
    data, start = toy(toy_root), toy(toy_root).sample(1, 0).flatten(0, 1)
    model = PerRank(K, SPEC, optimizer=plain_sgd)
    fit(model, data, max_steps=1, devices=2, strategy="ddp_spawn")
    expected = torch.clamp(start - 0.1 * 1.5, model.memory.low, model.memory.high)
    torch.testing.assert_close(model.memory.videos.detach(), expected)
