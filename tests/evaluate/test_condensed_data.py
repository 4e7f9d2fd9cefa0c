"""What students are shown and taught, against the stored set and one clip at a time."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.small import SPEC, K, make_set
from vdc.condensed.format import load, replace_labels
from vdc.condensed.labels import Labels, Views
from vdc.condensed.views import draw_view, stored_view
from vdc.evaluate.condensed_data import CondensedData, ResidentLoader, epoch_batches
from vdc.evaluate.relabel import relabel
from vdc.nets import load_teacher
from vdc.ops.augment import resized_crop
from vdc.ops.rng import generator
from vdc.spec import ClipSpec
from vdc.train.protocol import Protocol

PLAIN = Protocol(augment="none")
ROOT = Path(__file__).parents[2]


def stored_clips(path):
    memory = load(path).memory()
    return memory.render(torch.arange(len(memory)))[0]


def composed(data, epoch, rows=None):
    data.begin(epoch)
    return data.compose(torch.arange(len(data.hard)) if rows is None else rows)


# -- order -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "batch"), [(7, 3), (6, 6), (5, 10), (9, 1)])
def test_an_epoch_has_every_row_once_in_an_order_of_its_own(rows, batch):
    first, again = epoch_batches(rows, batch, 1, 0), epoch_batches(rows, batch, 1, 0)
    assert torch.cat(first).sort().values.equal(torch.arange(rows))
    assert len(first) == -(-rows // batch)
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    others = torch.stack([torch.cat(epoch_batches(rows, batch, 1, e)) for e in range(1, 6)])
    assert not others.eq(torch.cat(first)).all()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_each_batch(world):
    whole = epoch_batches(8, 5, 1, 0)
    ranks = [epoch_batches(8, 5, 1, 0, rank, world) for rank in range(world)]
    for step, batch in enumerate(whole):
        parts = [ranks[rank][step] for rank in range(world)]
        assert len({len(part) for part in parts}) == 1
        assert set(torch.cat(parts).tolist()) == set(batch.tolist())


def test_loader_follows_the_trainers_epoch_and_the_batch_follows_ipc(condensed):
    data = CondensedData(condensed, Protocol(augment="none", base_batch=2))  # 2 items of each of 3 classes
    assert data.batch_size == 4
    assert CondensedData(condensed, Protocol(base_batch=2), ipc=1).batch_size == 2
    assert CondensedData(condensed, Protocol(batch_size=5)).batch_size == 5
    data.trainer = SimpleNamespace(current_epoch=3, global_rank=0, world_size=1)
    loader = ResidentLoader(data)
    assert len(loader) == 2
    assert torch.cat(list(loader)).equal(torch.cat(epoch_batches(6, 4, 0, 3)))


# -- clips -----------------------------------------------------------------------------------------------


def test_without_augmentation_the_stored_clips_are_seen(condensed):
    batch = composed(CondensedData(condensed, PLAIN), 0)
    assert batch.clips.equal(stored_clips(condensed))
    assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.targets is None
    assert batch.mix is None


def test_every_clip_gets_its_own_crop_and_a_new_one_each_epoch(condensed):
    data, clips = CondensedData(condensed, Protocol(), seed=4), stored_clips(condensed)
    view = draw_view(6, SPEC, 4, 2, (0.08, 1.0), 0.5)
    assert len(view.boxes.unique(dim=0)) == 6
    alone = torch.cat([resized_crop(clips[i : i + 1], view.boxes[i : i + 1], 16) for i in range(6)])
    torch.testing.assert_close(composed(data, 2).clips, alone)
    assert not composed(data, 3).clips.allclose(alone)
    rows = torch.tensor([4, 1])  # a clip's crop does not depend on who else is in the batch
    torch.testing.assert_close(composed(data, 2, rows).clips, alone[rows])


def test_windows_move_over_the_stored_frames(tmp_path):
    spec = ClipSpec(frames=2, size=16, stride=1, stored_frames=6, window="slide", window_frames=2)
    path = make_set(tmp_path / "long", spec=spec)
    data, clips = CondensedData(path, PLAIN), stored_clips(path)
    found = set()
    for epoch in range(30):
        seen = composed(data, epoch).clips
        for i in range(6):
            starts = [s for s in range(5) if seen[i].equal(clips[i, :, s : s + 2])]
            assert len(starts) == 1
            found.add((i, starts[0]))
    assert {start for _, start in found} == {0, 1, 2, 3, 4}


def test_dsa_changes_every_clip_in_its_own_way(condensed):
    data = CondensedData(condensed, Protocol(augment="dsa"))
    first = composed(data, 0).clips
    assert first.equal(composed(data, 0).clips)
    assert not first.allclose(composed(data, 1).clips)
    shift = (first - stored_clips(condensed)).mean((1, 2, 3, 4))
    assert len(shift.round(decimals=3).unique()) == 6


# -- targets ---------------------------------------------------------------------------------------------


def test_soft_targets_are_the_stored_rows(tmp_path):
    soft = torch.randn(6, K).half()
    path = make_set(tmp_path / "soft", soft=soft)
    data = CondensedData(path, PLAIN)
    assert (data.protocol.labels, data.protocol.loss) == ("soft", "mse_gt")
    rows = torch.tensor([5, 0, 2])
    assert composed(data, 0, rows).targets.equal(soft[rows].float())


def test_live_targets_are_the_teachers_answer_to_the_very_batch(condensed, teacher):
    for cutmix in (0.0, 1.0):
        data = CondensedData(condensed, Protocol(labels="live", cutmix=cutmix), teacher=teacher)
        batch = composed(data, 1)
        torch.testing.assert_close(batch.targets, load_teacher(teacher)(batch.clips))
        assert (batch.mix is not None) == bool(cutmix)


def test_cutmix_mixes_stored_logits_by_area(tmp_path):
    soft = torch.randn(6, K).half()
    path = make_set(tmp_path / "soft", soft=soft)
    batch = composed(CondensedData(path, Protocol(augment="none", cutmix=1.0), seed=2), 0)
    plain = stored_clips(path)
    pasted, kept = batch.mix
    changed = (batch.clips != plain).any(1).flatten(1).float().mean(1)
    assert 0 < float(kept) < 1
    assert float(changed.max()) == pytest.approx(1 - float(kept), abs=0.02)
    order = torch.randperm(6, generator=_after_coin(2, 0))
    assert pasted.equal(batch.labels[order])
    torch.testing.assert_close(batch.targets, kept * soft.float() + (1 - kept) * soft[order].float())


def _after_coin(seed, epoch):
    rng = generator(seed, "mix", epoch)
    torch.rand((), generator=rng)
    return rng


def test_views_are_seen_exactly_as_they_were_labelled(condensed, teacher):
    relabel(condensed, teacher, "views", views=4, seed=11, progress=False)
    data, net = CondensedData(condensed, Protocol(), seed=5), load_teacher(teacher)
    assert data.protocol.labels == "views"
    seen = []
    for epoch in range(8):
        batch = composed(data, epoch)
        torch.testing.assert_close(batch.targets, net(batch.clips), rtol=2e-3, atol=2e-3)  # stored as fp16
        seen.append(next(v for v in range(4) if _is_view(condensed, v, batch.clips)))
    assert sorted(seen[:4]) == sorted(seen[4:]) == [0, 1, 2, 3]
    targets = torch.stack([composed(data, epoch).targets for epoch in range(4)])
    assert (targets.std(0) > 0.1).any()  # else any view would have passed


def _is_view(path, view, clips):
    views = load(path).labels.views
    boxes = stored_view(views.recipe, SPEC, views.seed, view).boxes
    return resized_crop(stored_clips(path), boxes, 16).allclose(clips, atol=1e-5)


def test_a_prefix_of_the_set_keeps_its_views(condensed, teacher):
    relabel(condensed, teacher, "views", views=2, top_k=2, progress=False)
    whole, part = CondensedData(condensed, Protocol()), CondensedData(condensed, Protocol(), ipc=1)
    for epoch in range(2):
        full, first = composed(whole, epoch), composed(part, epoch)
        rows = torch.tensor([0, 2, 4])
        torch.testing.assert_close(first.clips, full.clips[rows])
        assert first.targets.equal(full.targets[rows])


# -- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["soft", "views"])
def test_missing_labels_name_the_command_that_makes_them(condensed, kind):
    with pytest.raises(ValueError, match=f"stores no {kind} labels.*vdc relabel"):
        CondensedData(condensed, Protocol(labels=kind))


def test_live_labels_need_a_teacher(condensed):
    with pytest.raises(ValueError, match="--teacher"):
        CondensedData(condensed, Protocol(labels="live"))


def test_bytes_count_what_is_used(condensed, teacher):
    size = 6 * 4 * 16 * 16 * 3
    assert CondensedData(condensed, Protocol()).nbytes == {"clips": size, "labels": 6, "teacher": 0}
    relabel(condensed, teacher, "views", views=5, top_k=2, progress=False)
    assert CondensedData(condensed, Protocol(labels="hard")).nbytes["labels"] == 6
    views = 6 * 5 * 2 * 3 + 6 * 4  # fp16 and uint8 per logit, int32 per row
    assert CondensedData(condensed, Protocol()).nbytes["labels"] == 6 + views
    live = CondensedData(condensed, Protocol(labels="live"), teacher=teacher)
    assert live.nbytes["teacher"] == load_teacher(teacher).nbytes > 0


def test_views_on_device_match_a_slow_gather(condensed):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 2, K, generator=rng)
    recipe = {"rows": 6, "crop_scale": None, "flip": 0.5}
    path = replace_labels(
        condensed, Labels(load(condensed).labels.hard, None, Views.top(logits, K, 1, recipe))
    )
    data = CondensedData(str(path), Protocol())
    order = [composed(data, epoch).targets for epoch in range(2)]
    wanted = [logits[:, view].half().float() for view in range(2)]
    assert (order[0].equal(wanted[0]) and order[1].equal(wanted[1])) or (
        order[0].equal(wanted[1]) and order[1].equal(wanted[0])
    )
