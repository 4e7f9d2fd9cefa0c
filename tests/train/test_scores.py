"""Scores against loops."""

import pytest
import torch

from vdc.train.scores import VideoScores, pack, unpack


def slow(logits, labels, rows, k):
    videos = {}
    for logit, label, row in zip(logits, labels, rows, strict=True):
        videos.setdefault(int(row), (int(label), []))[1].append(logit.softmax(0))
    top1 = top5 = 0
    confusion, answers = torch.zeros(k, k, dtype=torch.long), []
    for _, (label, clips) in sorted(videos.items()):
        mean = sum(clips) / len(clips)
        ranked = sorted(range(k), key=lambda c: -float(mean[c]))
        top1 += ranked[0] == label
        top5 += label in ranked[:5]
        confusion[label, ranked[0]] += 1
        answers.append(ranked[0] == label)
    return top1 / len(videos), top5 / len(videos), confusion, answers


@pytest.mark.parametrize(("k", "clips"), [(3, 1), (7, 3), (10, 2)])
def test_scores_equal_a_loop_over_videos(k, clips):
    rng = torch.Generator().manual_seed(k)
    rows = torch.randperm(40, generator=rng).repeat_interleave(clips)
    labels = torch.randint(k, (40,), generator=rng)[rows]
    logits = torch.randn(40 * clips, k, generator=rng) * 3
    scores = VideoScores(k)
    for part in torch.arange(len(rows)).split(4 * clips):
        scores.update(logits[part], labels[part], rows[part])
    found = scores.compute()
    top1, top5, confusion, answers = slow(logits, labels, rows, k)
    assert float(found["top1"]) == pytest.approx(top1)
    assert float(found["top5"]) == pytest.approx(top5)
    assert found["confusion"].equal(confusion)
    assert unpack(pack(found["correct"]), 40).tolist() == answers
    share = confusion.diag() / confusion.sum(1)
    torch.testing.assert_close(found["per_class"], share, equal_nan=True)


def test_softmax_not_logits_are_averaged():
    scores = VideoScores(2)  # one clip is sure of class 1, two lean to class 0: probabilities decide for 0
    scores.update(
        torch.tensor([[0.0, 9.0], [1.5, 0.0], [1.5, 0.0]]), torch.zeros(3).long(), torch.zeros(3).long()
    )
    assert float(scores.compute()["top1"]) == 1
    assert float(torch.tensor([[0.0, 9.0], [1.5, 0.0], [1.5, 0.0]]).mean(0).argmax()) == 1


def test_repeated_videos_count_once():
    scores = VideoScores(2)
    right, wrong = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 5.0]])
    for logits, row in ((right, 0), (wrong, 1), (right, 0), (right, 0)):
        scores.update(logits, torch.tensor([0]), torch.tensor([row]))
    found = scores.compute()
    assert float(found["top1"]) == 0.5
    assert int(found["videos"]) == 2


def test_top5_of_few_classes_is_everything_and_absent_classes_have_no_accuracy():
    scores = VideoScores(3)
    scores.update(torch.randn(4, 3), torch.tensor([0, 0, 2, 2]), torch.arange(4))
    found = scores.compute()
    assert float(found["top5"]) == 1
    assert found["per_class"].isnan().tolist() == [False, True, False]


def test_answers_take_a_bit_each_and_their_number_is_checked():
    answers = torch.tensor([True, False, False, False, False, False, False, True, True])
    assert pack(answers) == "gYA="  # 1000 0001, 1000 0000
    assert unpack("gYA=", 9).tolist() == answers.tolist()
    with pytest.raises(ValueError, match="2 bytes of answers for 17 videos"):
        unpack("gYA=", 17)
