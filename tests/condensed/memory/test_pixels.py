from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.memory import Memory, Pixels
from vdc.spec import MEAN, STD, ClipSpec

SPEC = ClipSpec(frames=2, size=4)


def grey(levels):
    """Normalised clips (N, 3, T, H, W) of uint8 frames (N, T, H, W, 3), one value at a time."""
    clips = torch.empty(levels.shape[0], 3, *levels.shape[1:4])
    for c in range(3):
        clips[:, c] = (levels[..., c].float() / 255 - MEAN[c]) / STD[c]
    return clips


def frames(rows=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (rows, 2, 4, 4, 3), generator=generator, dtype=torch.uint8)


def filled(num_classes=3, ipc=2):
    memory = Pixels(num_classes, ipc, SPEC)
    memory.initialise(grey(frames(num_classes * ipc)).unflatten(0, (num_classes, ipc)))
    return memory


def test_is_class_major_and_prefix_is_the_first_items_of_every_class():
    memory = filled()
    assert (len(memory), memory.init_clips_per_class) == (6, 2)
    assert memory.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert memory.prefix(1).tolist() == [0, 2, 4]
    clips, labels = memory.render(torch.tensor([4, 1]))
    torch.testing.assert_close(clips, grey(frames())[[4, 1]])
    assert labels.tolist() == [2, 0]


def test_gradient_reaches_asked_rows_alone():
    memory = filled()
    rows = torch.tensor([1, 2, 3])  # second item of class 0, both of class 1
    clips, _ = memory.render(rows)
    (clips * torch.arange(1.0, 4.0).view(3, 1, 1, 1, 1)).sum().backward()
    per_row = memory.videos.grad.flatten(1)
    assert (per_row == torch.tensor([0.0, 1.0, 2.0, 3.0, 0.0, 0.0])[:, None]).all()


def test_learnt_labels_are_rendered():
    memory = filled()
    memory.learn_labels(torch.arange(18.0).view(6, 3))
    _, labels = memory.render(torch.arange(1, 4))
    labels.sum().backward()
    assert labels[2].tolist() == [9, 10, 11]
    assert memory.logits.grad[:, 0].tolist() == [0, 1, 1, 1, 0, 0]


def test_clamp_brings_pixels_between_black_and_white():
    memory = Pixels(1, 1, SPEC)
    memory.videos.data[:] = 9
    memory.videos.data[..., 0] = -9
    memory.videos.data[..., 1] = 0.5
    memory.clamp()
    for c in range(3):
        row = memory.videos.data[0, c, 0, 0]
        want = torch.tensor([-MEAN[c] / STD[c], 0.5, (1 - MEAN[c]) / STD[c], (1 - MEAN[c]) / STD[c]])
        torch.testing.assert_close(row, want)


def test_state_rounds_to_the_nearest_level():
    memory = Pixels(1, 1, SPEC)
    levels = torch.tensor([9.4, 9.6, 300.0, -3.0])  # of 255
    for c in range(3):
        memory.videos.data[0, c] = (levels / 255 - MEAN[c]) / STD[c]
    state = memory.state()["videos"]
    assert (state.dtype, state.shape) == (torch.uint8, (1, 2, 4, 4, 3))
    assert state[0, 0, 0, :, 1].tolist() == [9, 10, 255, 0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 100))
def test_restore_renders_what_is_stored_and_stores_it_again(num_classes, ipc, seed):
    stored = frames(num_classes * ipc, seed)
    memory = Pixels.restore({"videos": stored}, num_classes, ipc, SPEC)
    clips, labels = memory.render(torch.arange(len(memory)))
    torch.testing.assert_close(clips, grey(stored))
    assert torch.equal(memory.state()["videos"], stored)
    learning = Pixels(num_classes, ipc, SPEC)
    learning.initialise(clips.unflatten(0, (num_classes, ipc)))
    assert torch.equal(learning.state()["videos"], stored)
    assert labels.tolist() == [k for k in range(num_classes) for _ in range(ipc)]


def test_a_restored_memory_is_uint8_and_learns_nothing():
    memory = Pixels.restore({"videos": frames()}, 3, 2, SPEC)
    assert list(memory.parameters()) == []
    assert memory.frames.dtype == torch.uint8
    assert not any(t.is_meta for t in memory.buffers())
    assert not memory.render(torch.tensor([0]))[0].requires_grad


def test_nbytes_is_the_size_of_the_state():
    for memory in (filled(), Pixels.restore({"videos": frames()}, 3, 2, SPEC)):
        assert memory.nbytes == Memory.nbytes.fget(memory) == 6 * 2 * 4 * 4 * 3


def test_many_items_are_stored_in_order():
    memory = Pixels(1, 130, ClipSpec(frames=1, size=1))
    levels = torch.arange(130, dtype=torch.uint8).view(130, 1, 1, 1, 1).expand(-1, -1, -1, -1, 3)
    memory.initialise(grey(levels)[None])
    assert torch.equal(memory.state()["videos"], levels)


def test_a_checkpoint_holds_the_pixels_only():
    assert list(filled().state_dict()) == ["videos"]


@pytest.mark.parametrize(
    ("stored", "found"),
    [(frames(5), r"\(5, 2, 4, 4, 3\) torch.uint8"), (frames().float(), "torch.float32")],
)
def test_restore_refuses_another_shape_or_type(stored, found):
    with pytest.raises(ValueError, match=rf"{found}, expected \(6, 2, 4, 4, 3\) torch.uint8"):
        Pixels.restore({"videos": stored}, 3, 2, SPEC)


def test_initialise_refuses_another_shape():
    with pytest.raises(ValueError, match=r"\(3, 2, 3, 2, 4, 4\) cannot start from \(2, 3, 3, 2, 4, 4\)"):
        filled().initialise(torch.zeros(2, 3, 3, 2, 4, 4))


def stored_set(name, options=None):
    manifest = {"memory": {"class": name, "options": options or {}}, "classes": ["a", "b", "c"], "ipc": 2}
    return CondensedSet(
        Path(), manifest | {"spec": asdict(SPEC)}, {"videos": frames()}, Labels(torch.zeros(0))
    )


def test_a_set_is_restored_by_the_name_of_its_memory():
    memory = stored_set("Pixels").memory()
    assert (type(memory), memory.num_classes, memory.ipc, memory.spec) == (Pixels, 3, 2, SPEC)
    torch.testing.assert_close(memory.render(torch.tensor([5]))[0], grey(frames()[5:]))


@pytest.mark.parametrize("name", ["Memory", "Tensor", "os.system", "restore"])
def test_names_that_are_no_memory_are_refused(name):
    with pytest.raises(ValueError, match=r"this version knows .*Pixels"):
        stored_set(name).memory()
