"""What is free: of the machine, within a container's limit, shared by processes."""

import pytest
import torch

from vdc.data.readers.base import BadVideo, naming
from vdc.system import memory
from vdc.system.memory import free_memory, memory_error


def test_free_memory_is_positive_and_below_that_of_the_container(tmp_path, monkeypatch):
    real = free_memory()
    assert real > 1e6
    group = tmp_path / "cgroup"
    group.mkdir()
    (group / "memory.max").write_text("5000000\n")
    (group / "memory.current").write_text("3000000\n")
    (group / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    monkeypatch.setattr(memory, "GROUP", group)
    assert free_memory() == 2500000
    assert free_memory(sharing=2) == 1250000
    (group / "memory.max").write_text("max\n")
    assert free_memory() > 1e6


def test_where_the_kernel_says_nothing_half_of_the_memory_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__)
    assert free_memory() == 2048000


def test_what_torch_says_of_short_memory_becomes_a_remedy():
    with pytest.raises(RuntimeError) as short:
        torch.empty(2**60, dtype=torch.uint8)
    wrapped = ValueError("a parser's")
    wrapped.__cause__ = short.value
    for error in (short.value, wrapped):
        assert "1073741824.0 GiB asked for" in str(memory_error(error))
    assert "smaller batch" in str(memory_error(torch.OutOfMemoryError("CUDA out of memory")))
    assert memory_error(ValueError("else")) is None
    assert "are free on this machine" in str(memory_error(MemoryError()))


def test_a_damaged_video_is_no_short_memory():
    with pytest.raises(BadVideo, match=r"x\.mp4: cannot be decoded") as damaged, naming("x.mp4"):
        raise MemoryError
    assert memory_error(damaged.value) is None
