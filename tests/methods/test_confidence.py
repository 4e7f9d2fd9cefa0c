"""Confidence and CAD choose what a loop over clips and epochs chooses, of clips as the memory stores them."""

from functools import partial

import pytest
import torch
from torch.nn import functional as F

from tests.codes import make_code
from tests.methods.tiny import SPEC, K, fit, make_experts, make_teacher, toy
from tests.network import Tiny
from vdc.condensed.format import load
from vdc.condensed.memory import Coded, MultiFormation, Pixels
from vdc.methods import CAD, Confidence
from vdc.nets import load_teacher, zoo
from vdc.nets.experts import load_experts
from vdc.ops.pixels import to_clips, to_frames
from vdc.ops.unroll import Layout

EPOCHS = 5


@pytest.fixture(scope="module")
def made(tmp_path_factory, toy_root):
    """Teacher, experts and code."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(zoo.OWN, "tiny", partial(Tiny))
        (folder / "experts").mkdir()
        make_experts(folder / "experts", 2, EPOCHS)
        make_teacher(folder / "teacher")
    data = toy(toy_root)
    clips = torch.stack([data.candidate(row, 0) for row in range(len(data.labels))])
    make_code(folder / "code", SPEC, clips)
    return folder


def memory_of(kind, made):
    """A memory, and what it makes of one clip, by another way."""
    if kind == "pixels":
        return Pixels, lambda clip: to_clips(to_frames(clip[None]))[0]
    if kind == "packed":

        def packed(clip):
            one = MultiFormation(1, 1, SPEC)
            one.initialise(clip.expand(1, 4, *clip.shape))
            state = one.state()
            return MultiFormation.restore(state, 1, 1, SPEC, **one.options()).clips(torch.tensor([2]))[0]

        return MultiFormation, packed

    def coded(clip):
        one = Coded(1, 1, SPEC, str(made / "code"), 30)
        one.initialise(clip[None, None])
        return Coded.restore(one.state(), 1, 1, SPEC, **one.options()).clips(torch.tensor([0]))[0]

    return partial(Coded, code=str(made / "code"), clip_bytes=30, clips_per_item=4), coded


def best(scored, count):
    """Lowest score of each video, then the lowest of all: (row, draw)."""
    videos = {}
    for score, row, draw in sorted(scored):
        videos.setdefault(row, (score, row, draw))
    return [place[1:] for place in sorted(videos.values())[:count]]


def chosen(model, data, expected):
    """The same clips in the same memory."""
    memory = model.memory
    again = type(memory).restore(memory.state(), K, memory.ipc, SPEC, **memory.options())
    clips = torch.stack([data.candidate(*place) for places in expected for place in places])
    memory.initialise(clips.view(K, -1, *clips.shape[1:]))
    other = type(memory).restore(memory.state(), K, memory.ipc, SPEC, **memory.options())
    rows = torch.arange(len(again))
    return torch.equal(again.clips(rows), other.clips(rows))


@pytest.mark.parametrize("kind", ["pixels", "packed", "coded"])
def test_confidence_is_that_of_stored_clips(toy_root, made, kind):
    data = toy(toy_root, candidates=2, batch_size=7)
    memory, degraded = memory_of(kind, made)
    teacher = load_teacher(made / "teacher")
    model = fit(Confidence(K, SPEC, str(made / "teacher"), memory=memory), data, max_epochs=1)
    wanted = []
    for label in range(K):
        scored = []
        for row in (data.labels == label).nonzero().flatten().tolist():
            for draw in range(2):
                with torch.no_grad():
                    sure = teacher(degraded(data.candidate(row, draw))[None]).softmax(1)[0, label]
                scored.append((-float(sure), row, draw))
        wanted.append(best(scored, model.memory.per_item))
    assert chosen(model, data, wanted)


@pytest.mark.parametrize(("kind", "epochs"), [("pixels", None), ("packed", 4), ("coded", None)])
def test_cad_is_the_deviation_of_errors_while_experts_learn(toy_root, made, kind, epochs):
    data = toy(toy_root)
    memory, degraded = memory_of(kind, made)
    model = CAD(K, SPEC, experts=str(made / "experts"), epochs=epochs, memory=memory)
    fit(model, data, max_epochs=1)
    experts, until = load_experts(made / "experts"), epochs or EPOCHS
    net, wanted = experts.build().eval(), []
    for label in range(K):
        scored = []
        for row in (data.labels == label).nonzero().flatten().tolist():
            clip, hardness = degraded(data.candidate(row, 0)), []
            for expert in range(len(experts)):
                errors = []
                for epoch in range(1, until + 1):
                    parts = Layout.of(net).unflatten(experts.snapshot(expert, epoch))
                    with torch.no_grad():
                        p = torch.func.functional_call(net, parts, (clip[None],)).softmax(1)[0]
                    errors.append((p - F.one_hot(torch.tensor(label), K)).square().sum().sqrt())
                spans = [torch.stack(errors[i : i + until - 2]) for i in range(2)]
                hardness.append(float(torch.stack([span.std() for span in spans]).mean()))
            scored.append((-sum(hardness) / len(hardness), row, 0))
        wanted.append(best(scored, model.memory.per_item))
    assert chosen(model, data, wanted)


def test_what_cad_needs_is_said_before_the_pass(toy_root, made):
    data = toy(toy_root)
    for options, words in (
        ({"epochs": 9}, r"--model.init_args.epochs 9: experts .* have 5"),
        ({"epochs": 3}, "3 epochs are too few for 2 windows"),
        ({"windows": 4}, "5 epochs are too few for 4 windows: at least 6"),
    ):
        with pytest.raises(ValueError, match=words):
            fit(CAD(K, SPEC, experts=str(made / "experts"), **options), data, max_epochs=1)


def test_sets_say_what_chose_them(toy_root, made, tmp_path):
    out = str(tmp_path / "set")
    fit(CAD(K, SPEC, experts=str(made / "experts"), ipc=2, out=out), toy(toy_root), max_epochs=1)
    assert load(out).manifest["method"] == "CAD"
    assert load(out).manifest["selects"]
