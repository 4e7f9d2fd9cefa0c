from functools import partial

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint

from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.memory import Pixels
from vdc.data.sampler import PerClass
from vdc.methods import DM, NCFM
from vdc.methods.base.networks import load_flat_parameters
from vdc.methods.base.options import Augmentation, Network, RealClips
from vdc.nets import build, channels_last
from vdc.ops.augment import diff_augment
from vdc.ops.rng import derive, generator
from vdc.ops.select import kmeans_medoids
from vdc.ops.unroll import Layout
from vdc.ops.windows import draw_starts, take_window
from vdc.spec import ClipSpec

TINY = {"net": Network("tiny", {"norm": "in"}), "iterations": 2}


def sgd(lr):
    return lambda p: torch.optim.SGD(p, lr=lr, momentum=0.5)


@pytest.fixture
def data(toy_root):
    return toy(toy_root, per_class=3)


def watched(cls, data, spec=SPEC, **options):
    """A condenser that keeps, of every step, its context, items and network."""

    class Watched(cls):
        def loss(self, clips, labels, context):
            terms = super().loss(clips, labels, context)
            weights = Layout.of(self.net).flatten(dict(self.net.named_parameters())).detach().clone()
            self.seen.append((context, clips.detach().clone(), labels.clone(), weights, terms))
            return terms

    model = Watched(K, spec, **{**TINY, **options})
    model.seen = []
    return model


def real_clips(data, seed, step, block=0, classes=range(K), per_class=3):
    """Real clips of a step, (classes, n, C, T_c, H, W), straight from the sampler."""
    keys = list(PerClass(data.labels, per_class, classes, derive(seed, "real", block), steps=step + 1))
    rows = keys[step * per_class * len(classes) :]
    clips = torch.cat([data.to_batch(raw).clips for raw in data.by_key(rows, seed, stored=True)])
    return clips.view(len(classes), per_class, *clips.shape[1:])


def slow_dm(net, real, syn, labels):
    """The sum over classes and dimensions of squared differences of means, one clip after the other."""
    total = 0.0
    for k in range(len(real)):
        mean_real = sum(net.embed(clip[None])[0] for clip in real[k]) / len(real[k])
        mine = [net.embed(clip[None])[0] for clip, label in zip(syn, labels, strict=True) if label == k]
        total = total + ((mean_real - sum(mine) / len(mine)) ** 2).sum() if mine else total
    return total


@pytest.mark.parametrize("chunk", [1, 4, 64])
def test_dm_is_the_slow_loop_in_a_new_random_network_every_step(data, chunk):
    model = fit(watched(DM, data, ipc=2, chunk=chunk, seed=3, optimizer=sgd(0.1)), data)
    assert len(model.seen) == 2
    networks = []
    for step, (_, clips, labels, weights, terms) in enumerate(model.seen):
        net = build("tiny", K, SPEC, norm="in").eval()
        net.reset_parameters("default", generator(3, "network", 0, step))
        torch.testing.assert_close(Layout.of(net).flatten(dict(net.named_parameters())).detach(), weights)
        expected = slow_dm(net, real_clips(data, 3, step), clips, labels)
        torch.testing.assert_close(terms["means"], expected, rtol=1e-4, atol=1e-6)
        networks.append(weights)
    assert not torch.equal(*networks)


def test_dm_learns_by_plain_sgd_on_that_loss(data):
    model = fit(watched(DM, data, ipc=1, iterations=1, optimizer=sgd(0.5)), data)
    _, clips, labels, weights, _ = model.seen[0]
    net = build("tiny", K, SPEC, norm="in").eval()
    load_flat_parameters(net, weights)
    clips.requires_grad_()
    slow_dm(net, real_clips(data, 0, 0), clips, labels).backward()
    stored = Pixels(K, 1, SPEC)
    stored.videos.data = clips.detach() - 0.5 * clips.grad
    stored.clamp()
    assert clips.grad.abs().max() > 0.01
    assert torch.equal(model.memory.state()["videos"], stored.state()["videos"])


@pytest.mark.parametrize("cls", [DM, NCFM])
def test_a_prefix_of_the_items_is_compared_under_the_same_context(data, cls):
    found = {}

    class Twice(cls):
        def loss(self, clips, labels, context):
            rows, loss = self.memory.prefix(1), super().loss
            found["part"] = loss(clips[rows], labels[rows], context)
            found["soft"] = loss(clips[rows], torch.eye(K)[labels[rows]], context)  # the largest is the class
            found["whole"] = loss(clips, labels, context)
            return loss(clips, labels, context)

    options = {"ipc": 2, "memory": Pixels, "augment": Augmentation("color_crop")}
    fit(Twice(K, SPEC, **TINY | options), data)
    model = fit(watched(cls, data, **options), data)
    for name, value in model.seen[-1][-1].items():
        torch.testing.assert_close(found["whole"][name], value)
        torch.testing.assert_close(found["part"][name], found["soft"][name])
        assert not torch.isclose(found["part"][name], value)


def test_both_sides_see_the_same_window_and_augmentation(toy_root):
    spec = ClipSpec(frames=4, size=16, stride=1, stored_frames=8, window="slide")
    data = toy(toy_root, spec, per_class=2)
    model = fit(watched(DM, data, spec, augment=Augmentation("color_crop_cutout", "all"), seed=1), data)
    for step, (context, clips, labels, weights, terms) in enumerate(model.seen):
        start = draw_starts(1, spec, generator(1, "view", 0, step))
        assert torch.equal(context.start, start)
        net = build("tiny", K, spec, norm="in").eval()
        load_flat_parameters(net, weights)

        def look(x, start=start, step=step):
            cut = take_window(x, start.expand(len(x)), 4)
            return diff_augment(cut, generator(1, "augment", 0, step), "color_crop_cutout", "all")

        real = real_clips(data, 1, step, per_class=2)
        assert real.shape[3] == 8
        real = look(real.flatten(0, 1)).view(K, 2, 3, 4, 16, 16)
        torch.testing.assert_close(
            terms["means"], slow_dm(net, real, look(clips), labels), rtol=1e-4, atol=1e-6
        )


def test_items_do_not_depend_on_what_is_forwarded_together(data):
    sets = [
        fit(DM(K, SPEC, ipc=2, chunk=c, optimizer=sgd(5.0), **TINY), data).memory.state() for c in (1, 64)
    ]
    different = (sets[0]["videos"].int() - sets[1]["videos"].int()).abs()
    assert different.max() <= 1  # a rounding to the other grey level
    assert different.float().mean() < 0.01


def test_class_blocks_see_real_clips_of_their_own_classes(data):
    model = fit(watched(DM, data, ipc=1, block=2, iterations=2), data)
    assert len(model.seen) == 4
    for turn, (_, clips, labels, weights, terms) in enumerate(model.seen):
        block, step = divmod(turn, 2)
        net = build("tiny", K, SPEC, norm="in").eval()
        load_flat_parameters(net, weights)
        real = real_clips(data, 0, step, block, range(2 * block, 2 * block + 2))
        torch.testing.assert_close(terms["means"], slow_dm(net, real, clips, labels), rtol=1e-4, atol=1e-6)
    assert len(model.memory) == K
    assert model.memory.labels.tolist() == [0, 1, 2, 3]


def run(model, data, folder, ckpt_path=None):
    """Train, keep a checkpoint of every step, and give the float pixels after every step."""
    kept = {}
    save = ModelCheckpoint(folder, "{step}", every_n_train_steps=1, save_top_k=-1)
    watch = LambdaCallback(
        on_train_batch_end=lambda *_: kept.update({model.global_step: model.memory.videos.detach().clone()})
    )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**quiet, accelerator="cpu", devices=1, callbacks=[save, watch])
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    return kept


@pytest.mark.parametrize(
    ("cls", "options"),
    [(DM, {}), (DM, {"block": 2}), (DM, {"real": RealClips("dream", interval=3)}), (NCFM, {})],
)
def test_a_resumed_run_is_the_uninterrupted_one(data, tmp_path, cls, options):
    make = partial(cls, K, SPEC, optimizer=sgd(5.0), **TINY | {"iterations": 3} | options)
    whole = run(make(), data, tmp_path)
    steps = max(whole)
    assert not torch.equal(whole[steps], whole[steps - 1])
    for step in (1, steps - 1):
        again = run(
            make(), toy(data.root, per_class=3), tmp_path / "again", str(tmp_path / f"step={step}.ckpt")
        )
        assert sorted(again) == list(range(step + 1, steps + 1))
        torch.testing.assert_close(again[steps], whole[steps], rtol=0, atol=1e-6)


def test_dream_takes_the_clips_nearest_to_centres_and_keeps_them(data):
    model = watched(DM, data, real=RealClips("dream", interval=2), iterations=4)
    fit(model, data)
    picked = model.picked
    assert picked.shape == (K, 3)
    for label in range(K):
        assert (data.labels[picked[label]] == label).all()
        assert len(picked[label].unique()) == 3
    for step, (_, clips, labels, weights, terms) in enumerate(model.seen):
        net = build("tiny", K, SPEC, norm="in").eval()
        channels_last(net)  # of a cluster of two, the last bit decides which clip is nearer
        load_flat_parameters(
            net, model.seen[step - step % 2][3]
        )  # features of the network at the time of the choice
        real = []
        for label in range(K):
            rows = (data.labels == label).nonzero().flatten().tolist()
            raws = data.by_key([(row, step // 2) for row in rows], 0, stored=True)
            mine = torch.cat([data.to_batch(raw).clips for raw in raws])
            maps = net.embed(mine).detach()
            chosen = kmeans_medoids(maps, 3, generator(0, "dream", label, 0, step - step % 2))
            real.append(mine[chosen])
        load_flat_parameters(net, weights)
        torch.testing.assert_close(
            terms["means"], slow_dm(net, torch.stack(real), clips, labels), rtol=1e-4, atol=1e-6
        )


def test_dream_takes_every_clip_of_a_small_class(toy_root):
    model = fit(watched(DM, None, real=RealClips("dream")), toy(toy_root, per_class=8))
    assert all(sorted(row.unique().tolist()) == sorted(set(row.tolist())) for row in model.picked)
    assert [len(row.unique()) for row in model.picked] == [5] * K


def test_dm_takes_networks_from_all_over_a_pool(data, two_experts):
    folder, thetas = two_experts
    model = fit(watched(DM, data, experts=folder, iterations=30), data)
    used = {
        key for *_, weights, _ in model.seen for key, theta in thetas.items() if torch.equal(theta, weights)
    }
    assert all(any(torch.equal(theta, seen[3]) for theta in thetas.values()) for seen in model.seen)
    assert used == set(thetas)


@pytest.mark.parametrize(("cls", "share"), [(DM, 0.5), (NCFM, 0.9)])
def test_matching_in_one_network_brings_the_loss_down(data, cls, share):
    options = {"memory": Pixels, "augment": Augmentation(), "init": "noise", "iterations": 40}
    model = watched(cls, data, optimizer=lambda p: torch.optim.Adam(p, lr=0.1), **options)
    model.renew = lambda: model.net.reset_parameters("default", generator(0))
    fit(model, data)
    losses = torch.tensor([sum(terms.values()) for *_, terms in model.seen])
    assert losses[-5:].mean() < share * losses[:3].mean()


def test_networks_that_mix_clips_are_refused(data):
    with pytest.raises(ValueError, match="net tiny: with batch norm"):
        fit(DM(K, SPEC, net=Network("tiny"), iterations=1), data)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (DM, {"chunk": 0}, "model.init_args.chunk must be at least 1, got 0"),
        (NCFM, {"frequencies": 0}, "model.init_args.frequencies"),
        (DM, {"iterations": 0}, "iterations"),
    ],
)
def test_wrong_options_are_named(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(K, SPEC, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RealClips(interval=0), "model.init_args.real.interval must be at least 1, got 0"),
        (
            lambda: Augmentation("color_crap"),
            r"augment.families color_crap: 'crap' is not one of color, crop",
        ),
    ],
)
def test_wrong_groups_of_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
