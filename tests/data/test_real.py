import shutil
from collections import Counter
from typing import ClassVar

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torchvision.transforms.v2 import functional as tv

from tests.data.videos import write
from vdc.data import RealData
from vdc.data.reader import decoder_version
from vdc.ops.pixels import to_clips, to_frames
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=14, stride=2)


def data(root, **options):
    defaults = {"train": "train.txt", "test": "test.txt", "spec": SPEC, "batch_size": 4, "seed": 1}
    return RealData(str(root), **(defaults | options))


def tag(clips):
    """Which video normalised clips (N, C, T, H, W) are of."""
    return to_frames(clips)[..., 1].double().mean((1, 2, 3)).round().int().tolist()


class Watcher(LightningModule):
    """Writes down what it sees: a tag, a row and the exact pixels of every clip."""

    def __init__(self, batches="shuffled", manual=False):
        super().__init__()
        self.batches, self.automatic_optimization = batches, not manual
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen, self.tested = [], []

    def training_step(self, batch, index):
        if isinstance(batch, torch.Tensor):
            self.seen.append(int(batch))
        else:
            self.seen.append(
                (self.global_rank, index, batch.rows.tolist(), batch.clips.double().sum().item())
            )
        return self.weight * 0.0 + self.weight**2

    def validation_step(self, batch, index):
        pass

    def test_step(self, batch, index):
        self.tested += list(zip(batch.rows.tolist(), batch.labels.tolist(), tag(batch.clips), strict=True))

    def wanted(self, labels):
        return torch.arange(len(labels))

    def configure_optimizers(self):
        return None if not self.automatic_optimization else torch.optim.SGD(self.parameters(), 0.1)


def trainer(tmp_path, *callbacks, **options):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    options.setdefault("enable_checkpointing", bool(callbacks))
    return Trainer(default_root_dir=str(tmp_path), callbacks=list(callbacks), **quiet, **options)


# -- what there is -------------------------------------------------------------------------------


def test_classes_labels_and_splits(toy):
    real = data(toy)
    assert (real.num_classes, real.classes, real.spec) == (3, ["wave", "run", "jump"], SPEC)
    assert real.labels.tolist() == [0, 1, 2] * 4
    assert [len(real.splits[s]) for s in ("train", "val", "test")] == [12, 0, 6]
    assert real.load_size == (16, 16)


def test_a_subset_of_classes(toy):
    real = data(toy, classes=["wave", "jump"])
    assert (real.classes, real.labels.tolist()) == (["jump", "wave"], [1, 0] * 4)
    assert tag(real.candidate(0, 0)[None]) == [0]
    with pytest.raises(ValueError, match="no class 'jmp'; did you mean 'jump'"):
        _ = data(toy, classes=["jmp"]).classes


def test_the_validation_split_is_the_same_share_of_every_class(toy):
    real, again = data(toy, val_share=0.25), data(toy, val_share=0.25)
    assert Counter(v.label for v in real.splits["val"]) == {0: 1, 1: 1, 2: 1}
    assert Counter(real.labels.tolist()) == {0: 3, 1: 3, 2: 3}
    assert real.splits == again.splits
    assert real.splits != data(toy, val_share=0.25, seed=2).splits
    everything = {v.path for v in data(toy).splits["train"]}
    assert {v.path for v in (*real.splits["train"], *real.splits["val"])} == everything
    assert len(data(toy, val_share=0.01).splits["val"]) == 3  # at least one
    assert len(data(toy, val_share=0.99).splits["train"]) == 3  # never all


def test_the_fingerprint_does_not_depend_on_where_the_set_lies(toy, tmp_path):
    shutil.copytree(toy, tmp_path / "copy")
    here, there = data(toy).fingerprint(), data(tmp_path / "copy").fingerprint()
    assert here == there
    assert here["train"]["videos"] == 12
    assert here["test"]["bytes"] == sum(p.stat().st_size for p in toy.rglob("test*.mp4"))
    assert (here["decoder"], here["skipped"], here["load_size"]) == (decoder_version(), [], [16, 16])
    assert here["train"]["sha256"] != data(toy, classes=["run", "jump"]).fingerprint()["train"]["sha256"]


# -- clips ---------------------------------------------------------------------------------------


def test_test_clips_are_the_exact_centre(toy):
    real = data(toy)
    raw = next(iter(real.tested("test")))
    assert raw.frames.shape == (4, 1, 4, 16, 16, 3)
    clips = real.to_batch(raw).clips
    oracle = to_clips(raw.frames[:, 0])[..., 1:15, 1:15]
    assert torch.allclose(clips, oracle, atol=1e-5)


def test_training_clips_are_cropped_as_torchvision_does(toy):
    real = data(toy)
    raw = next(iter(real.shuffled()))
    batch = real.to_batch(raw)
    for i in range(4):
        top, left, height, width, flip = raw.boxes[i, 0].int().tolist()
        clip = to_clips(raw.frames[i])[0].transpose(0, 1)  # (T, C, H, W)
        clip = tv.resized_crop(clip, top, left, height, width, [14, 14], antialias=True)
        clip = tv.hflip(clip) if flip else clip
        assert torch.allclose(batch.clips[i], clip.transpose(0, 1), atol=1e-4)
    assert tag(batch.clips) == batch.rows.tolist()  # tags of the training videos are their rows


def test_multi_clip_tests_repeat_rows(toy):
    real = data(toy, test_clips=2)
    batches = [real.to_batch(raw) for raw in real.tested("test")]
    assert [b.rows.tolist() for b in batches] == [[0, 0, 1, 1], [2, 2, 3, 3], [4, 4, 5, 5]]
    assert batches[0].labels.tolist() == [0, 0, 1, 1]
    assert tag(batches[0].clips) == [12, 12, 13, 13]


@pytest.mark.parametrize("m", [1, 3])
@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_candidate_can_be_had_again(toy, m, cache):
    real = data(toy, candidates=m, cache=cache)
    for raw in real.every_clip():
        batch = real.to_batch(raw)
        assert len(batch.rows) <= max(4, m)
        for i, row in enumerate(batch.rows.tolist()):
            assert torch.equal(real.candidate(row, i % m), batch.clips[i])
    assert not torch.equal(real.candidate(0, 0), real.candidate(0, 1))


def test_candidates_are_stored_frames_and_full_without_augmentation(toy):
    spec = ClipSpec(frames=4, size=14, stride=2, stored_frames=2, interpolation="linear")
    real = data(toy, spec=spec, augment=False)
    assert real.candidate(0, 0).shape == (3, 2, 14, 14)
    raw = next(iter(real.every_clip()))
    assert raw.boxes[:, 0].tolist() == [[0, 0, 16, 16, 0]] * 4
    assert next(iter(real.with_(augment=True).every_clip())).boxes[0, 0].tolist() != [0, 0, 16, 16, 0]


def test_the_first_clip_habit(toy):
    raws = list(data(toy, first_clip=True).every_clip())
    assert all((raw.frames[..., 0] // 3 == torch.tensor([0, 2, 4, 6]).view(4, 1, 1)).all() for raw in raws)


def test_a_sample_is_random_videos_of_every_class(toy):
    real = data(toy)
    sample = real.sample(2, 5)
    assert sample.shape == (3, 2, 3, 4, 14, 14)
    tags = torch.tensor(tag(sample.flatten(0, 1))).view(3, 2)
    assert (real.labels[tags] == torch.arange(3)[:, None]).all()
    assert (tags[:, 0] != tags[:, 1]).all()
    assert torch.equal(real.sample(2, 5), sample)
    assert torch.equal(real.sample(2, 5, [2]), sample[2:])
    assert not torch.equal(real.sample(2, 6), sample)
    with pytest.raises(ValueError, match="class 'wave' has 4 training videos; 5 are needed"):
        real.sample(5, 0)


def test_a_few_clips_do_not_decode_the_split(toy):
    real = data(toy, cache="ram")
    before = real.sample(1, 0)
    assert real._stores == {}
    real.shuffled()
    assert real._stores["train"] is not None
    assert torch.equal(real.sample(1, 0), before)


def test_only_some_videos(toy):
    raws = list(data(toy, candidates=2).every_clip(rows=[7, 1, 5]))
    assert [raw.rows.tolist() for raw in raws] == [[7, 1], [5]]


def test_a_few_videos_do_not_decode_the_split(toy):
    real = data(toy, cache="ram")
    few = list(real.every_clip(rows=[7, 1, 5]))
    assert real._stores == {}
    every = list(real.every_clip(rows=range(len(real.splits["train"]))))
    assert real._stores["train"] is not None
    clips = torch.cat([raw.frames for raw in every])
    assert torch.equal(torch.cat([raw.frames for raw in few]), clips[[7, 1, 5]])


# -- bad files -----------------------------------------------------------------------------------


@pytest.fixture
def flawed(toy, tmp_path):
    """The set with a missing, a broken and a damaged training video, and a broken test video."""
    root = tmp_path / "flawed"
    shutil.copytree(toy, root)
    (root / "wave/train0.mp4").unlink()
    (root / "run/train1.mp4").write_bytes(b"broken")
    write(root / "jump/train2.mp4", 40, noise=True)
    content = bytearray((root / "jump/train2.mp4").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = bytes(500)
    (root / "jump/train2.mp4").write_bytes(content)
    (root / "wave/test1.mp4").write_bytes(b"")
    return root


def test_a_missing_video_is_an_error_that_names_it(flawed):
    with pytest.raises(
        FileNotFoundError, match=r"wave/train0\.mp4: no such video; 1 of 12 train videos"
    ) as caught:
        data(flawed).setup("fit")
    assert "on_bad_clip skip" in str(caught.value)


@pytest.mark.parametrize("cache", ["none", "auto"])
def test_a_broken_video_is_an_error_that_names_it(flawed, toy, cache):
    shutil.copy(toy / "wave/train0.mp4", flawed / "wave/train0.mp4")
    real = data(flawed, cache=cache)
    real.setup("fit")
    with pytest.raises(ValueError, match=r"(run/train1|jump/train2)\.mp4: cannot be decoded"):
        list(real.shuffled())


@pytest.mark.parametrize("cache", ["none", "auto"])
def test_bad_videos_may_be_left_out(flawed, cache):
    real = data(flawed, on_bad_clip="skip", cache=cache)
    with pytest.warns(UserWarning, match="left out [31] of"):
        real.setup("fit")
    assert (len(real.labels), len(real.splits["test"])) == (9, 5)
    assert sum(len(raw.rows) for raw in real.shuffled()) == 9
    assert sum(len(raw.rows) for raw in real.tested("test")) == 5
    names = ["jump/train2.mp4", "run/train1.mp4", "wave/test1.mp4", "wave/train0.mp4"]
    assert real.fingerprint()["skipped"] == names
    assert real.skipped[str(flawed / "wave/train0.mp4")] == "missing"


def test_nothing_left_is_an_error(flawed):
    for file in flawed.rglob("test*.mp4"):
        file.write_bytes(b"broken")
    real = data(flawed, on_bad_clip="skip")
    none = pytest.raises(ValueError, match="none of the 6 test videos can be decoded")
    with none, pytest.warns(UserWarning, match="left out 3 of 12 train videos"):
        real.setup("fit")


def test_test_videos_in_training_are_told(toy):
    with pytest.warns(UserWarning, match="12 test videos are also training videos"):
        data(toy, test="train.txt").setup("fit")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"batch_size": 0}, r"--data\.batch_size must be at least 1, got 0"),
        ({"candidates": -1}, r"--data\.candidates must be at least 1, got -1"),
        ({"val_share": 1.0}, r"--data.val_share must be in \[0, 1\), got 1.0"),
    ],
)
def test_wrong_options_are_named(toy, options, match):
    with pytest.raises(ValueError, match=match):
        data(toy, **options)


def test_no_test_videos(toy, tmp_path):
    real = data(toy, test=None)
    real.setup("fit")
    with pytest.raises(ValueError, match=r"no test videos: set --data\.test"):
        real.setup("test")
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"none\.txt: lists no test videos"):
        _ = data(toy, test=str(tmp_path / "none.txt")).num_classes


# -- in a trainer --------------------------------------------------------------------------------


def test_fit_and_test(toy, tmp_path):
    module, real = Watcher(), data(toy, val_share=0.25)
    run = trainer(tmp_path, max_epochs=2)
    run.fit(module, real)
    assert [index for _, index, _, _ in module.seen] == [0, 1, 2] * 2
    halves = (module.seen[:3], module.seen[3:])
    epochs = [[row for _, _, rows, _ in half for row in rows] for half in halves]
    assert [sorted(rows) for rows in epochs] == [list(range(9))] * 2
    assert epochs[0] != epochs[1]
    run.test(module, real, verbose=False)
    assert module.tested == [(row, row % 3, 12 + row) for row in range(6)]


def test_methods_without_batches_get_as_many_steps_as_they_take(toy, tmp_path):
    module = Watcher("none")
    trainer(tmp_path, max_steps=5).fit(module, data(toy))
    assert module.seen == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"set --trainer\.max_steps"):
        trainer(tmp_path, max_epochs=2).fit(Watcher("none"), data(toy))


def test_class_wise_methods_get_whole_classes(toy, tmp_path):
    module = Watcher("per_class")
    trainer(tmp_path, max_steps=3, accumulate_grad_batches=2).fit(module, data(toy, per_class=2))
    assert len(module.seen) == 6
    assert all([row % 3 for row in rows] == [0, 0, 1, 1, 2, 2] for _, _, rows, _ in module.seen)
    module = Watcher("per_class")
    trainer(tmp_path, max_epochs=2).fit(module, data(toy, per_class=2))
    assert len(module.seen) == 4  # an epoch is one pass


class Chooser(Watcher):
    def wanted(self, labels):
        return (labels == 1).nonzero().flatten()


def test_selection_sees_every_candidate_of_what_it_wants(toy, tmp_path):
    module = Chooser("every_clip", manual=True)
    trainer(tmp_path, max_epochs=1).fit(module, data(toy, candidates=2))
    assert [rows for _, _, rows, _ in module.seen] == [[1, 1, 4, 4], [7, 7, 10, 10]]


# -- resuming ------------------------------------------------------------------------------------

RUNS: list[dict] = [
    {"batches": "shuffled", "max_epochs": 3},
    {"batches": "shuffled", "max_epochs": 3, "num_workers": 2},
    {"batches": "shuffled", "max_epochs": 3, "val_share": 0.25},
    {"batches": "shuffled", "max_epochs": 3, "limit_train_batches": 2},
    {"batches": "shuffled", "max_steps": 5},
    {"batches": "per_class", "max_steps": 5},
    {"batches": "per_class", "max_steps": 4, "accumulate_grad_batches": 2},
    {"batches": "per_class", "max_epochs": 2},
    {"batches": "none", "max_steps": 4},
    {"batches": "every_clip", "max_epochs": 2},
]
OF_DATA = ("num_workers", "val_share")


def number(path):
    return int(path.stem.split("=")[1])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(map(str, run.values())))
def test_a_resumed_run_sees_what_it_would_have_seen(toy, tmp_path, run, recwarn):
    options = {key: value for key, value in run.items() if key not in ("batches", *OF_DATA)}
    made = {key: run[key] for key in OF_DATA if key in run} | {"per_class": 2}

    def fit(checkpoint=None, *callbacks):
        module = Watcher(run["batches"])
        trainer(tmp_path, *callbacks, **options).fit(module, data(toy, **made), ckpt_path=checkpoint)
        return module.seen

    every = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, save_top_k=-1)
    ends = ModelCheckpoint(
        tmp_path / "ends", "{epoch}", every_n_epochs=1, save_top_k=-1, save_on_train_epoch_end=True
    )
    whole = fit(None, every, ends)
    steps = run.get("accumulate_grad_batches", 1)
    for done in sorted(number(path) * steps for path in (tmp_path / "steps").iterdir())[1::2]:
        assert fit(tmp_path / "steps" / f"step={done // steps}.ckpt") == whole[done:], done
    if epochs := options.get("max_epochs"):
        assert fit(tmp_path / "ends" / "epoch=0.ckpt") == whole[len(whole) // epochs :]
    assert not [w for w in recwarn if "not resumable" in str(w.message)]


class Stopped(Exception):
    pass


class Breaks(Watcher):
    at: ClassVar[int] = 4

    def training_step(self, batch, index):
        if len(self.seen) == self.at:
            raise Stopped
        return super().training_step(batch, index)


def test_a_run_that_broke_in_the_middle_of_a_step_repeats_it(toy, tmp_path):
    whole, broken, resumed = Watcher(), Breaks(), Watcher()
    trainer(tmp_path, max_epochs=3).fit(whole, data(toy))
    run = trainer(tmp_path, max_epochs=3)
    with pytest.raises(Stopped):
        run.fit(broken, data(toy))
    run.save_checkpoint(tmp_path / "broken.ckpt")
    trainer(tmp_path, max_epochs=3).fit(resumed, data(toy), ckpt_path=tmp_path / "broken.ckpt")
    assert broken.seen + resumed.seen == whole.seen


# -- two processes -------------------------------------------------------------------------------


class Recorder(Watcher):
    def __init__(self, batches, folder):
        super().__init__(batches)
        self.folder = folder

    def on_train_end(self):
        torch.save(self.seen, self.folder / f"{self.batches}{self.global_rank}.pt")
        torch.save(len(self.trainer.datamodule.skipped), self.folder / f"skipped{self.global_rank}.pt")


@pytest.mark.ddp
def test_two_processes_share_the_videos(flawed, tmp_path):
    options = {"strategy": "ddp_spawn", "devices": 2, "max_epochs": 1}
    trainer(tmp_path, **options).fit(Recorder("shuffled", tmp_path), data(flawed, on_bad_clip="skip"))
    seen = [torch.load(tmp_path / f"shuffled{rank}.pt") for rank in (0, 1)]
    rows = [[row for _, _, rows, _ in mine for row in rows] for mine in seen]
    assert (len(rows[0]), len(rows[1])) == (4, 4)  # of 9: one is left out this epoch
    assert len({*rows[0], *rows[1]}) == 8
    assert [torch.load(tmp_path / f"skipped{rank}.pt") for rank in (0, 1)] == [4, 4]
    alone = data(flawed, on_bad_clip="skip")
    clips = alone._clips("train")
    sums = {r: alone.to_batch(clips[(r, 0)]).clips.double().sum().item() for r in rows[0] + rows[1]}
    for mine in seen:
        for _, _, batch_rows, total in mine:
            assert total == pytest.approx(sum(sums[r] for r in batch_rows), rel=1e-6, abs=1e-2)


def test_short_items_keep_frames_of_the_whole_clip(toy):
    spec = ClipSpec(frames=4, size=14, stride=2, stored_frames=2, interpolation="duplicate")
    real, whole = data(toy, spec=spec), data(toy, spec=ClipSpec(frames=4, size=14, stride=2))
    assert torch.equal(real.sample(2, 5), whole.sample(2, 5)[:, :, :, [1, 3]])
    assert torch.equal(real.candidate(3, 0), whole.candidate(3, 0)[:, [1, 3]])
    keys = [(3, 0), (7, 1)]
    (two,), (four,) = (list(real.by_key(keys, 9, stored=True, frames=n)) for n in (2, 4))
    (all_four,) = whole.by_key(keys, 9, stored=True)
    assert torch.equal(two.frames, all_four.frames[:, :, [1, 3]])
    assert torch.equal(four.frames, all_four.frames)


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_tests_may_show_random_clips_instead(toy, cache):
    real = data(toy, cache=cache)
    usual = [raw.frames for raw in real.tested("test")]
    raws = list(real.with_(test_passes=3).tested("test"))
    assert torch.cat([raw.frames for raw in raws]).shape[:2] == (6, 3)
    boxes = torch.cat([raw.boxes for raw in raws]).flatten(0, 1)
    assert boxes[:, :4].unique(dim=0).tolist() == [[1, 1, 14, 14]]
    assert set(boxes[:, 4].tolist()) == {0.0, 1.0}
    starts = torch.cat([raw.frames[:, :, 0] for raw in raws]).flatten(2)
    assert any(not torch.equal(one, other) for one, other, _ in starts)
    assert all(torch.equal(a, raw.frames) for a, raw in zip(usual, real.tested("test"), strict=True))


def test_a_copy_shows_otherwise_and_leaves_its_original_alone(toy):
    real = data(toy, val_share=0.25, cache="ram")
    first = next(iter(real.shuffled()))
    other = real.with_(seed=9, augment=False, flip=0.0)
    assert (real.seed, real.augment, other.seed, other.augment) == (1, True, 9, False)
    assert other.splits is real.splits  # also the validation split, which a seed decides
    shown = next(iter(other.shuffled()))
    assert not torch.equal(first.rows, shown.rows)
    assert shown.boxes[:, 0].tolist() == [[0, 0, 16, 16, 0]] * 4
    assert other._stores["train"] is real._stores["train"]
    assert torch.equal(next(iter(real.shuffled())).frames, first.frames)
