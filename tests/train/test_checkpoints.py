"""Checkpoints as files: whole ones, damaged ones, and weights that a spawned process hands back."""

import pytest
import torch

from vdc.train.checkpoints import WholeFiles, read_checkpoint


def test_weights_of_a_spawned_process_come_back(tmp_path):
    """Lightning's `ddp_spawn` sends a bare state dict through the same files."""
    weights = {"memory.clips": torch.arange(6.0)}
    WholeFiles().save_checkpoint(weights, tmp_path / "weights.ckpt")
    assert (
        WholeFiles().load_checkpoint(tmp_path / "weights.ckpt")["memory.clips"].equal(weights["memory.clips"])
    )


def test_they_are_no_checkpoint_to_go_on_from(tmp_path):
    WholeFiles().save_checkpoint({"memory.clips": torch.zeros(2)}, tmp_path / "weights.ckpt")
    with pytest.raises(ValueError, match=r"weights.ckpt is no checkpoint of a training run"):
        read_checkpoint(tmp_path / "weights.ckpt")


def test_a_damaged_file_is_named(tmp_path):
    WholeFiles().save_checkpoint({"memory.clips": torch.zeros(2)}, tmp_path / "cut.ckpt")
    whole = (tmp_path / "cut.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut.ckpt is no checkpoint, or a damaged one"):
        WholeFiles().load_checkpoint(tmp_path / "cut.ckpt")


def test_a_bit_that_fell_over_is_seen(tmp_path):
    """PyTorch itself would read other numbers."""
    path = tmp_path / "old.ckpt"
    WholeFiles().save_checkpoint({"memory.clips": torch.full((99,), 0.3)}, path)
    whole = bytearray(path.read_bytes())
    place = whole.index(torch.full((9,), 0.3).numpy().tobytes())
    whole[place + 6] ^= 1
    path.write_bytes(whole)
    assert not torch.load(path)["memory.clips"].eq(0.3).all()
    with pytest.raises(ValueError, match=r"old.ckpt is no checkpoint, or a damaged one"):
        WholeFiles().load_checkpoint(path)
