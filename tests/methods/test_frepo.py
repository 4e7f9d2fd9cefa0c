"""FRePo against closed forms."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from tests.methods.test_online_pool import pool, weights
from tests.methods.tiny import SPEC, K, fit, toy
from vdc.condensed.format import load
from vdc.methods import FRePo
from vdc.methods.base.options import Network
from vdc.methods.frepo import Regression, as_logits
from vdc.ops.ridge import centred_labels

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(toy_root):
    return toy(toy_root)


def make(**options):
    given = {"net": Network("tiny", {"norm": "in"}), "pool_size": 3, "max_age": 4, "ipc": 2, "seed": 1}
    given["optimizer"] = partial(torch.optim.Adam, lr=0.05)
    return FRePo(K, SPEC, **given | options)


def opened(module):
    class Still(type(module)):
        global_step = 0
        global_rank = 0
        device = CPU

    module.__class__ = Still
    module.pool = pool()
    with torch.no_grad():
        module.memory.videos.normal_(generator=torch.Generator().manual_seed(0))
    return module


# -- the loss ------------------------------------------------------------------------------------------------


def test_loss_is_the_ridge_regression_of_the_paper():
    module, rng = opened(make(reg=1e-3)), torch.Generator().manual_seed(2)
    real, labels = torch.randn(5, 3, 4, 16, 16, generator=rng), torch.tensor([0, 1, 2, 3, 0])
    net = module.pool.nets[0].eval()
    fs, ft = (net.embed(x).double() for x in (module.memory.videos, real))
    kernel = fs @ fs.T
    kernel = kernel + 1e-3 * kernel.trace() / len(kernel) * torch.eye(len(kernel))
    found = ft @ fs.T @ torch.linalg.inv(kernel) @ module.memory.logits.double()
    wanted = torch.nn.functional.one_hot(labels, K) - 1 / K
    expected = ((found - wanted) ** 2).sum(1).mean()
    context = Regression(net.embed(real).detach(), labels, centred_labels(labels, K), 0)
    terms = module.loss(*module.memory.render(torch.arange(2 * K)), context)
    assert terms["regression"].item() == pytest.approx(expected.item(), rel=1e-4)
    grads = torch.autograd.grad(sum(terms.values()), [module.memory.videos, module.memory.logits])
    assert all(torch.isfinite(g).all() and g.abs().max() > 0 for g in grads)


def test_support_as_targets_is_predicted_without_error():
    module = opened(make(reg=0.0, lr_labels=0))
    clips, labels = module.memory.render(torch.arange(2 * K))
    features = module.pool.still(1).embed(clips).detach()
    terms = module.loss(clips, labels, Regression(features, labels.argmax(1), labels, 1))
    assert terms.keys() == {"regression"}
    assert terms["regression"].item() < 1e-10


def test_repeated_clips_give_finite_values():
    module = opened(make(reg=0.0))
    with torch.no_grad():
        module.memory.videos[:] = module.memory.videos[0]
    clips, labels = module.memory.render(torch.arange(2 * K))
    features = module.pool.still(0).embed(clips).detach() + 1
    value = sum(
        module.loss(clips, labels, Regression(features, labels.argmax(1), labels.detach(), 0)).values()
    )
    (grad,) = torch.autograd.grad(value, module.memory.videos)
    assert torch.isfinite(value)
    assert torch.isfinite(grad).all()


def test_features_are_of_a_network_that_holds_still():
    module = opened(make())
    module.pool.nets[0].train()
    net = module.pool.still(0)
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())


# -- labels --------------------------------------------------------------------------------------------------


def test_labels_start_centred_and_scaled():
    start = make().memory.logits
    scale = (K / 10) ** 0.5
    assert start[0].tolist() == pytest.approx([0.75 / scale, *[-0.25 / scale] * 3])
    assert start.sum(1).abs().max() < 1e-6


def test_stored_labels_are_logits_of_the_class_probabilities():
    scale = (K / 10) ** 0.5
    learnt = torch.tensor([[0.5, 0.2, 0.2, 0.1], [1.3, -0.4, 0.0, 0.1]])  # the second is no distribution
    stored = as_logits((learnt - 1 / K) / scale, scale)
    assert torch.allclose(stored.softmax(1)[0], learnt[0])
    clipped = torch.tensor([1.3, 0.0025, 0.0025, 0.1])
    assert torch.allclose(stored.softmax(1)[1], clipped / clipped.sum())
    assert stored.mean(1).abs().max() < 1e-6
    hard = as_logits(centred_labels(torch.tensor([2]), K) / scale, scale)
    assert hard.argmax().item() == 2
    assert 5 < (hard.max() - hard.min()).item() < 7  # ln(1 / 0.0025)


# -- runs ----------------------------------------------------------------------------------------------------


def test_a_run_learns_clips_and_labels_and_writes_them(data, tmp_path):
    module = make(out=str(tmp_path / "set"))
    begun = module.memory.logits.detach().clone()
    fit(module, data, max_steps=7)
    stored = load(tmp_path / "set")
    assert stored.labels.kind == "soft"
    assert torch.equal(stored.labels.soft, as_logits(module.memory.logits.detach(), module.scale).half())
    assert not torch.equal(begun, module.memory.logits)
    assert (stored.labels.soft.float().argmax(1) == stored.labels.hard).all()
    assert module.pool.steps == 6  # that of the last step nobody needs
    assert {name for name, _ in module.named_parameters()} == {"memory.videos", "memory.logits"}


def test_a_resumed_run_ends_as_a_whole_one(data, tmp_path):
    whole = fit(make(), data, max_steps=7)
    keep = ModelCheckpoint(tmp_path, "at", every_n_train_steps=4, save_top_k=-1)
    part = fit(make(), data, max_steps=5, enable_checkpointing=True, callbacks=[keep])
    again = fit(make(), data, str(tmp_path / "at.ckpt"), max_steps=7)
    assert torch.equal(whole.memory.videos, again.memory.videos)
    assert torch.equal(whole.memory.logits, again.memory.logits)
    assert all(
        torch.equal(weights(a), weights(b)) for a, b in zip(whole.pool.nets, again.pool.nets, strict=True)
    )
    assert not torch.equal(part.memory.videos, again.memory.videos)


def test_fixed_labels_stay(data):
    module = make(lr_labels=0)
    begun = module.memory.logits.detach().clone()
    fit(module, data, max_steps=2)
    assert torch.equal(begun, module.memory.logits)


def test_what_is_not_finite_stops_with_the_last_good_state(data, tmp_path):
    class Broken(FRePo):
        def loss(self, clips, labels, context):
            terms = super().loss(clips, labels, context)
            return {n: t * (float("nan") if self.global_step == 1 else 1) for n, t in terms.items()}

    module = make()
    module.__class__ = Broken
    with pytest.raises(ValueError, match=r"not finite at step 1 \(network \d of age \d\)"):
        fit(module, data, max_steps=3, default_root_dir=str(tmp_path))
    again = fit(make(), data, str(tmp_path / "last_good.ckpt"), max_steps=3)
    whole = fit(make(), data, max_steps=3)
    assert torch.equal(whole.memory.videos, again.memory.videos)


@pytest.mark.parametrize("name", ["pool_size", "max_age", "online_batch"])
def test_silly_counts_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        make(**{name: 0})


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        FRePo(1, SPEC)
