"""A set of stills and motion clips in everything that reads sets: evaluation, labels, prefix, videos."""

import pytest
import torch

from tests.small import CLASSES, SPEC, K
from vdc.condensed.dataset import CondensedClips
from vdc.condensed.describe import export, show
from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.memory import StaticDynamic
from vdc.evaluate.condensed_data import CondensedData
from vdc.evaluate.evaluate import evaluate
from vdc.evaluate.relabel import relabel
from vdc.nets.teacher import load_teacher
from vdc.ops.rng import derive
from vdc.train.protocol import Protocol

PLAIN = Protocol(epochs=1, labels="hard", augment="none", flip=0.0, checks=1)
ROWS = torch.arange(2 * K)


@pytest.fixture
def motions(tmp_path):
    memory = StaticDynamic(K, 2, SPEC, statics=2, dynamics=3, budget=0)
    clips = torch.randn(K, 4, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    memory.initialise(clips.clamp(-1, 1))
    labels = Labels(memory.labels)
    path = tmp_path / "motions"
    save(path, memory, labels, classes=CLASSES, source={}, method="DM", config={}, seed=0)
    return str(path)


def rendered(path, seed, rows=ROWS, ipc=None):
    memory = load(path, ipc).memory()
    memory.redraw(seed)
    return memory.render(rows)[0]


def test_every_epoch_draws_other_pairs_from_seed_and_epoch(motions):
    data, shown = CondensedData(motions, PLAIN, seed=7), []
    for epoch in (0, 1, 0):
        data.begin(epoch)
        shown.append(data.compose(ROWS).clips)
    for clips, epoch in zip(shown, (0, 1, 0), strict=True):
        torch.testing.assert_close(clips, rendered(motions, derive(7, "memory", epoch)))
    assert not torch.equal(shown[0], shown[1])


def test_a_student_learns_from_it_and_its_bytes_are_exact(motions, videos):
    (result,) = evaluate(motions, videos, ["tiny"], [0], PLAIN, progress=False)
    stored = load(motions)
    assert result["bytes"]["clips"] == sum(t.nbytes for t in stored.tensors.values())
    assert result["bytes"]["clips"] == 2 * K * (2 * 16 * 16 * 3 + 3 * 4 * 16 * 16 + 3 * 8) + 4 * 327
    (small,) = evaluate(motions, videos, ["tiny"], [0], PLAIN, ipc=1, progress=False)
    assert small["bytes"]["clips"] == K * (2 * 16 * 16 * 3 + 3 * 4 * 16 * 16 + 3 * 8) + 4 * 327


def test_a_prefix_holds_the_first_items(motions):
    first, whole = load(motions, 1), load(motions)
    for name in ("stills", "motions", "motion_low", "motion_step"):
        assert torch.equal(first.tensors[name], whole.tensors[name][::2])
    assert rendered(motions, 0, torch.arange(K), ipc=1).shape == (K, 3, 4, 16, 16)


def test_soft_labels_are_the_mean_over_pairs(motions, teacher):
    relabel(motions, teacher, "soft", progress=False)
    teach, memory = load_teacher(teacher, CLASSES, SPEC), load(motions).memory()
    for row in range(2 * K):
        clips = memory.render(torch.tensor([row] * 6))[0]
        assert len({round(float(clip.sum()), 3) for clip in clips}) == 6
        torch.testing.assert_close(
            load(motions).labels.soft[row].float(), teach(clips).mean(0), atol=0.02, rtol=0.01
        )


def test_stored_views_are_seen_again_as_the_pairs_they_were_labelled_with(motions, teacher):
    relabel(motions, teacher, "views", views=3, crop_scale=(0.5, 1.0), seed=5, progress=False)
    data, teach = CondensedData(motions, Protocol(epochs=3, labels="views", checks=1)), load_teacher(teacher)
    for epoch in range(3):
        data.begin(epoch)
        batch = data.compose(ROWS)
        torch.testing.assert_close(teach(batch.clips), batch.targets, atol=0.02, rtol=0.01)


def test_videos_of_all_pairs_are_exported(motions, tmp_path):
    export(motions, str(tmp_path / "videos"), ipc=1)
    lines = (tmp_path / "videos/list.txt").read_text().splitlines()
    assert len(lines) == K * 6
    assert lines[0] == "a/000-0.mp4 0"
    assert lines[-1] == "c/000-5.mp4 2"
    assert len({(tmp_path / "videos" / line.split()[0]).read_bytes() for line in lines}) == K * 6


def test_it_is_shown_and_loaded(motions, capsys):
    show(motions)
    assert "StaticDynamic" in capsys.readouterr().out
    clips = CondensedClips(motions)
    assert len(clips) == 2 * K
    torch.testing.assert_close(clips[3][0], rendered(motions, 0)[3])
    clips.memory.redraw(4)
    torch.testing.assert_close(clips[3][0], rendered(motions, 4)[3])
