import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from torchvision.transforms.v2 import CenterCrop, RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from vdc.ops import augment
from vdc.ops.augment import FAMILIES, centre_boxes, diff_augment, full_boxes, random_boxes, resized_crop
from vdc.ops.rng import generator

sides = st.integers(1, 64)


def clips(n=2, t=2, h=6, w=6, c=3, dtype=torch.float32, seed=0):
    return torch.randn(n, c, t, h, w, generator=generator(seed, "clips"), dtype=dtype)


def torchvision_crop(clip, box, size):
    top, left, height, width, flip = box.tolist()
    out = tv.resized_crop(clip, int(top), int(left), int(height), int(width), [size, size], antialias=True)
    return tv.horizontal_flip(out) if flip else out


def drift(a, b):
    """Kolmogorov-Smirnov distance of two samples: largest difference of their distribution functions."""
    at = torch.cat([a, b])
    share = [torch.searchsorted(x.sort().values, at, right=True) / len(x) for x in (a, b)]
    return float((share[0] - share[1]).abs().max())


# -- boxes ---------------------------------------------------------------------------------------------------


@given(sides, sides, st.integers(0, 2**32), st.sampled_from([(0.08, 1.0), (0.9, 1.0), (1e-4, 1e-3)]))
def test_random_boxes_are_whole_pixels_inside_the_source(height, width, seed, scale):
    boxes = random_boxes(20, height, width, generator(seed), scale)
    assert boxes.dtype == torch.float32
    assert boxes.shape == (20, 5)
    assert torch.equal(boxes, boxes.round())
    top, left, tall, wide, flip = boxes.unbind(1)
    for start, length, side in ((top, tall, height), (left, wide, width)):
        assert start.min() >= 0
        assert length.min() >= 1
        assert (start + length).max() <= side
    assert set(flip.tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(("height", "width"), [(128, 128), (60, 100), (100, 40)])
def test_random_boxes_follow_torchvisions_law(height, width):
    n = 3000
    law = RandomResizedCrop(112)
    picture = torch.empty(1, height, width)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [law.make_params([picture]) for _ in range(n)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn]).double().unbind(1)
    ours = random_boxes(n, height, width, generator(0)).double().unbind(1)[:4]
    for quantity in (
        lambda t, l, h, w: h * w,  # noqa: E741
        lambda t, l, h, w: (w / h).log(),  # noqa: E741
        lambda t, l, h, w: t / (height - h + 1),  # noqa: E741
        lambda t, l, h, w: l / (width - w + 1),  # noqa: E741
    ):
        assert drift(quantity(*ours), quantity(*theirs)) < 1.95 * math.sqrt(2 / n)  # one in a thousand


@pytest.mark.parametrize(("height", "width"), [(10, 200), (200, 10), (50, 50)])
def test_random_boxes_fall_back_to_torchvisions_centre(height, width):
    scale = (1.5, 2.0)  # never fits
    theirs = RandomResizedCrop(8, scale=scale).make_params([torch.empty(1, height, width)])
    box = random_boxes(1, height, width, generator(0), scale)[0]
    assert box[:4].tolist() == [theirs[k] for k in ("top", "left", "height", "width")]


def test_flips_are_as_frequent_as_asked():
    for flip in (0.0, 0.25, 1.0):
        share = random_boxes(4000, 9, 9, generator(1), flip=flip)[:, 4].mean()
        assert share == pytest.approx(flip, abs=0.03 if 0 < flip < 1 else 0)


def test_boxes_depend_on_the_generator_alone():
    assert torch.equal(random_boxes(5, 30, 40, generator(1)), random_boxes(5, 30, 40, generator(1)))
    assert not torch.equal(random_boxes(5, 30, 40, generator(1)), random_boxes(5, 30, 40, generator(2)))
    assert random_boxes(0, 30, 40, generator(1)).shape == (0, 5)


@pytest.mark.parametrize(
    ("height", "width", "share"), [(128, 128, 7 / 8), (9, 14, 1.0), (15, 12, 0.5), (128, 170, 7 / 8)]
)
def test_fixed_boxes_equal_torchvisions_centre_crop(height, width, share):
    source = torch.rand(1, 1, 1, height, width)
    assert full_boxes(2, height, width).tolist() == [[0, 0, height, width, 0]] * 2
    boxes = centre_boxes(1, height, width, share)
    side = int(boxes[0, 2])
    assert side == round(share * min(height, width))
    assert torch.equal(resized_crop(source, boxes, side), CenterCrop(side)(source))


# -- resized crop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "size"), [(128, 128, 112), (64, 85, 28), (20, 33, 56), (7, 90, 31), (56, 56, 56)]
)
def test_resized_crop_equals_torchvision(height, width, size):
    source = torch.randint(256, (9, 3, 2, height, width), generator=generator(0), dtype=torch.uint8).float()
    corners = torch.tensor([[0, 0, 1, 1, 0], [height - 1, width - 1, 1, 1, 1], [0, width - 2, height, 2, 1]])
    boxes = torch.cat([random_boxes(6, height, width, generator(1)), corners.float()])
    assert 0 < boxes[:, 4].sum() < 9
    want = torch.stack([torchvision_crop(c, b, size) for c, b in zip(source, boxes, strict=True)])
    torch.testing.assert_close(resized_crop(source, boxes, size) / 255, want / 255, rtol=0, atol=1e-5)


@given(sides, sides, sides, st.integers(0, 2**32))
def test_resized_crop_equals_torchvision_at_any_shape(height, width, size, seed):
    source = torch.rand(1, 1, 1, height, width, generator=generator(seed))
    box = random_boxes(1, height, width, generator(seed, "box"))
    want = torchvision_crop(source[0], box[0], size)
    torch.testing.assert_close(resized_crop(source, box, size)[0], want, rtol=0, atol=1e-5)


def test_the_whole_source_at_its_own_size_is_unchanged():
    source = clips(h=11, w=11)
    torch.testing.assert_close(resized_crop(source, full_boxes(2, 11, 11), 11), source, rtol=0, atol=1e-6)
    mirrored = full_boxes(2, 11, 11) + torch.tensor([0, 0, 0, 0, 1.0])
    torch.testing.assert_close(resized_crop(source, mirrored, 11), source.flip(4), rtol=0, atol=1e-6)


def test_resized_crop_is_differentiable_twice():
    source = clips(t=1, h=5, w=4, c=1, dtype=torch.float64).requires_grad_()
    boxes = torch.tensor([[1.0, 0, 4, 3, 1], [0, 1, 2, 3, 0]])
    assert torch.autograd.gradcheck(lambda x: resized_crop(x, boxes, 3) ** 2, source)
    assert torch.autograd.gradgradcheck(lambda x: resized_crop(x, boxes, 3) ** 2, source)


def test_mixed_precision_does_not_round_pixels():
    source, boxes = clips(h=16, w=16), random_boxes(2, 16, 16, generator(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = resized_crop(source, boxes, 8)
    assert torch.equal(mixed, resized_crop(source, boxes, 8))


# -- differentiable augmentation: each family against a loop over clips and frames --------------------------


def by_frame(source, function):
    """`function(frame, n)` on every frame (C, H, W) of every clip."""
    return torch.stack(
        [torch.stack([function(f, n) for f in clip.unbind(1)], 1) for n, clip in enumerate(source)]
    )


def affine(frame, matrix):
    grid = F.affine_grid(
        torch.tensor(matrix, dtype=frame.dtype)[None], [1, *frame.shape], align_corners=False
    )
    return F.grid_sample(frame[None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]


DRAWS = torch.tensor([[0.1, 0.9, 0.3], [0.999, 0.0, 0.6], [0.5, 0.4, 0.97]], dtype=torch.float64)


def test_color_by_its_definition():
    source = clips(3, dtype=torch.float64)
    want = source.clone()
    for n, (b, s, c) in enumerate(DRAWS.tolist()):
        clip = source[n] + b - 0.5
        for t in range(clip.shape[1]):
            grey = sum(clip[i, t] for i in range(3)) / 3
            for i in range(3):
                clip[i, t] = (clip[i, t] - grey) * 2 * s + grey
        mean = clip.sum() / clip.numel()
        want[n] = (clip - mean) * (c + 0.5) + mean
    torch.testing.assert_close(FAMILIES["color"](source, DRAWS), want)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 20)])
def test_crop_shifts_and_pads_with_zeros(height, width):
    source = clips(3, h=height, w=width, dtype=torch.float64)
    want = torch.zeros_like(source)
    for n, (u, v, _) in enumerate(DRAWS.tolist()):
        reach_y, reach_x = int(height / 8 + 0.5), int(width / 8 + 0.5)
        dy, dx = int(u * (2 * reach_y + 1)) - reach_y, int(v * (2 * reach_x + 1)) - reach_x
        assert abs(dy) <= reach_y
        for y in range(height):
            for x in range(width):
                if 0 <= y + dy < height and 0 <= x + dx < width:
                    want[n, ..., y, x] = source[n, ..., y + dy, x + dx]
    torch.testing.assert_close(FAMILIES["crop"](source, DRAWS), want)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14)])
def test_cutout_hides_a_square_of_half_the_side(height, width):
    source = clips(3, h=height, w=width) + 10  # nothing is zero by itself
    out = FAMILIES["cutout"](source, DRAWS.float())
    hidden = (out == 0).all(dim=(1, 2))
    assert torch.equal(out[:, 0, 0] == 0, hidden)
    assert torch.equal(torch.where(out == 0, source, out), source)
    for n, (u, v, _) in enumerate(DRAWS.tolist()):
        tall, wide = int(height / 2 + 0.5), int(width / 2 + 0.5)
        y, x = int(u * (height + 1 - tall % 2)), int(v * (width + 1 - wide % 2))
        rows = set(range(y - tall // 2, y - tall // 2 + tall)) & set(range(height))
        columns = set(range(x - wide // 2, x - wide // 2 + wide)) & set(range(width))
        assert {(a, b) for a, b in hidden[n].nonzero().tolist()} == {(a, b) for a in rows for b in columns}


def test_flip_mirrors_half_of_the_clips():
    source = clips(3)
    want = torch.stack([source[0].flip(3), source[1], source[2]])
    assert torch.equal(FAMILIES["flip"](source, DRAWS.float()), want)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14)])
def test_scale_equals_grid_sample(height, width):
    source = clips(3, h=height, w=width, dtype=torch.float64)

    def one(frame, n):
        y, x = (1 / 1.2 + u * (1.2 - 1 / 1.2) for u in DRAWS[n, :2].tolist())
        return affine(frame, [[x, 0, 0], [0, y, 0]])

    torch.testing.assert_close(FAMILIES["scale"](source, DRAWS), by_frame(source, one))


@pytest.mark.parametrize(("height", "width"), [(16, 16), (9, 14)])
def test_rotate_equals_grid_sample(height, width):
    source = clips(3, h=height, w=width, dtype=torch.float64)

    def one(frame, n):
        a = math.radians((2 * DRAWS[n, 0].item() - 1) * 15)
        return affine(frame, [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0]])

    torch.testing.assert_close(FAMILIES["rotate"](source, DRAWS), by_frame(source, one))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_differentiable_twice(name, shared):
    source = clips(t=1, h=4, w=4, dtype=torch.float64).requires_grad_()

    def augmented(x):
        return diff_augment(x, generator(0), name, "one", shared) ** 2

    assert torch.autograd.gradcheck(augmented, source)
    assert torch.autograd.gradgradcheck(augmented, source)


# -- what is drawn -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*FAMILIES, "_".join(FAMILIES)])
def test_all_frames_and_with_shared_all_clips_have_the_same_parameters(name):
    still = clips(1, t=1, h=16, w=16).expand(4, -1, 3, -1, -1)
    for seed in range(4):
        shared = diff_augment(still, generator(seed), name, "all", shared=True)
        torch.testing.assert_close(shared, shared[:1, :, :1].expand_as(shared), rtol=0, atol=1e-5)
        single = diff_augment(still[:1], generator(seed), name, "all", shared=True)
        torch.testing.assert_close(single[0], shared[0])  # synthetic and real batches differ in size
    each = torch.cat([diff_augment(still, generator(seed), name, "all", shared=False) for seed in range(4)])
    torch.testing.assert_close(each, each[:, :, :1].expand_as(each), rtol=0, atol=1e-5)
    assert len(each.flatten(1).round(decimals=3).unique(dim=0)) > (1 if name == "flip" else 3)


def test_one_draws_one_family_and_all_applies_each_in_turn(monkeypatch):
    seen = []
    for name in FAMILIES:
        monkeypatch.setitem(augment.FAMILIES, name, lambda x, draws, name=name: seen.append(name) or x)
    diff_augment(clips(), generator(0), "color_crop_cutout", "all")
    assert seen == ["color", "crop", "cutout"]
    seen.clear()
    for seed in range(600):
        diff_augment(clips(), generator(seed))
    assert len(seen) == 600
    assert all(60 < seen.count(name) < 140 for name in FAMILIES)  # 4 standard deviations


def test_an_unknown_family_is_refused():
    with pytest.raises(ValueError, match="augmentation 'colour' in 'colour_flip' is not one of color, crop"):
        diff_augment(clips(), generator(0), "colour_flip")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_and_crops_what_a_cpu_does():
    source, boxes = clips(4, h=40, w=30), random_boxes(4, 40, 30, generator(0))
    cropped = resized_crop(source.cuda(), boxes, 24)
    torch.testing.assert_close(cropped.cpu(), resized_crop(source, boxes, 24), rtol=0, atol=1e-5)
    for shared in (True, False):
        there = diff_augment(source.cuda(), generator(1), mode="all", shared=shared)
        here = diff_augment(source, generator(1), mode="all", shared=shared)
        torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-4)
