from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.codes import make_code, smooth
from vdc.condensed.dataset import CondensedClips
from vdc.condensed.export import export
from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.memory import Coded
from vdc.ops.pixels import to_clips, to_frames
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=8)


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return make_code(tmp_path_factory.mktemp("code"), SPEC)


def filled(code, num_classes=2, ipc=3, **options):
    memory = Coded(num_classes, ipc, SPEC, code, **{"clip_bytes": 24} | options)
    memory.initialise(smooth(len(memory), SPEC, 4).unflatten(0, (num_classes, -1)))
    return memory


def test_rows_are_coded_clips_item_by_item(code):
    memory = filled(code, clips_per_item=4)
    assert (memory.per_item, memory.init_clips_per_class, len(memory)) == (4, 12, 24)
    clips = smooth(24, SPEC, 4)
    rows = torch.tensor([17, 3, 3, 20])
    found, labels = memory.render(rows)
    assert labels.tolist() == [1, 0, 0, 1]
    decoder = memory.decoder
    torch.testing.assert_close(found, decoder.clips(decoder.rounded(decoder.encode(clips[rows]))))
    assert (found - clips[rows]).square().mean() < 0.3 * clips.var()
    with pytest.raises(ValueError, match=r"\(2, 12, 3, 4, 8, 8\) cannot start from \(2, 3,"):
        memory.initialise(torch.zeros(2, 3, 3, 4, 8, 8))


def test_a_unit_is_a_deviation_of_its_coefficient(code):
    memory = Coded(1, 60, SPEC, code, 60)
    memory.initialise(smooth(60, SPEC, 9)[None])
    deviations = memory.coefficients.detach().std(0)
    assert float(deviations.min()) > 0.4
    assert float(deviations.max()) < 1.8


def test_gradients_reach_asked_rows_alone(code):
    memory = filled(code, num_classes=1, clips_per_item=2)
    clips, _ = memory.render(torch.tensor([5]))
    clips.square().sum().backward()
    touched = memory.coefficients.grad.abs().sum(1) > 0
    assert touched.tolist() == [False] * 5 + [True]


def test_learning_moves_what_is_stored(code):
    memory, wanted = filled(code, 1, 2), smooth(2, SPEC, 8)
    optimizer = torch.optim.Adam(memory.parameters(), 0.1)
    first = float((memory.render(torch.arange(2))[0] - wanted).detach().square().mean())
    for _ in range(60):
        optimizer.zero_grad()
        error = (memory.render(torch.arange(2))[0] - wanted).square().mean()
        error.backward()
        optimizer.step()
        memory.clamp()
    assert error.item() < 0.4 * first
    best = memory.decoder.clips(memory.decoder.rounded(memory.decoder.encode(wanted)))
    assert error.item() < 2 * float((best - wanted).square().mean())


def test_clamped_coefficients_are_in_the_range_of_their_levels(code):
    memory = filled(code)
    memory.coefficients.data.mul_(50)
    rows = torch.arange(6)
    before = memory.render(rows)[0]
    memory.clamp()
    assert (memory.coefficients.abs() <= memory.decoder.limits).all()
    assert torch.equal(memory.render(rows)[0], before)  # beyond it there is no other level


@pytest.mark.parametrize("options", [{}, {"clips_per_item": 3, "bands": 0}, {"bands": 4, "mean": 2}])
def test_a_stored_set_is_bytes_and_renders_to_the_bit_what_was_learnt(code, options):
    memory = filled(code, **options)
    memory.coefficients.data.add_(0.3 * torch.randn(memory.coefficients.shape))
    stored = memory.state()
    assert stored["codes"].dtype == torch.uint8
    assert stored["codes"].shape == (6, memory.per_item, 24)
    assert memory.nbytes == sum(t.numel() * t.element_size() for t in stored.values())
    manifest = {"memory": {"class": "Coded", "options": memory.options()}, "classes": ["a", "b"], "ipc": 3}
    again = CondensedSet(Path(), manifest | {"spec": asdict(SPEC)}, stored, Labels(torch.zeros(0))).memory()
    assert not list(again.parameters())
    rows = torch.randperm(len(memory))[:5]
    assert torch.equal(again.render(rows)[0], memory.render(rows)[0])
    assert {name: t.tolist() for name, t in again.state().items()} == {
        n: t.tolist() for n, t in stored.items()
    }
    again.clamp()
    assert again.nbytes == memory.nbytes


def test_a_prefix_of_the_stored_tensors_is_a_prefix_of_the_rows(code):
    whole = filled(code, clips_per_item=2)
    state = whole.state()
    first = state | {"codes": state["codes"][[0, 1, 3, 4]]}
    part = Coded.restore(first, 2, 2, SPEC, **whole.options())
    again = Coded.restore(state, 2, 3, SPEC, **whole.options())
    assert torch.equal(part.render(torch.arange(8))[0], again.render(whole.prefix(2))[0])
    assert whole.nbytes - part.nbytes == 2 * 2 * 24  # the same for every item


def test_stored_codes_of_another_shape_are_refused(code):
    memory = filled(code)
    with pytest.raises(ValueError, match=r"stored codes are \(6, 1, 24\) torch.uint8, expected \(8, 1, 24\)"):
        Coded.restore(memory.state(), 2, 4, SPEC, **memory.options())
    rest = {name: tensor for name, tensor in memory.state().items() if name != "codes"}
    with pytest.raises(ValueError, match="stored codes are missing"):
        Coded.restore(rest, 2, 3, SPEC, **memory.options())


def test_options_are_checked(code):
    for name, value, least in (
        ("clip_bytes", 0, 1),
        ("clips_per_item", 0, 1),
        ("bands", -1, 0),
        ("mean", 0, 1),
    ):
        with pytest.raises(ValueError, match=rf"memory\.{name} must be at least {least}, got {value}"):
            Coded(2, 3, SPEC, code, **{name: value})
    with pytest.raises(ValueError, match="cannot take 8000 bits"):
        Coded(2, 3, SPEC, code, 1000)


def test_a_checkpoint_of_another_code_is_refused(code, tmp_path):
    memory, other = filled(code), make_code(tmp_path / "other", SPEC, 1 + smooth(30, SPEC, 2))
    filled(code).load_state_dict(memory.state_dict())
    wrong = Coded(2, 3, SPEC, other, 24)
    with pytest.raises(ValueError, match="--ckpt_path is of another code"):
        wrong.load_state_dict(memory.state_dict())


def test_a_set_needs_no_code_but_its_own(code, tmp_path):
    gone = make_code(tmp_path / "code", SPEC)
    memory = filled(gone, clips_per_item=2)
    logits = torch.randn(12, 2)
    memory.learn_labels(logits)
    about = {"classes": ["a", "b"], "source": {}, "method": "Random", "config": {}, "seed": 0}
    folder = save(tmp_path / "set", memory, Labels(memory.labels, logits.half()), **about)
    for name in ("code.json", "code.safetensors"):
        (tmp_path / "code" / name).unlink()
    held = load(folder)
    state = memory.state()
    decoder = sum(t.numel() * t.element_size() for name, t in state.items() if name != "codes")
    assert held.nbytes == {"clips": 6 * 2 * 24, "decoder": decoder, "labels": 12 + 12 * 2 * 2}
    tensors = load_file(folder / "clips.safetensors")
    assert sum(t.numel() * t.element_size() for t in tensors.values()) == 6 * 2 * 24 + decoder
    rows = torch.arange(12)
    assert torch.equal(held.memory().render(rows)[0], memory.render(rows)[0])
    clip, label = CondensedClips(folder)[7]
    assert label == 1
    torch.testing.assert_close(clip, memory.render(torch.tensor([7]))[0][0])
    assert (folder / "preview.png").is_file()
    export(held, tmp_path / "videos", ipc=2)
    assert len(list((tmp_path / "videos").rglob("*.mp4"))) == 2 * 2 * 2


def test_previews_and_frames_are_of_the_stored_clips(code):
    memory = filled(code)
    frames = to_frames(memory.render(torch.arange(6))[0])
    again = Coded.restore(memory.state(), 2, 3, SPEC, **memory.options())
    assert torch.equal(to_frames(again.render(torch.arange(6))[0]), frames)
    torch.testing.assert_close(to_clips(frames), memory.render(torch.arange(6))[0], atol=0.01, rtol=0)
