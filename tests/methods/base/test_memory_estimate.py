import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.methods.tiny import SPEC, K, fit, make_teacher, toy
from vdc.condensed.memory import Pixels
from vdc.methods import DC, DM, IDC, NCFM
from vdc.methods.base import memory_estimate
from vdc.methods.base.options import Augmentation, Network
from vdc.nets import build, load_teacher

CPU = torch.device("cpu")


def test_activations_are_what_the_layers_give_out(tmp_path):
    teacher = load_teacher(make_teacher(tmp_path / "teacher"))
    first, second = 4 * 4 * 8 * 8, 6 * 4 * 4 * 4  # floats from each convolution, and from its norm
    outputs = 2 * first + 2 * second + 6 + 4  # features after the dropout, logits
    assert memory_estimate.activation_bytes(teacher) == 4 * (outputs + 2 * first)


def test_what_fits_is_said_and_what_does_not_is_refused(monkeypatch):
    said = []
    monkeypatch.setattr(memory_estimate, "rank_zero_info", said.append)
    monkeypatch.setattr(memory_estimate, "free_memory", lambda *_: 3 * 2**30)
    memory_estimate.check({"pixels": 2**31, "views": 2**20}, CPU, "less")
    assert said == ["about 2.0 GiB of memory needed on cpu: pixels 2.0 GiB, views 1.0 MiB"]
    with pytest.raises(ValueError, match=r"about 4.0 GiB .*\(pixels 4.0 GiB\), but 3.0 GiB are free: less"):
        memory_estimate.check({"pixels": 2**32}, CPU, "less")


def test_the_load_of_clips_is_what_graphs_keep():
    net = build("tiny", K, SPEC, norm="in")
    one = memory_estimate.load_of(net, 4, net.embed)
    conv1, conv2, clip = 4 * 4 * 8 * 8, 6 * 4 * 4 * 4, 3 * 4 * 16 * 16  # numbers
    assert one.width == conv2
    assert one.largest == 4 * conv1
    least = clip + 2 * conv1 + 2 * conv2  # inputs of convolutions, norms and the last ReLU
    assert 4 * least <= one.kept <= 4 * (least + conv1 + 50)
    assert one.fixed < 100


class Held(TorchDispatchMode):
    """Bytes of the storages that operators made and that are still alive: now, and at most.

    Not the profiler's memory events: in a process of some age it loses them.
    """

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for tensor in self.tensors((args, kwargs)):
            self.see(tensor.untyped_storage(), new=False)  # of before
        out = func(*args, **(kwargs or {}))
        for tensor in self.tensors(out):
            self.see(tensor.untyped_storage(), new=True)
        return out

    @staticmethod
    def tensors(tree):
        return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]

    def see(self, storage, new):
        if (key := storage._cdata) not in self.known:
            size = storage.nbytes() if new else 0
            self.known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.gone, key, size)

    def gone(self, key, size):
        self.known.discard(key)
        self.now -= size


def test_what_is_held_is_counted():
    before = torch.ones(1000)
    with Held() as held:
        view = before[:10]
        a = torch.ones(100, requires_grad=True)
        b = (a * 2).exp()  # saved by the graph, and so alive
        kept = b.sum()
        assert (held.now, held.most) == (4 * 201, 4 * 300)  # a * 2 was there when b was made
        del b
        assert held.now == 4 * 201
        kept.backward()
        del kept
        assert held.now == 4 * 200  # a and its gradient
    assert len(view) == 10


def allocated(run):
    """Most bytes that were held while something ran, above those at its start."""
    with Held() as held:
        run()
    return held.most


@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (DM, {"ipc": 4, "chunk": 8}),
        (NCFM, {"ipc": 4, "chunk": 8, "frequencies": 64, "memory": Pixels, "augment": Augmentation()}),
        (DC, {"ipc": 4, "outer": 2, "inner": 1, "init": "real"}),
        (IDC, {"ipc": 1, "outer": 2, "inner": 1, "net_batch": 12, "augment": Augmentation()}),
    ],
)
def test_matching_takes_what_it_said(toy_root, monkeypatch, cls, options):
    """Against the allocator: the estimate holds to 5 %, and is at most half as much again."""
    demanded = {}
    monkeypatch.setattr("vdc.methods.base.blocks.check", lambda parts, *_: demanded.update(parts))
    model = cls(K, SPEC, net=Network("tiny", {"norm": "in"}), iterations=2, **options)
    data = toy(toy_root, per_class=5)
    most = allocated(lambda: fit(model, data))
    assert 0.95 * most <= sum(demanded.values()) <= 1.5 * most, demanded
