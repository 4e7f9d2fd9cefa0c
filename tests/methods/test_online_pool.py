"""FRePo's pool of networks: ages, a step, going on from a state."""

import pytest
import torch

from tests.methods.tiny import SPEC, K
from vdc.methods.online_pool import OnlinePool
from vdc.nets import build


def pool(size=3, max_age=4, seed=1):
    nets = [build("tiny", K, SPEC, norm="in") for _ in range(size)]
    return OnlinePool(nets, max_age, 1e-2, seed)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_ages_are_staggered_and_old_networks_start_afresh():
    nets, clips, targets = pool(2, 4), torch.randn(4, 3, 4, 16, 16), torch.randn(4, K)
    assert nets.ages == [0, 2]
    begun = weights(nets.nets[1])
    assert not torch.equal(begun, weights(nets.nets[0]))
    for _ in range(2):
        nets.advance(1, clips, targets)
    grown = weights(nets.nets[1])
    assert nets.ages == [0, 4]
    assert not torch.equal(begun, grown)
    nets.advance(1, clips, targets)  # too old: a new life instead of a step
    assert (nets.ages, nets.lives, nets.steps) == ([0, 0], [0, 1], 3)
    fresh = weights(nets.nets[1])
    assert not torch.equal(fresh, begun)
    assert not torch.equal(fresh, grown)
    assert not nets.optimizers[1].state


def test_a_step_is_that_of_adam_on_the_squared_error():
    nets, other = pool(1), pool(1)
    clips, targets = torch.randn(4, 3, 4, 16, 16), torch.randn(4, K)
    nets.advance(0, clips, targets)
    net = other.nets[0].train()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    ((net(clips) - targets) ** 2).mean().backward()
    optimizer.step()
    assert torch.equal(weights(nets.nets[0]), weights(net))


def test_a_pool_goes_on_from_its_state():
    clips, targets = torch.randn(4, 3, 4, 16, 16), torch.randn(4, K)
    whole, half = pool(), pool()
    for i in (0, 1, 2, 2, 1, 0):
        whole.advance(i, clips, targets)
    for i in (0, 1, 2):
        half.advance(i, clips, targets)
    again = pool(seed=1)
    again.load_state_dict(half.state_dict())
    for i in (2, 1, 0):
        again.advance(i, clips, targets)
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(whole.nets, again.nets, strict=True))
    assert (whole.ages, whole.steps) == (again.ages, again.steps)
    with pytest.raises(ValueError, match="a pool of 3 networks, this run has 2"):
        pool(2).load_state_dict(half.state_dict())
