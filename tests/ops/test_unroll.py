import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vdc.ops.unroll import Layout, step_loss, trajectory_loss, unroll

K, D = 3, torch.float64


def network(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    layers = [
        nn.Conv3d(2, 4, (3, 3, 3), padding=1),
        nn.GroupNorm(4, 4),  # instance norm with weights
        nn.Softplus(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(4, 3, (1, 3, 3), padding=(0, 1, 1)),
        nn.GroupNorm(3, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(3, K),
    ]
    return nn.Sequential(*layers).to(D).train()


def soft_loss(logits, targets):
    return F.cross_entropy(logits, targets.softmax(1))


def problem(steps: int, net: nn.Module):
    """Learnt clips, labels and step size; overlapping batches of them; a start and a target."""
    g = torch.Generator().manual_seed(1)
    clips = torch.randn(4, 2, 2, 4, 4, generator=g, dtype=D, requires_grad=True)
    labels = torch.randn(4, K, generator=g, dtype=D, requires_grad=True)
    lr = torch.tensor(0.3, dtype=D, requires_grad=True)
    rows = [torch.randperm(4, generator=g)[:3] for _ in range(steps)]
    start = Layout.of(net).flatten(dict(net.named_parameters())).detach()
    target = start + 0.1 * torch.randn(start.shape, generator=g, dtype=D)
    return clips, labels, lr, rows, start, target


def gradients(mode: str, steps: int, net: nn.Module, **options):
    clips, labels, lr, rows, start, target = problem(steps, net)
    batches = [(clips[r] * 2, labels[r]) for r in rows]  # the caller's own graph goes on behind
    value = unroll(
        step_loss(net, soft_loss),
        start,
        batches,
        lr,
        lambda t: trajectory_loss(t, start, target),
        mode,
        **options,
    )
    (3 * value).backward()
    return value.item(), clips.grad, labels.grad, lr.grad


def agree(found, expected, tolerance=1e-8):
    assert found[0] == pytest.approx(expected[0], rel=1e-12)
    for a, b in zip(found[1:], expected[1:], strict=True):
        assert b.abs().max() > 1e-6  # else the comparison says nothing
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_exact_is_full(steps, dropout):
    net = network(dropout)
    full = gradients("full", steps, net)
    agree(gradients("exact", steps, net), full)
    agree(gradients("exact", steps, net, offload=True), full)
    for keep in (2, 4, 5, 9):
        agree(gradients("exact", steps, net, keep=keep), full)


def test_full_is_the_finite_difference():
    """The reference itself, against central differences of plain training steps written out."""
    net = network()
    clips, labels, lr, rows, start, target = problem(2, net)
    value, d_clips, d_labels, d_lr = gradients("full", 2, net)

    def trained(clips, labels, lr):
        theta = {n: p.detach().clone().requires_grad_() for n, p in net.named_parameters()}
        for r in rows:
            loss = soft_loss(torch.func.functional_call(net, theta, clips[r] * 2), labels[r])
            slopes = torch.autograd.grad(loss, list(theta.values()))
            theta = {
                n: (p - lr * s).detach().requires_grad_()
                for (n, p), s in zip(theta.items(), slopes, strict=True)
            }
        end = torch.cat([p.flatten() for p in theta.values()])
        return (((end - target) ** 2).sum() / ((start - target) ** 2).sum()).item()

    arguments = [clips.detach(), labels.detach(), lr.detach()]
    assert trained(*arguments) == pytest.approx(value, rel=1e-12)
    for which, slope in enumerate((d_clips, d_labels, d_lr)):
        direction = torch.randn(slope.shape, generator=torch.Generator().manual_seed(which), dtype=D)
        ends = [
            trained(*(a + e * direction if i == which else a for i, a in enumerate(arguments)))
            for e in (1e-5, -1e-5)
        ]
        assert 3 * (ends[0] - ends[1]) / 2e-5 == pytest.approx((slope * direction).sum().item(), rel=1e-5)


def test_tesla_is_exact_for_one_step_only():
    net = network()
    agree(gradients("tesla", 1, net), gradients("full", 1, net))
    full, tesla = gradients("full", 3, net), gradients("tesla", 3, net)
    assert tesla[0] == pytest.approx(full[0], rel=1e-12)
    assert (tesla[1] - full[1]).abs().max() > 1e-3 * full[1].abs().max()


def test_tesla_is_the_published_formula():
    """Per step: the gradient of 2 (lr (target - start) + lr^2 G) . g_i / D; closed form in lr."""
    net, steps = network(), 3
    clips, labels, lr, rows, start, target = problem(steps, net)
    loss = step_loss(net, soft_loss)
    theta, slopes, passed = start, [], []
    for r in rows:
        leaf = theta.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss(leaf, clips[r] * 2, labels[r]), leaf, create_graph=True)
        slopes.append(g)
        passed.append(theta)
        theta = theta - lr.detach() * g.detach()
    total = sum(g.detach() for g in slopes)
    scale = (start - target).square().sum()
    rate = lr.detach()
    for g in slopes:
        surrogate = 2 * (rate * (target - start) + rate**2 * total) @ g / scale
        (3 * surrogate).backward(inputs=[clips, labels])
    closed = (start - lr * total - target).square().sum() / scale
    (3 * closed).backward(inputs=[lr])
    agree(gradients("tesla", steps, net), (closed.item(), clips.grad, labels.grad, lr.grad))


@pytest.mark.parametrize("mode", ["exact", "full", "tesla"])
def test_a_step_size_of_zero_gives_one(mode):
    net = network()
    clips, labels, _, rows, start, target = problem(3, net)
    value = unroll(
        step_loss(net, soft_loss),
        start,
        [(clips[r], labels[r]) for r in rows],
        torch.tensor(0.0, dtype=D),
        lambda t: trajectory_loss(t, start, target),
        mode,
    )
    assert value.item() == 1.0


@pytest.mark.parametrize("mode", ["exact", "full"])
def test_shared_tensors_hard_labels_and_a_fixed_step_size(mode):
    """The whole set at every step, as one tensor; against the copies of it."""
    net = network()
    clips, _, lr, _, start, target = problem(3, net)
    hard = torch.tensor([0, 1, 2, 0])
    found = []
    for batches in ([(clips, hard)] * 3, [(clips.clone(), hard) for _ in range(3)]):
        loss = step_loss(net, F.cross_entropy)
        value = unroll(loss, start, batches, lr.detach(), lambda t: trajectory_loss(t, start, target), mode)
        found.append(torch.autograd.grad(value, clips)[0])
    assert torch.allclose(*found, rtol=1e-10, atol=1e-14)
    assert found[0].abs().max() > 0


def test_nothing_learnt_and_no_gradients():
    net = network()
    clips, _, lr, rows, start, target = problem(2, net)
    batches = [(clips.detach()[r], torch.tensor([0, 1, 2])) for r in rows]

    def run(mode):
        loss = step_loss(net, F.cross_entropy)
        return unroll(loss, start, batches, lr, lambda t: trajectory_loss(t, start, target), mode)

    full = torch.autograd.grad(run("full"), lr)[0]
    assert torch.autograd.grad(run("exact"), lr)[0].item() == pytest.approx(full.item(), rel=1e-10)
    with torch.no_grad():
        value = run("exact")
    assert not value.requires_grad
    assert value.item() == pytest.approx(run("full").item(), rel=1e-12)
    assert not start.requires_grad  # the caller's tensor is left alone


def test_random_state_is_left_alone_and_the_seed_counts():
    net = network(0.5)
    torch.manual_seed(5)
    expected = torch.rand(1).item()
    torch.manual_seed(5)
    first = gradients("exact", 2, net, seed=1)
    assert torch.rand(1).item() == expected
    assert gradients("exact", 2, net, seed=1)[0] == first[0]
    assert gradients("exact", 2, net, seed=2)[0] != first[0]


@pytest.mark.parametrize("mode", ["exact", "tesla"])
def test_the_walk_runs_in_the_callers_autocast(mode):
    """Lightning calls `backward` outside of it: by then no loss may be left to compute."""
    net = network()
    clips, labels, lr, rows, start, target = problem(4, net)
    inner, calls = step_loss(net, soft_loss), []

    def loss(*tensors):
        calls.append(torch.is_autocast_enabled("cpu"))
        return inner(*tensors)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        batches = [(clips[r], labels[r]) for r in rows]
        value = unroll(loss, start, batches, lr, lambda t: trajectory_loss(t, start, target), mode)
    value.backward()
    assert calls == [True] * 7  # the last step is not computed twice
    assert clips.grad.abs().max() > 0


class Saved:
    """Counts the tensors that graphs keep for their backward pass."""

    def __init__(self):
        self.alive = self.peak = 0

    def pack(self, tensor):
        box = [tensor]
        holder = type("Holder", (), {"box": box})()
        self.alive += tensor.numel()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(holder, self.release, tensor.numel())
        return holder

    def release(self, count):
        self.alive -= count

    def unpack(self, holder):
        return holder.box[0]


def peak(mode: str, steps: int, **options) -> int:
    saved = Saved()
    with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
        gradients(mode, steps, network(), **options)
    return saved.peak


def test_exact_keeps_one_graph_at_a_time():
    small, large = peak("exact", 2), peak("exact", 8)
    assert large - small == 6 * 2 * 3  # the row numbers of the caller's own indexing, nothing else
    assert peak("full", 8) > 3 * peak("full", 2)  # the measure sees growth where there is some


@pytest.mark.parametrize("keep", [1, 3, 8, 20])
def test_kept_graphs_are_not_made_again_and_take_their_memory(keep):
    net, calls = network(), []
    clips, labels, lr, rows, start, target = problem(8, net)
    inner = step_loss(net, soft_loss)

    def loss(*tensors):
        calls.append(1)
        return inner(*tensors)

    batches = [(clips[r], labels[r]) for r in rows]
    unroll(loss, start, batches, lr, lambda t: trajectory_loss(t, start, target), keep=keep)
    assert len(calls) == 2 * 8 - min(keep, 8)
    one, two = peak("exact", 10), peak("exact", 10, keep=2)
    assert peak("exact", 10, keep=4) - two == pytest.approx(2 * (two - one), rel=0.01)
    assert peak("exact", 12, keep=2) - two == 2 * 2 * 3  # of more steps, row numbers only


def test_layout_goes_by_name():
    net = network()
    params = {n: p.detach() for n, p in net.named_parameters()}
    layout = Layout.of(net)
    theta = layout.flatten(dict(sorted(params.items(), reverse=True)))
    assert torch.equal(theta, torch.nn.utils.parameters_to_vector(net.parameters()))
    assert all(torch.equal(back, params[n]) for n, back in layout.unflatten(theta).items())
    with pytest.raises(ValueError, match=r"another network.*0\.bias"):
        layout.flatten({n: p for n, p in params.items() if n != "0.bias"})
    with pytest.raises(ValueError, match=r"0\.bias is \(5,\), the network has \(4,\)"):
        layout.flatten({**params, "0.bias": torch.zeros(5)})


def test_step_loss_leaks_no_running_statistics():
    net = nn.Sequential(nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2 * 2 * 4 * 4, K)).to(D).train()
    clips, _, _, _, start, _ = problem(1, net)
    step_loss(net, F.cross_entropy)(start, clips.detach(), torch.tensor([0, 1, 2, 0]))
    assert net[0].running_mean.tolist() == [0, 0]
    assert net[0].num_batches_tracked.item() == 0


def test_refuses():
    net = network()
    clips, labels, lr, _, start, _ = problem(1, net)
    with pytest.raises(ValueError, match="exact, full or tesla"):
        unroll(step_loss(net, soft_loss), start, [(clips, labels)], lr, torch.sum, "fast")
    with pytest.raises(ValueError, match="keep must be at least 1"):
        unroll(step_loss(net, soft_loss), start, [(clips, labels)], lr, torch.sum, keep=0)
    with pytest.raises(ValueError, match="no steps"):
        unroll(step_loss(net, soft_loss), start, [], lr, torch.sum)
