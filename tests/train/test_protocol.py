"""Protocols against the numbers of the papers, worked out by hand."""

import pytest

from vdc.train.protocol import Protocol, check_epochs, lr_factor, named


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (150, 0.853553), (300, 0.5)])
def test_videodc_schedule_ends_at_half(epoch, factor):
    assert lr_factor(Protocol(), epoch) == pytest.approx(factor, abs=1e-6)  # 0.5 (1 + cos(pi e / 600))


@pytest.mark.parametrize(("epoch", "factor"), [(0, 1.0), (150, 0.5), (300, 0.0)])
def test_zeta_one_is_the_full_cosine(epoch, factor):
    assert lr_factor(Protocol(zeta=1), epoch) == pytest.approx(factor, abs=1e-9)


@pytest.mark.parametrize(
    ("epoch", "factor"), [(0, 0.1), (5, 0.55), (10, 1), (89, 1), (90, 0.1), (129, 0.1), (130, 0.01)]
)
def test_teacher_schedule(epoch, factor):
    assert lr_factor(named("teacher"), epoch) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("s2d", [(0, 1), (249, 1), (250, 0.1)]), ("mdc", [(666, 1), (667, 0.2), (832, 0.2), (833, 0.04)])],
)
def test_step_schedules(name, changes):
    for epoch, factor in changes:
        assert lr_factor(named(name), epoch) == pytest.approx(factor)


def test_checks_are_those_of_the_reference():
    assert check_epochs(300) == list(range(209, 300, 10))


@pytest.mark.parametrize("epochs", [1, 2, 7, 30])
def test_checks_of_short_runs_end_with_the_last_epoch(epochs):
    looks = check_epochs(epochs)
    assert looks[-1] == epochs - 1
    assert min(looks) >= 0
    assert len(set(looks)) == len(looks) <= 10


def test_hard_labels_fall_back_to_cross_entropy():
    assert Protocol().with_labels("hard").loss == "ce"
    assert Protocol().with_labels("views") == Protocol(labels="views", loss="mse_gt")
    assert Protocol(labels="live").with_labels("soft").loss == "mse_gt"
    assert Protocol(loss="ce").with_labels("views").labels == "hard"
    assert Protocol(labels="hard").with_labels("views").labels == "hard"


@pytest.mark.parametrize("loss", ["mse_gt", "kl", "soft_ce", "mse"])
def test_soft_losses_refuse_hard_labels(loss):
    with pytest.raises(ValueError, match=f"protocol.loss {loss} needs soft targets"):
        Protocol(labels="hard", loss=loss)
    with pytest.raises(ValueError, match=f"protocol.loss {loss} needs soft targets"):
        Protocol(loss=loss).with_labels("hard")


@pytest.mark.parametrize("labels", ["soft", "views", "live"])
def test_cross_entropy_refuses_soft_labels(labels):
    with pytest.raises(ValueError, match=f"ignore {labels} labels"):
        Protocol(labels=labels, loss="ce")


@pytest.mark.parametrize(
    ("field", "value"),
    [("epochs", 0), ("lr", 0.0), ("lr", -0.1), ("cutmix", 1.5), ("ema", 1.0), ("crop_scale", (0.5, 0.2)),
     ("batch_size", 0), ("milestones", (1.0,)), ("warmup_epochs", -1), ("test_passes", -1)],
)  # fmt: skip
def test_impossible_settings_are_refused_by_name(field, value):
    with pytest.raises(ValueError, match=f"protocol.{field}"):
        Protocol(**{field: value})


def test_a_learnt_rate_comes_from_the_set():
    asked = named("mtt", epochs=3)
    assert asked.with_rate({"step_size": 0.037}, "a set") == named("mtt", epochs=3, lr=0.037)
    assert named("s2d").with_rate({"step_size": 0.037}, "a set") == named("s2d")
    with pytest.raises(ValueError, match=r"protocol\.lr learnt: runs/dm has no learnt step size"):
        named("datm").with_rate({}, "runs/dm")


def test_unknown_protocol_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean 'protocol_videodc\.yaml'"):
        named("vidodc")


def test_named_takes_changes():
    assert named("s2d", epochs=3).epochs == 3
    assert named("s2d").name == "s2d"
    assert named("videodc") == Protocol()
