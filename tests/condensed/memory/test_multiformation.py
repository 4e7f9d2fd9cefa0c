from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.memory import MultiFormation, Pixels
from vdc.spec import MEAN, STD, ClipSpec

SPEC = ClipSpec(frames=4, size=8)


def filled(spec=SPEC, num_classes=2, ipc=3, **options):
    memory = MultiFormation(num_classes, ipc, spec, **options)
    values = torch.rand(memory.videos.shape, generator=torch.Generator().manual_seed(0))
    memory.videos.data.copy_(values)
    return memory


def slow(memory, label, item, tile, grey=None):
    """Clip of one tile, cut out by slices and enlarged by torch's own interpolation."""
    f, ft, spec = memory.factor, memory.time_factor, memory.spec
    side, frames = -(-spec.size // f), -(-spec.stored // ft)
    whole = memory.videos[label * memory.ipc + item].detach()
    if side * f > spec.size:
        padded = grey.view(3, 1, 1, 1).expand(3, whole.shape[1], side * f, side * f).clone()
        padded[:, :, : spec.size, : spec.size] = whole
        whole = padded
    while whole.shape[1] < frames * ft:
        whole = torch.cat([whole, whole[:, -1:]], 1)
    segment, y, x = tile // f**2, tile % f**2 // f, tile % f
    cut = whole[:, segment * frames :][:, :frames, y * side : (y + 1) * side, x * side : (x + 1) * side]
    size = (spec.stored, spec.size, spec.size)
    return F.interpolate(cut[None], size, mode="trilinear", align_corners=False)[0]


@pytest.mark.parametrize(("factor", "time_factor"), [(2, 1), (4, 1), (1, 2), (2, 2), (2, 4)])
@pytest.mark.parametrize("order", ["image", "crop"])
def test_every_row_is_its_tile_enlarged(factor, time_factor, order):
    memory = filled(factor=factor, time_factor=time_factor, order=order)
    per_item = factor**2 * time_factor
    assert (memory.per_item, memory.init_clips_per_class, len(memory)) == (
        per_item,
        3 * per_item,
        2 * 3 * per_item,
    )
    clips, labels = memory.render(torch.arange(len(memory)))
    row = 0
    for label in range(2):
        pairs = [
            (i, j) for i in range(3) for j in range(per_item)
        ]  # item slow: a prefix is a prefix of items
        if order == "crop":
            pairs = [(i, j) for j in range(per_item) for i in range(3)]  # IDC: tile slow
        for item, tile in pairs:
            torch.testing.assert_close(clips[row], slow(memory, label, item, tile))
            assert labels[row] == label
            row += 1


def test_rows_may_come_in_any_order_and_twice():
    memory, rows = filled(), torch.tensor([17, 3, 3, 20])
    torch.testing.assert_close(memory.render(rows)[0], memory.render(torch.arange(24))[0][rows])


def test_factor_one_is_the_identity():
    memory, plain = filled(factor=1), Pixels(2, 3, SPEC)
    plain.load_state_dict(memory.state_dict())
    rows = torch.tensor([5, 0, 2])
    assert torch.equal(memory.render(rows)[0], plain.render(rows)[0])
    clips = torch.rand(2, 3, 3, 4, 8, 8)
    memory.initialise(clips)
    assert torch.equal(memory.videos.unflatten(0, (2, 3)), clips)


@pytest.mark.parametrize(("factor", "time_factor"), [(3, 1), (2, 1), (1, 3), (3, 2)])
def test_what_does_not_divide_is_padded(factor, time_factor):
    memory = filled(ClipSpec(frames=5, size=7), 1, 2, factor=factor, time_factor=time_factor)
    grey = torch.tensor([(128 / 255 - m) / s for m, s in zip(MEAN, STD, strict=True)])
    clips, _ = memory.render(torch.arange(len(memory)))
    for row in range(len(memory)):
        torch.testing.assert_close(clips[row], slow(memory, 0, *divmod(row, memory.per_item), grey=grey))


@pytest.mark.parametrize("order", ["image", "crop"])
def test_starts_from_clips_in_the_order_of_its_rows(order):
    memory = MultiFormation(2, 3, SPEC, order=order)
    levels = torch.linspace(-1, 1, len(memory)).view(2, 12, 1, 1, 1, 1).expand(-1, -1, 3, 4, 8, 8)
    memory.initialise(levels)
    torch.testing.assert_close(memory.render(torch.arange(24))[0], levels.flatten(0, 1))
    first = memory.videos.detach()[0, 0, 0].mul(1e4).round()
    assert len(first.unique()) == 4  # four clips, each in its own quarter
    assert all(len(q.unique()) == 1 for half in first.chunk(2) for q in half.chunk(2, 1))


def test_starts_from_clips_shrunk_without_aliasing():
    memory, clip = MultiFormation(1, 1, SPEC), torch.rand(1, 4, 3, 4, 8, 8)
    memory.initialise(clip)
    wanted = F.interpolate(clip[0, 3], (4, 4), mode="bilinear", antialias=True)
    torch.testing.assert_close(memory.videos.detach()[0, :, :, 4:, 4:], wanted)


def test_starts_from_clips_that_it_cannot_divide():
    spec = ClipSpec(frames=5, size=7)
    memory = MultiFormation(1, 2, spec, factor=2, time_factor=2)
    memory.initialise(torch.ones(1, 16, 3, 5, 7, 7))
    torch.testing.assert_close(memory.videos.detach(), torch.ones(2, 3, 5, 7, 7))
    with pytest.raises(ValueError, match=r"\(1, 16, 3, 5, 7, 7\) cannot start from \(1, 2,"):
        memory.initialise(torch.ones(1, 2, 3, 5, 7, 7))


def test_gradient_stays_in_the_tile():
    memory = filled(num_classes=1)
    clips, _ = memory.render(torch.tensor([7]))  # the last of item 1
    clips.sum().backward()
    touched = memory.videos.grad.abs().sum((1, 2)) > 0  # (items, H, W)
    assert not touched[0].any()
    assert not touched[2].any()
    assert touched[1, 4:, 4:].all()
    assert touched[1].sum() == 16


def test_a_gradient_is_right():
    memory = MultiFormation(1, 2, ClipSpec(frames=3, size=3), factor=2, time_factor=2).double()
    rows = torch.tensor([1, 9, 15])

    def render(videos):
        return torch.func.functional_call(Renders(memory), {"memory.videos": videos}, (rows,))

    assert torch.autograd.gradcheck(
        render, torch.rand(2, 3, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    )


class Renders(torch.nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self, rows):
        return self.memory.clips(rows)


@pytest.mark.parametrize("options", [{}, {"factor": 3}, {"time_factor": 2}, {"order": "crop"}])
def test_a_stored_set_is_uint8_and_renders_what_it_stores(options):
    memory = filled(**options)
    memory.clamp()
    stored = memory.state()
    assert stored["videos"].dtype == torch.uint8
    assert stored["videos"].shape == (6, 4, 8, 8, 3)
    assert memory.nbytes == stored["videos"].numel()
    manifest = {
        "memory": {"class": "MultiFormation", "options": memory.options()},
        "classes": ["a", "b"],
        "ipc": 3,
    }
    again = CondensedSet(Path(), manifest | {"spec": asdict(SPEC)}, stored, Labels(torch.zeros(0))).memory()
    assert not list(again.parameters())
    assert {b.dtype for n, b in again.named_buffers() if n == "frames"} == {torch.uint8}
    assert not any(t.is_meta for t in again.buffers())
    learning = MultiFormation(2, 3, SPEC, **again.options())
    learning.videos.data.copy_(Pixels.restore(stored, 2, 3, SPEC).clips(torch.arange(6)))
    rows = torch.randperm(len(memory))[:9]
    torch.testing.assert_close(again.render(rows)[0], learning.render(rows)[0], atol=1e-6, rtol=0)
    assert torch.equal(again.state()["videos"], stored["videos"])


def test_a_prefix_of_the_stored_tensors_is_a_prefix_of_the_rows():
    whole = filled()
    part = MultiFormation.restore(
        {"videos": whole.state()["videos"][[0, 1, 3, 4]]}, 2, 2, SPEC, **whole.options()
    )
    again = MultiFormation.restore(whole.state(), 2, 3, SPEC, **whole.options())
    assert torch.equal(part.render(torch.arange(16))[0], again.render(whole.prefix(2))[0])


def test_learnt_labels_belong_to_tiles():
    memory = filled()
    memory.learn_labels(torch.arange(48.0).view(24, 2))
    assert memory.render(torch.tensor([5]))[1].tolist() == [[10, 11]]
    with pytest.raises(ValueError, match="hard labels only"):
        filled(order="crop").learn_labels(torch.zeros(24, 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": 0}, "memory.factor 0"),
        ({"factor": 5}, "memory.factor 5 leaves tiles without pixels of 8"),  # sides of 2: the fifth is empty
        ({"time_factor": 9}, "memory.time_factor 9"),
        ({"order": "tile"}, "must be image or crop, got 'tile'"),
    ],
)
def test_refuses_layouts_it_cannot_fill(options, message):
    with pytest.raises(ValueError, match=message):
        MultiFormation(1, 1, SPEC, **options)
