"""Joined sets, and what is cut from sets: by load, evaluate and export."""

import pytest
import torch

import vdc
from tests.small import CLASSES, SPEC, K, make_set
from vdc.condensed.describe import export
from vdc.condensed.format import load, replace_labels, save
from vdc.condensed.join import join
from vdc.condensed.labels import Labels, Views
from vdc.condensed.memory import MultiFormation, Pixels
from vdc.evaluate.evaluate import evaluate_sizes
from vdc.ops.pixels import to_clips
from vdc.ops.rng import generator
from vdc.spec import ClipSpec
from vdc.train.protocol import Protocol

pytestmark = pytest.mark.usefixtures("dropping_tiny")


def noise_set(path, seed, ipc=1, soft=False, memory=Pixels, classes=CLASSES, spec=SPEC):
    held = memory(len(classes), ipc, spec)
    frames = torch.randint(256, (len(held), *spec_shape(spec)), generator=generator(seed), dtype=torch.uint8)
    held.initialise(to_clips(frames).unflatten(0, (len(classes), -1)))
    logits = torch.randn(len(held), len(classes), generator=generator(seed, "soft")).half() if soft else None
    save(
        path, held, Labels(held.labels, logits), classes=classes, source={"train": "t"}, method="DM",
        config={"data": 1}, seed=seed,
    )  # fmt: skip
    return str(path)


def spec_shape(spec):
    return spec.stored, spec.size, spec.size, 3


@pytest.mark.parametrize("memory", [Pixels, MultiFormation])
def test_items_lie_side_by_side_in_every_class(tmp_path, memory):
    sets = [noise_set(tmp_path / str(i), i, ipc, True, memory) for i, ipc in enumerate((1, 2))]
    join(sets, str(tmp_path / "joined"))
    whole, parts = load(tmp_path / "joined"), [load(path) for path in sets]
    assert (whole.ipc, whole.manifest["method"], whole.manifest["config"]) == (3, "DM", {"data": 1})
    assert whole.manifest["learnt"] == {"joined": 2, "seeds": [0, 1]}
    each = whole.per_item
    for k in range(K):
        expected = torch.cat(
            [parts[0].tensors["videos"][k : k + 1], parts[1].tensors["videos"][2 * k : 2 * k + 2]]
        )
        assert whole.tensors["videos"][3 * k : 3 * k + 3].equal(expected)
        rows = slice(3 * k * each, (3 * k + 3) * each)
        one, two = slice(k * each, (k + 1) * each), slice(2 * k * each, (2 * k + 2) * each)
        assert whole.labels.soft[rows].equal(
            torch.cat([parts[0].labels.soft[one], parts[1].labels.soft[two]])
        )
        assert whole.labels.hard[rows].tolist() == [k] * 3 * each
    assert load(tmp_path / "joined", 1).tensors["videos"].equal(parts[0].tensors["videos"])


def test_sets_of_other_kinds_are_not_joined(tmp_path):
    one = noise_set(tmp_path / "one", 0)
    packed = noise_set(tmp_path / "packed", 0, memory=MultiFormation)
    other = noise_set(
        tmp_path / "other", 0, classes=["a", "b", "z"], spec=ClipSpec(frames=4, size=8, stride=1)
    )
    soft = noise_set(tmp_path / "soft", 0, soft=True)
    for path, odd in ((packed, "memory"), (other, "classes, spec"), (soft, "kind of labels")):
        with pytest.raises(ValueError, match=f"differ in {odd}: they cannot be joined"):
            join([one, path], str(tmp_path / "out"))
    views = Views(
        0, torch.zeros(K, 2, 1).half(), torch.zeros(K, 2, 1).byte(), {"crop_scale": None, "flip": 0.0}
    )
    replace_labels(one, Labels(torch.arange(K), views=views))
    with pytest.raises(ValueError, match="join sets before `vdc relabel`"):
        join([one, one], str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


SHORT = Protocol(epochs=1, labels="hard", checks=1)


def test_several_sizes_are_evaluated_in_one_go(tmp_path, videos):
    path = make_set(tmp_path / "set", ipc=3)
    given = {"students": ["tiny"], "seeds": [0], "protocol": SHORT, "progress": False}
    found = evaluate_sizes(path, videos, [1, 3], "run", **given)
    assert [(one["ipc"], one["stored_ipc"], one["sizes"], one["name"]) for one in found] == [
        (1, 3, "plain", "run-ipc1"), (3, 3, "plain", "run-ipc3")
    ]  # fmt: skip
    assert found[0]["bytes"]["clips"] * 3 == found[1]["bytes"]["clips"] == 3 * K * SPEC.nbytes
    assert found[0]["condensed_seed"] == 0
    (one,) = evaluate_sizes(path, videos, [2], "two", **given)
    (whole,) = evaluate_sizes(path, videos, **given)
    assert (one["name"], one["ipc"], whole["ipc"]) == ("two", 2, 3)
    with pytest.raises(ValueError, match=r"ipc 4 asked of .*holds 3 items per class"):
        evaluate_sizes(path, videos, [1, 2, 4], "none", **given)
    assert not (tmp_path / "set/evaluations/none-ipc1").exists()


def test_a_prefix_loads_and_exports_without_computing_anything_again(tmp_path):
    path = make_set(tmp_path / "set", ipc=3)
    whole, part = vdc.load(path), vdc.load(path, ipc=2)
    assert len(part) == 2 * K
    for k in range(K):
        for i in range(2):
            clip, label = part[2 * k + i]
            assert clip.equal(whole[3 * k + i][0])
            assert label == k
    export(path, str(tmp_path / "out"), ipc=2)
    assert (tmp_path / "out/list.txt").read_text().split() == [
        word for k, name in enumerate(CLASSES) for i in range(2) for word in (f"{name}/{i:03d}.mp4", str(k))
    ]
