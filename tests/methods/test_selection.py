"""Selection: each choice against a loop over one clip at a time, and the same on two processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.methods.tiny import CLASSES, SPEC, K, fit, make_teacher, toy
from tests.network import register
from vdc.condensed.format import load
from vdc.data.reader import open_video
from vdc.methods import RDED, Herding, KCenter, Random
from vdc.methods.selection import Candidates, some_per_class
from vdc.nets import load_teacher
from vdc.ops.pixels import to_frames
from vdc.ops.select import herding, k_center
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

ONE_PASS = {"max_epochs": 1}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vdc.nets.zoo.OWN", dict(__import__("vdc.nets.zoo", fromlist=["OWN"]).OWN))
        register()
        return make_teacher(tmp_path_factory.mktemp("teacher"))


def stored(model):
    """(K, ipc, T, H, W, C) uint8."""
    return to_frames(model.memory.videos.detach()).unflatten(0, (model.num_classes, model.ipc))


def rows_of(data, label):
    return (data.labels == label).nonzero().flatten().tolist()


# -- the rules -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 6), st.integers(0, 99))
def test_some_per_class_draws_without_replacement(labels, count, seed):
    labels = torch.tensor(labels)
    rows = some_per_class(labels, count, seed)
    assert rows.tolist() == sorted(set(rows.tolist()))
    for label in range(4):
        assert (labels[rows] == label).sum() == min(count, int((labels == label).sum()))


def test_some_per_class_depends_on_the_seed():
    labels = torch.arange(2).repeat_interleave(50)
    draws = [some_per_class(labels, 5, seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_rded_takes_the_best_of_each_video_then_the_best(teacher):
    rng = torch.Generator().manual_seed(0)
    rows, draws = torch.arange(6).repeat_interleave(4), torch.arange(4).repeat(6)
    scores = torch.rand(24, generator=rng)
    candidates = Candidates(rows, draws, torch.zeros(24, dtype=torch.long), scores, torch.zeros(24, 0))
    best = [min((float(scores[i]), i) for i in range(24) if rows[i] == row) for row in range(6)]
    expected = [i for _, i in sorted(best)[:3]]
    assert RDED(K, SPEC, teacher).pick(candidates, 3).tolist() == expected


def test_rded_needs_enough_videos_to_look_at(teacher):
    with pytest.raises(ValueError, match=r"mipc 2 videos per class cannot fill 3 clips"):
        RDED(K, SPEC, teacher, ipc=3, mipc=2)


# -- the pass ------------------------------------------------------------------------------------------------


def test_random_stores_one_clip_each_of_different_videos(toy_root):
    data = toy(toy_root)
    model = fit(Random(K, SPEC, ipc=3, seed=1), data, **ONE_PASS)
    for label, clips in enumerate(stored(model)):
        possible = [to_frames(data.candidate(row, 0)[None])[0] for row in rows_of(data, label)]
        found = [[i for i, clip in enumerate(possible) if torch.equal(clip, mine)] for mine in clips]
        assert all(len(which) == 1 for which in found)
        assert len({which[0] for which in found}) == 3
    other = fit(Random(K, SPEC, ipc=3, seed=2), data, **ONE_PASS)
    assert not torch.equal(stored(model), stored(other))


def test_random_may_start_at_the_first_frame(toy_root):
    data = toy(toy_root, first_clip=True, augment=False, load_size=(16, 16))
    clips = stored(fit(Random(K, SPEC, ipc=5), data, **ONE_PASS))
    for label in range(K):
        first = [
            open_video(data.splits["train"][row].path).get([0, 2, 4, 6], (16, 16))
            for row in rows_of(data, label)
        ]
        assert {clip.numpy().tobytes() for clip in clips[label]} == {clip.numpy().tobytes() for clip in first}


def one_by_one(data, folder, spec, draws):
    """Of every candidate clip: (label, row, draw), cross-entropy, features, frames."""
    net, found = load_teacher(folder), []
    for row, label in enumerate(data.labels.tolist()):
        for draw in range(draws):
            clip = data.candidate(row, draw)[None]
            seen = apply_view(clip, spec, None)
            with torch.no_grad():
                score = F.cross_entropy(net(seen), torch.tensor([label])).item()
                found.append((label, row, score, net.features(seen)[0], to_frames(clip)[0]))
    return found


def test_rded_equals_a_loop(toy_root, teacher):
    data = toy(toy_root, candidates=3, batch_size=7)
    clips = stored(fit(RDED(K, SPEC, teacher, ipc=2, mipc=9), data, **ONE_PASS))
    found = one_by_one(data, teacher, SPEC, 3)
    for label in range(K):
        best = {}
        for theirs, row, score, _, frames in found:
            if theirs == label and score < best.get(row, (9e9,))[0]:
                best[row] = score, frames
        expected = [frames for _, frames in sorted(best.values(), key=lambda pair: pair[0])[:2]]
        assert torch.equal(clips[label], torch.stack(expected))


def test_rded_looks_at_some_videos_only(toy_root, teacher):
    data, model = toy(toy_root), RDED(K, SPEC, teacher, mipc=2, seed=4)
    seen = []
    model.pick = lambda candidates, k: seen.append(candidates) or torch.arange(k)
    fit(model, data, **ONE_PASS)
    assert (
        torch.cat([candidates.rows for candidates in seen]).sort().values.tolist()
        == model.wanted(data.labels).tolist()
    )
    assert [len(candidates.rows) for candidates in seen] == [2] * K


@pytest.mark.parametrize(("method", "rule"), [(Herding, herding), (KCenter, k_center)])
def test_feature_methods_equal_a_loop(toy_root, teacher, method, rule):
    data = toy(toy_root)
    clips = stored(fit(method(K, SPEC, teacher, ipc=3), data, **ONE_PASS))
    found = one_by_one(data, teacher, SPEC, 1)
    for label in range(K):
        features = torch.stack([entry[3] for entry in found if entry[0] == label])
        frames = [entry[4] for entry in found if entry[0] == label]
        assert torch.equal(clips[label], torch.stack([frames[i] for i in rule(features, 3).tolist()]))


def test_windows_do_not_depend_on_the_batches(toy_root, teacher):
    spec = ClipSpec(frames=4, size=16, stride=2, stored_frames=8, window="slide")
    chosen = [
        stored(
            fit(RDED(K, spec, teacher, ipc=2), toy(toy_root, spec, candidates=2, batch_size=size), **ONE_PASS)
        )
        for size in (2, 16)
    ]
    assert chosen[0].shape[2] == 8
    assert torch.equal(*chosen)


def test_too_few_videos_are_named(toy_root):
    with pytest.raises(ValueError, match=r"class 'down' has 5 training videos; .*ipc 6 needs 6 per class"):
        fit(Random(K, SPEC, ipc=6), toy(toy_root), **ONE_PASS)


def test_a_missing_teacher_is_named(toy_root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no teacher in .*nowhere.*vdc pretrain"):
        fit(Herding(K, SPEC, str(tmp_path / "nowhere")), toy(toy_root), **ONE_PASS)


class Never(Random):
    def training_step(self, batch, batch_idx):
        raise AssertionError("the pass is over")


def test_a_finished_pass_is_not_repeated(toy_root, tmp_path):
    data = toy(toy_root)
    model = fit(Random(K, SPEC, ipc=2), data, **ONE_PASS)
    model.trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = Never(K, SPEC, ipc=2, out=str(tmp_path / "set"))
    fit(again, data, str(tmp_path / "last.ckpt"), **ONE_PASS)
    assert torch.equal(load(tmp_path / "set").tensors["videos"], stored(model).flatten(0, 1))


# -- two processes -------------------------------------------------------------------------------------------


class TinyRDED(RDED):
    def prepare(self):
        register()  # in the child process too
        super().prepare()


@pytest.mark.ddp
@pytest.mark.parametrize("method", ["Random", "RDED"])
def test_two_processes_choose_alike(toy_root, teacher, tmp_path, method):
    def make(out):
        options = {"ipc": 3, "out": str(tmp_path / out)}
        return TinyRDED(3, SPEC, teacher3, **options) if method == "RDED" else Random(3, SPEC, **options)

    teacher3 = make_teacher(tmp_path / "teacher", classes=CLASSES[:3])
    data = {"candidates": 2, "classes": CLASSES[:3], "batch_size": 8}  # 15 and 9 videos: one is seen twice
    fit(make("one"), toy(toy_root, **data), **ONE_PASS)
    fit(make("two"), toy(toy_root, **data), **ONE_PASS, devices=2, strategy="ddp_spawn")
    one, two = load(tmp_path / "one"), load(tmp_path / "two")
    assert torch.equal(one.tensors["videos"], two.tensors["videos"])
    assert one.labels.hard.tolist() == [0] * 3 + [1] * 3 + [2] * 3
