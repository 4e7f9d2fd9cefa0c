import pytest
import torch
from lightning.pytorch import Trainer

from vdc.methods.base.shard import ShardStrategy, class_blocks, join, owned


@pytest.mark.parametrize(
    ("classes", "ipc", "items"), [(10, 1, 100), (10, 3, 10), (7, 2, 4), (5, 50, 10), (400, 50, 100)]
)
def test_blocks_cover_every_class_once_and_are_no_larger_than_asked(classes, ipc, items):
    blocks = class_blocks(classes, ipc, items)
    assert [k for block in blocks for k in block] == list(range(classes))
    assert all(len(block) * ipc <= items or len(block) == 1 for block in blocks)
    assert max(map(len, blocks)) == min(classes, max(1, items // ipc))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_out_the_blocks(world):
    for blocks in range(world, 13):
        shares = [owned(blocks, rank, world) for rank in range(world)]
        assert [b for share in shares for b in share] == list(range(blocks))
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
        assert sizes[0] == max(sizes)  # process 0 logs: it is never the one that waits


def test_join_is_class_major():
    states = [
        {"videos": torch.tensor([0, 1])},
        {"videos": torch.tensor([2, 3])},
        {"videos": torch.tensor([4])},
    ]
    assert join(states, 5)["videos"].tolist() == [0, 1, 2, 3, 4]


def test_what_classes_share_cannot_be_learnt_in_blocks():
    state = {"stills": torch.zeros(2, 3), "shared.motions": torch.zeros(4)}
    assert join([state], 2) is state
    with pytest.raises(ValueError, match=r"shared\.motions.*2 blocks.*at least 4"):
        join([state, state | {"shared.motions": torch.ones(4)}], 4)


def test_what_blocks_share_and_do_not_learn_is_kept_once():
    states = [{"codes": torch.full((2, 3), i), "shared.mean": torch.ones(5)} for i in (0, 1)]
    found = join(states, 4)
    assert found["codes"].tolist() == [[0] * 3] * 2 + [[1] * 3] * 2
    assert torch.equal(found["shared.mean"], torch.ones(5))


def test_the_strategy_has_a_name():
    trainer = Trainer(
        accelerator="cpu", devices=2, strategy="shard", logger=False, enable_checkpointing=False
    )
    assert isinstance(trainer.strategy, ShardStrategy)
