"""DATM's start: the clips and the logits of the experts that are right."""

import pytest
import torch

from tests.methods.tiny import SPEC, K, toy
from vdc.methods.expert_choice import correct_clips, expert_logits, first_right, mean_expert_logits
from vdc.nets.experts import load_experts


@pytest.fixture(scope="module")
def data(toy_root):
    return toy(toy_root)


def test_labels_start_at_the_mean_of_those_who_are_right():
    labels = torch.tensor([0, 1, 1])
    one = torch.tensor([[4.0, 0.0], [0.0, 6.0], [3.0, 1.0]])  # right, right, wrong
    two = torch.tensor([[0.0, 2.0], [2.0, 4.0], [5.0, 0.0]])  # wrong, right, wrong
    expected = torch.tensor([[4.0, 0.0], [1.0, 5.0], [4.0, 0.5]])  # only one; both; nobody: all
    assert torch.equal(mean_expert_logits(iter([one, two]), labels), expected)


def test_experts_are_asked_until_enough_is_right():
    labels = torch.tensor([0, 0, 1, 1])
    answers = [torch.eye(2)[torch.tensor(said)] for said in ([0, 1, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1])]
    asked = []

    def ask():
        for number, answer in enumerate(answers):
            asked.append(number)
            yield answer

    assert first_right(ask(), labels, 1).tolist() == [0, 1, 1, 2]
    assert asked == [0, 1]
    assert first_right(iter(answers), labels, 2).tolist() == [0, 1, 1, 2]


def test_clips_to_start_from_are_right_by_the_earliest_expert(experts, data):
    held, cpu = load_experts(experts), torch.device("cpu")
    data.setup("fit")
    chosen = correct_clips(data, held, 2, 0, cpu)
    assert chosen.shape == (K, 2, 3, 4, 16, 16)
    pool = data.sample(5, 0)
    labels = torch.arange(K).repeat_interleave(5)
    right = torch.stack([v.argmax(1) == labels for v in expert_logits(held, pool.flatten(0, 1), SPEC, cpu)])
    first = torch.where(right.any(0), right.int().argmax(0), len(held)).view(K, 5)
    assert 0 < right.any(0).sum() < len(labels)  # else the choice says nothing
    for k in range(K):
        order = first[k].argsort(stable=True)[:2]
        assert torch.equal(chosen[k], pool[k, order])
