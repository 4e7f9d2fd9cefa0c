from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import pytest
import torch

from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.memory import Memory, StaticDynamic
from vdc.condensed.memory.static_dynamic import dequantised, occurrences, quantised
from vdc.ops.pixels import to_clips, to_frames, valid_range
from vdc.spec import ClipSpec

SPEC = ClipSpec(frames=4, size=6)
PUBLISHED = ClipSpec(frames=16, size=112)
K, IPC = 3, 2


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def filled(seed=5, num_classes=K, ipc=IPC, spec=SPEC, **options):
    memory = StaticDynamic(num_classes, ipc, spec, **{"budget": 0, "lr_static": 1.0} | options)
    memory.redraw(seed)
    memory.initialise(
        draw(num_classes, memory.init_clips_per_class, 3, 5, spec.size, spec.size).clamp(-1.5, 1.5)
    )
    return memory


def taken(memory, row, turn=0):
    """Still and motion clip of a row, read off the table of pairs."""
    pair = int(memory.pairs[row, turn])
    return memory.stills[row, pair // memory.dynamics], memory.motions[row, pair % memory.dynamics]


# -- bytes ---------------------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_paper():
    """50 clips of 16x112x112 float32, Wang 2024, table 5; 4 bytes x 327 weights of the integrator."""
    with torch.device("meta"):
        two = StaticDynamic(50, 1, PUBLISHED, precision="float32")
        one = StaticDynamic(50, 1, PUBLISHED, 1, 1, precision="float32")
    assert 50 * 4 * PUBLISHED.nbytes == 120_422_400
    assert two.nbytes == 95_334_400 + 1308 == 95_335_708
    assert one.nbytes == 47_667_200 + 1308


@pytest.mark.parametrize("precision", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("integrator", ["conv", "encoder_decoder"])
def test_bytes_are_those_of_what_is_stored(precision, integrator):
    memory = filled(precision=precision, integrator=integrator, statics=1, dynamics=3)
    state = memory.state()
    assert {n: (tuple(t.shape), t.dtype) for n, t in state.items()} == memory.layout()
    assert memory.nbytes == Memory.nbytes.fget(memory) == sum(t.nbytes for t in state.values())


def test_uint8_takes_a_quarter_of_float32_and_what_the_levels_need():
    with torch.device("meta"):
        whole, small = (StaticDynamic(50, 1, PUBLISHED, precision=p) for p in ("float32", "uint8"))
    assert small.nbytes == (whole.nbytes - 1308) // 4 + 1308 + 50 * 2 * 8


def test_a_set_above_its_budget_is_refused():
    # 2 stills and 3 motion clips at 8 frames: 2 * 3 + 3 * 8 = 30 planes of 48 px; a plain clip has 24
    spec = ClipSpec(frames=8, size=48)
    with pytest.raises(ValueError, match="1 plain clip") as refused:
        StaticDynamic(10, 1, spec, 2, 3)
    taken = 10 * (30 * 48 * 48 + 3 * 8) + 1308
    assert f"{taken:,} bytes" in str(refused.value)
    assert f"{10 * 24 * 48 * 48:,}:" in str(refused.value)
    assert "memory.dynamics" in str(refused.value)
    for budget in (2, 0):
        assert StaticDynamic(10, 1, spec, 2, 3, budget=budget).nbytes == taken
    assert StaticDynamic(10, 1, spec, 2, 2).nbytes < 10 * 24 * 48 * 48


def test_the_budget_is_of_the_same_precision_and_counts_the_integrator():
    spec = ClipSpec(frames=8, size=48)
    for precision in ("float32", "float16", "uint8"):
        StaticDynamic(10, 1, spec, precision=precision)
        with pytest.raises(ValueError, match=r"memory\.width"):
            StaticDynamic(10, 1, spec, integrator="encoder_decoder", width=32, precision=precision)


# -- rendering -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integrator", ["conv", "encoder_decoder"])
@pytest.mark.parametrize(("s", "d"), [(1, 1), (2, 2), (3, 1), (1, 4)])
def test_a_batch_is_its_clips_one_by_one(s, d, integrator):
    memory = filled(statics=s, dynamics=d, integrator=integrator)
    rows = torch.tensor([4, 0, 3])
    clips, labels = memory.render(rows)
    assert clips.shape == (3, 3, 4, 6, 6)
    assert labels.tolist() == [2, 0, 1]
    for clip, row in zip(clips, rows.tolist(), strict=True):
        still, motion = taken(memory, row)
        torch.testing.assert_close(clip, memory.integrator(still[None], motion[None])[0])
        torch.testing.assert_close(clip, memory.render(torch.tensor([row]))[0][0])


def test_every_pair_is_as_likely_and_slots_draw_apart():
    memory = filled(num_classes=1, ipc=2)
    counts = torch.zeros(4, 4)
    for seed in range(1600):
        memory.redraw(seed)
        counts[memory.pairs[0, 0], memory.pairs[1, 0]] += 1
    assert counts.min() > 60  # 100 expected: below 60 once in some 30,000 cells
    assert counts.max() < 145


def test_pairs_follow_from_seed_and_row_alone():
    memory, again = filled(), filled()
    memory.redraw(7)
    drawn = memory.pairs.clone()
    memory.redraw(8)
    assert not torch.equal(memory.pairs, drawn)
    again.redraw(7)
    assert torch.equal(again.pairs, drawn)
    rows = torch.tensor([5, 1])
    torch.testing.assert_close(again.render(rows)[0], again.render(torch.arange(6))[0][rows])


def test_a_row_asked_for_again_takes_its_pairs_in_turn():
    memory = filled(statics=2, dynamics=3)
    rows = torch.tensor([1, 0, 1, 1, 0, 1, 1, 1, 1])
    assert occurrences(rows).tolist() == [0, 0, 1, 2, 1, 3, 4, 5, 6]
    clips = memory.render(rows)[0]
    ones = clips[rows == 1]
    assert torch.equal(ones[0], ones[6])  # the seventh is the first again
    every = [
        memory.integrator(memory.stills[1:2, s], memory.motions[1:2, d])[0]
        for s, d in product(range(2), range(3))
    ]
    matched = [[bool(torch.allclose(clip, other, atol=1e-6)) for other in every] for clip in ones[:6]]
    assert torch.tensor(matched).sum(0).tolist() == [1] * 6


# -- learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("static", [0.0, 0.5])
@pytest.mark.parametrize("dynamic", [0.0, 0.5, None])
@pytest.mark.parametrize("integrator", [0.0, 0.5, None])
def test_gradients_and_rates_are_as_configured(static, dynamic, integrator):
    rates = {"lr_static": static, "lr_dynamic": dynamic, "lr_integrator": integrator}
    if static == dynamic == integrator == 0:
        with pytest.raises(ValueError, match="not all of them 0"):
            filled(**rates)
        return
    memory = filled(**rates)
    clips, _ = memory.render(torch.tensor([2]))
    clips.square().sum().backward()
    optimizer = torch.optim.SGD(memory.groups(), lr=0.125)
    used = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    parts = {"static": memory.stills, "dynamic": memory.motions, "integrator": memory.integrator.conv.weight}
    for (name, part), rate in zip(parts.items(), (static, dynamic, integrator), strict=True):
        assert (part.grad is not None) == (rate != 0), name
        assert used.get(id(part)) == {None: 0.125, 0.0: None}.get(rate, rate), name
    pair = int(memory.pairs[2, 0])
    if static:
        assert memory.stills.grad.flatten(2).any(2).nonzero().tolist() == [[2, pair // 2]]
    if dynamic != 0:
        assert memory.motions.grad.flatten(2).any(2).nonzero().tolist() == [[2, pair % 2]]


def test_gradients_are_those_of_differences():
    memory = filled(
        num_classes=1, ipc=1, spec=ClipSpec(frames=2, size=3), integrator="encoder_decoder", width=1
    ).double()
    parameters = {name: p.detach().clone().requires_grad_() for name, p in memory.named_parameters()}

    def rendered(*values):
        return torch.func.functional_call(
            _Clips(memory), {f"memory.{n}": v for n, v in zip(parameters, values, strict=True)}, ()
        )

    assert torch.autograd.gradcheck(rendered, [*parameters.values()], eps=1e-6, atol=1e-5)


class _Clips(torch.nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def forward(self):
        return self.memory.clips(torch.tensor([0, 0]))


def test_learnt_labels_are_no_group_of_the_memory():
    memory = filled()
    memory.learn_labels(torch.zeros(6, K))
    assert not any(p is memory.logits for group in memory.groups() for p in group["params"])


def test_stills_start_as_middle_frames_and_noise_follows_from_the_seed():
    clips = draw(K, 4, 3, 5, 6, 6)
    memory = StaticDynamic(K, IPC, SPEC, budget=0)
    memory.redraw(1)
    memory.initialise(clips)
    for k, item, s in product(range(K), range(IPC), range(2)):
        assert torch.equal(memory.stills[k * IPC + item, s], clips[k, item * 2 + s, :, 2])
    assert abs(memory.motions.mean()) < 0.1
    assert abs(memory.motions.std() - 1) < 0.1
    same, other = filled(seed=1), filled(seed=2)
    assert torch.equal(memory.motions, same.motions)
    assert torch.equal(memory.integrator.conv.weight, same.integrator.conv.weight)
    assert not torch.equal(memory.motions, other.motions)
    assert not torch.equal(memory.integrator.conv.weight, other.integrator.conv.weight)


@pytest.mark.parametrize("integrator", ["conv", "encoder_decoder"])
@pytest.mark.parametrize(("s", "d"), [(2, 2), (1, 3), (3, 1)])
def test_pairs_can_start_as_clips_in_the_colours_of_their_middle_frames(s, d, integrator):
    memory = StaticDynamic(K, IPC, SPEC, s, d, integrator, budget=0, motion="clips")
    each = max(s, d)
    assert memory.init_clips_per_class == IPC * each
    clips = draw(K, memory.init_clips_per_class, 3, 4, 6, 6).clamp(-1.5, 1.5)
    memory.initialise(clips)
    for k, i in product(range(K), range(IPC)):
        for pair in product(range(s), range(d)):
            memory.pairs[k * IPC + i, 0] = pair[0] * d + pair[1]
            still, moves = (clips[k, i * each + n] for n in pair)
            expected = torch.empty(3, 4, 6, 6)
            for t, c in product(range(4), range(3)):  # slow: brightness against the middle frame, number 2
                brighter = sum(moves[j, t] - moves[j, 2] for j in range(3)) / 3
                expected[c, t] = still[c, 2] + brighter
            with torch.no_grad():
                torch.testing.assert_close(
                    memory.render(torch.tensor([k * IPC + i]))[0][0], expected, atol=1e-5, rtol=1e-5
                )
    assert float(memory.curves()["motion_drift"]) == 0


def test_grey_clips_start_as_they_are_and_stills_as_still_videos():
    memory = StaticDynamic(K, IPC, SPEC, 1, 1, budget=0, motion="clips")
    grey = draw(K, IPC, 1, 4, 6, 6).clamp(-1.5, 1.5).expand(-1, -1, 3, -1, -1, -1)
    memory.initialise(grey)
    rows = torch.arange(K * IPC)
    torch.testing.assert_close(memory.render(rows)[0].detach(), grey.flatten(0, 1))
    memory.initialise(grey[:, :, :, :1])
    torch.testing.assert_close(
        memory.render(rows)[0].detach(), grey[:, :, :, :1].flatten(0, 1).expand(-1, -1, 4, -1, -1)
    )
    with pytest.raises(ValueError, match="motion clips needs clips of 1 or 4 frames to start from, not 3"):
        memory.initialise(grey[:, :, :, :3])


def test_clamping_touches_stills_only():
    memory = filled()
    memory.stills.data[:], memory.motions.data[:] = 9, 9
    memory.clamp()
    assert torch.equal(memory.stills[0, 0], valid_range(torch.device("cpu"))[1][..., 0].expand(3, 6, 6))
    assert (memory.motions == 9).all()


def test_drift_is_the_distance_from_the_noise():
    memory = filled()
    assert memory.curves()["motion_drift"] == 0
    with torch.no_grad():
        memory.motions += 0.25
    assert memory.curves()["motion_drift"].item() == pytest.approx(0.25)
    resumed = StaticDynamic(K, IPC, SPEC, budget=0)
    resumed.load_state_dict(memory.state_dict())
    assert resumed.curves() == memory.curves()


def test_drift_of_a_large_memory_is_that_of_a_sample():
    memory = filled(num_classes=2, ipc=1, spec=ClipSpec(frames=8, size=112))
    with torch.no_grad():
        memory.motions *= 1.5
    assert memory.start.numel() <= 2 * 65536 < memory.motions.numel()
    assert memory.curves()["motion_drift"].item() == pytest.approx(0.5, rel=0.02)


# -- storing -------------------------------------------------------------------------------------------------


def stored(memory, **changed):
    manifest = {"memory": {"class": "StaticDynamic", "options": memory.options()}, "ipc": memory.ipc}
    manifest |= {"classes": ["a", "b", "c"], "spec": asdict(memory.spec)} | changed
    return CondensedSet(Path(), manifest, memory.state(), Labels(torch.zeros(0)))


@pytest.mark.parametrize(("precision", "near"), [("float32", 0), ("float16", 0.01), ("uint8", 0.05)])
@pytest.mark.parametrize("integrator", ["conv", "encoder_decoder"])
def test_what_is_stored_is_what_is_rendered(precision, near, integrator):
    memory = filled(precision=precision, integrator=integrator, statics=2, dynamics=3)
    again = stored(memory).memory()
    rows = torch.arange(6).repeat(6)
    for seed in (0, 3):
        memory.redraw(seed)
        again.redraw(seed)
        torch.testing.assert_close(again.render(rows)[0], memory.render(rows)[0], atol=near, rtol=near)
    assert memory.nbytes == again.nbytes
    held = again.state()
    for name, tensor in memory.state().items():
        assert torch.equal(held[name], tensor), name


def test_stored_bytes_are_rendered_by_hand():
    memory = filled(precision="uint8")
    state, again = memory.state(), stored(memory).memory()
    pair = int(again.pairs[3, 0])
    still = to_clips(state["stills"][3, pair // 2][None, None])[:, :, 0]
    levels = state["motions"][3, pair % 2].float()
    motion = levels * state["motion_step"][3, pair % 2] + state["motion_low"][3, pair % 2]
    torch.testing.assert_close(again.render(torch.tensor([3]))[0], memory.integrator(still, motion[None]))
    assert torch.equal(state["stills"], to_frames(memory.stills.transpose(1, 2)))


def test_motion_clips_have_256_levels_between_their_extremes():
    motions = draw(3, 2, 4, 5, 5) * 100
    parts = quantised(motions)
    step = (motions.amax((-3, -2, -1)) - motions.amin((-3, -2, -1))) / 255
    back = dequantised(*(t.flatten(0, 1) for t in parts.values())).view_as(motions)
    assert ((back - motions).abs() <= step[..., None, None, None] * 0.501).all()
    still = quantised(torch.full((1, 4, 5, 5), 2.5))
    assert (dequantised(*still.values()) == 2.5).all()


def test_a_restored_memory_learns_nothing_and_keeps_the_stored_bytes():
    memory = stored(filled(precision="float16")).memory()
    assert all(not p.requires_grad for p in memory.parameters())
    assert sum(p.numel() for p in memory.parameters()) == 327
    assert {b.dtype for n, b in memory.named_buffers() if n.startswith("kept")} == {torch.float16}
    assert not any(t.is_meta for t in (*memory.parameters(), *memory.buffers()))


def test_a_prefix_of_a_set_has_no_budget_to_keep():
    memory = filled(ipc=2, spec=ClipSpec(frames=8, size=12), integrator="encoder_decoder", width=8)
    state = {
        n: t if n.startswith("shared.") else t.view(K, 2, *t.shape[1:])[:, :1].flatten(0, 1)
        for n, t in memory.state().items()
    }
    small = StaticDynamic.restore(state, K, 1, memory.spec, **memory.options())
    for row in range(K):
        still, motion = taken(memory, row * 2)
        small.pairs[row, 0] = memory.pairs[row * 2, 0]
        clip = memory.integrator(still[None], motion[None])
        torch.testing.assert_close(small.render(torch.tensor([row]))[0], clip, atol=0.05, rtol=0.05)


# -- refusals ------------------------------------------------------------------------------------------------


def test_motion_clips_of_another_length_are_refused():
    memory = filled()
    wrong = stored(memory, spec=asdict(replace(SPEC, frames=8)))
    with pytest.raises(
        ValueError, match=r"motions are \(6, 2, 4, 6, 6\) torch.uint8, expected \(6, 2, 8, 6, 6\)"
    ):
        wrong.memory()


def test_other_stored_tensors_are_refused():
    memory = filled()
    for name, change in (("stills", lambda t: t.float()), ("shared.integrator.conv.bias", lambda t: t[:2])):
        wrong = stored(memory)
        wrong.tensors[name] = change(wrong.tensors[name])
        with pytest.raises(ValueError, match=f"stored {name} are"):
            wrong.memory()
        del wrong.tensors[name]
        with pytest.raises(ValueError, match=f"stored {name} are missing"):
            wrong.memory()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"statics": 0}, r"memory\.statics must be at least 1"),
        ({"dynamics": 0}, r"memory\.dynamics must be at least 1"),
        ({"precision": "int4"}, "int4"),
        ({"integrator": "add"}, "add"),
        ({"integrator": "encoder_decoder", "width": 0}, r"memory\.width"),
        ({"motion": "still"}, r"memory\.motion must be noise or clips, got .still."),
        ({"lr_dynamic": -1.0}, "negative"),
        ({"lr_static": 0.0, "lr_dynamic": 0.0, "lr_integrator": 0.0}, "not all of them 0"),
    ],
)
def test_what_cannot_be_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        filled(**options)


@pytest.mark.parametrize("shape", [(K, 3, 3, 4, 6, 6), (K, 4, 3, 4, 8, 8), (2, 4, 3, 4, 6, 6)])
def test_stills_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="cannot start from clips of"):
        StaticDynamic(K, IPC, SPEC, budget=0).initialise(torch.zeros(shape))
