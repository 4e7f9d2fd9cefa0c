"""Weights from elsewhere: what is read, refused, replaced and remembered; torchvision's own network is the oracle."""

import os
import pickle
import re

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import get_model_weights
from torchvision.models.video import R3D_18_Weights, r3d_18

from vdc.nets import build, load_teacher, names, save_teacher
from vdc.nets.transformers import NAMES
from vdc.nets.weights import Weights, bare, find_weights, last_layer, start_from
from vdc.ops.pixels import to_clips
from vdc.spec import MEAN, STD, ClipSpec
from vdc.system.files import sha256

SPEC = ClipSpec(frames=8, size=48)
KINETICS = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's cache, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    return tmp_path / "hub/checkpoints"


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A file of weights of torchvision's R3D-18, and the start of its hash."""
    path = tmp_path_factory.mktemp("published") / "new.pth"
    torch.manual_seed(0)
    torch.save(r3d_18(num_classes=400).state_dict(), path)
    return path, sha256(path)[:8]


@pytest.fixture
def kinetics(published, cache, monkeypatch):
    """torchvision's R3D-18 with random weights in the cache, under a name that tells the hash of these."""
    name = f"r3d_18-{published[1]}.pth"
    os.link(published[0], cache / name)
    twin = r3d_18(num_classes=400)
    twin.load_state_dict(torch.load(published[0], weights_only=True))
    url = property(lambda self: f"https://download.pytorch.org/models/{name}")
    monkeypatch.setattr(R3D_18_Weights, "url", url)
    return twin.eval()


def raw(n=2):
    rng = torch.Generator().manual_seed(1)
    return torch.randint(256, (n, 8, 48, 48, 3), generator=rng, dtype=torch.uint8)


def as_torchvision_shows(frames, mean, std):
    clips = frames.permute(0, 4, 1, 2, 3).float() / 255
    return (clips - torch.tensor(mean).view(3, 1, 1, 1)) / torch.tensor(std).view(3, 1, 1, 1)


def begin(file, net, classes=None, **options):
    return start_from(net, find_weights(Weights(str(file), **options), [net.name]), classes)


@pytest.mark.parametrize("given", ["torchvision:r3d_18", "torchvision:R3D_18_Weights.KINETICS400_V1", "file"])
def test_logits_are_those_of_the_plain_torchvision_model(kinetics, cache, given):
    given = str(next(cache.iterdir())) if given == "file" else given  # known by its hash, wherever it lies
    net = build("r3d_18", 400, SPEC).eval()
    assert begin(given, net) is None
    with torch.no_grad():
        expected = kinetics(as_torchvision_shows(raw(), *KINETICS))
        assert torch.allclose(net(to_clips(raw())), expected, atol=1e-4)
        assert not torch.allclose(kinetics(to_clips(raw())), expected, atol=1e-2)  # colours do matter
        kinetics.fc = torch.nn.Identity()
        features = kinetics(as_torchvision_shows(raw(), *KINETICS))
    assert torch.allclose(net.features(to_clips(raw())), features, atol=1e-4)


def test_what_is_known_of_weights(kinetics, cache):
    found = find_weights(Weights("torchvision:r3d_18", freeze=True), ["r3d_18"])
    told = found.about
    assert told["name"] == "torchvision:R3D_18_Weights.KINETICS400_V1"
    assert told["sha256"] == sha256(next(cache.iterdir()))
    assert (tuple(told["mean"]), tuple(told["std"]), told["frozen"]) == (*KINETICS, True)
    assert "states none for these weights, trained on Kinetics-400" in told["licence"]
    assert found.classes == get_model_weights("r3d_18").DEFAULT.meta["categories"]
    other = find_weights(Weights("torchvision:r3d_18", normalisation=((0.5,) * 3, (0.5,) * 3)), ["r3d_18"])
    assert other.colours == ((0.5,) * 3, (0.5,) * 3)


def test_a_missing_file_of_torchvision_says_where_to_get_it(cache):
    with pytest.raises(FileNotFoundError) as told:
        find_weights(Weights("torchvision:r3d_18"), ["r3d_18"])
    url = "https://download.pytorch.org/models/r3d_18-b3b3357e.pth"
    path = cache / "r3d_18-b3b3357e.pth"
    assert f"{path}: torchvision's R3D_18_Weights.KINETICS400_V1 is not there" in str(told.value)
    assert f"`curl --create-dirs -Lo {path} {url}`" in str(told.value)
    path.write_bytes(b"half of it")
    with pytest.raises(
        ValueError, match=r"sha256 \w{12}, but its name says b3b3357e: get it again from https"
    ):
        find_weights(Weights("torchvision:r3d_18"), ["r3d_18"])


def test_names_that_are_none(cache, tmp_path):
    for given, told in (
        ("torchvision:r3d18", "torchvision:r3d18 is unknown: did you mean .*r3d_18"),
        ("torchvision:mc3_18", "torchvision:mc3_18 is of net mc3_18, not of r3d_18"),
        (str(tmp_path / "x.pth"), "x.pth: no such file, nor folder of a teacher"),
        (str(tmp_path), "no such file, nor folder of a teacher"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=told):
            find_weights(Weights(given), ["r3d_18"])
    with pytest.raises(ValueError, match="are of one network: give one, not minic3d, i3d"):
        find_weights(Weights("torchvision:r3d_18"), ["minic3d", "i3d"])


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "ddp"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
def test_files_of_tensors(tmp_path, suffix, wrap):
    net, twin = build("minic3d", 3, SPEC).eval(), build("minic3d", 3, SPEC).eval()
    state = {f"module.{k}" if wrap == "ddp" else k: v for k, v in twin.state_dict().items()}
    path = tmp_path / f"w{suffix}"
    if suffix == ".safetensors":
        save_file(state, path, {"license": "CC0"})
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrap == "state_dict" else state, path)
    assert begin(path, net) is None
    assert torch.equal(net(to_clips(raw())), twin(to_clips(raw())))
    found = find_weights(Weights(str(path)), ["minic3d"])
    assert (found.name, found.colours) == (path.name, (MEAN, STD))
    assert found.licence == ("CC0" if suffix == ".safetensors" else "not stated by the file")


def test_a_pickle_that_runs_code_is_not_loaded(tmp_path):
    ran = []

    class Bomb:
        def __reduce__(self):
            return (ran.append, (1,))

    path = tmp_path / "w.pth"
    torch.save(build("minic3d", 3, SPEC), path)  # a whole module
    with pytest.raises(
        ValueError, match=r"w.pth holds more than tensors \(vdc.nets.minic3d.MiniC3D\), and could run"
    ):
        begin(path, build("minic3d", 3, SPEC))
    path.write_bytes(pickle.dumps({"fc.weight": Bomb()}))
    with pytest.raises(
        ValueError, match=r"w\.pth (holds more than tensors \(builtins.getattr\)|is no file of)"
    ) as told:
        begin(path, build("minic3d", 3, SPEC))
    assert "\n" not in str(told.value)
    assert ran == []


def test_files_that_are_no_weights(tmp_path):
    for name, write, told in (
        ("w.npz", lambda path: path.write_bytes(b"x"), "weights are read from .safetensors, .pth"),
        (
            "w.pth",
            lambda path: path.write_bytes(b"x" * 99),
            "no file of weights, or a damaged one",
        ),
        ("w.safetensors", lambda path: path.write_bytes(b"x" * 99), "no safetensors file, or a damaged one"),
        ("w.pth", lambda path: torch.save([1], path), "holds no state_dict"),
        (
            "w.pth",
            lambda path: torch.save({"a": torch.tensor([float("nan")])}, path),
            "'a' holds numbers that are not",
        ),
    ):
        write(tmp_path / name)
        with pytest.raises(ValueError, match=told):
            begin(tmp_path / name, build("minic3d", 3, SPEC))


def test_the_first_wrong_tensor_is_named(tmp_path):
    net = build("minic3d", 3, SPEC)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for change, told in (
        (
            lambda s: s.pop("norms.1.bias"),
            "tensor 'norms.1.bias' of net minic3d is missing: the file begins with",
        ),
        (
            lambda s: s.update(extra=torch.zeros(1)),
            "tensor 'extra' is none of net minic3d's: it is of another",
        ),
        (
            lambda s: s.update({"convs.0.bias": torch.zeros(7)}),
            r"convs.0.bias is of shape \(7,\), net minic3d has \(64,\)",
        ),
    ):
        state = build("minic3d", 3, SPEC).state_dict()
        change(state)
        save_file(state, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=told):
            begin(tmp_path / "w.safetensors", net)
        assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # all or nothing


def test_the_last_layer_starts_afresh_where_classes_differ(tmp_path):
    twin = build("minic3d", 5, SPEC)
    save_teacher(tmp_path / "t", twin, {"classes": ["a", "b", "c", "d", "e"]})

    def start(k, classes, file="t"):
        net = build("minic3d", k, SPEC)
        fresh = net.fc.weight.clone()
        why = begin(tmp_path / file, net, classes)
        assert torch.equal(net.convs[0].weight, twin.convs[0].weight)
        assert torch.equal(net.fc.weight, twin.fc.weight if why is None else fresh)
        return why

    assert start(5, ["A", "b", "c", "d", "e"]) is None  # spelled differently
    assert start(5, ["b", "a", "c", "d", "e"]) == "the file's is of 5 other classes"
    assert start(3, ["a", "b", "c"]) == "the file's tells 5 classes apart, the data has 3"
    save_file({k: v for k, v in twin.state_dict().items() if k[:2] != "fc"}, tmp_path / "w.safetensors")
    assert start(5, None, "w.safetensors") == "the file has none"


def test_a_teacher_keeps_the_colours_of_its_weights(tmp_path):
    net = build("minic3d", 2, SPEC).eval()
    net.recolour(*KINETICS)
    save_teacher(tmp_path, net, {"classes": ["a", "b"]})
    teacher = load_teacher(tmp_path, ["a", "b"], SPEC)
    plain = build("minic3d", 2, SPEC).eval()
    plain.load_state_dict(net.state_dict())
    x = to_clips(raw())
    assert torch.allclose(teacher(x), net(x), atol=1e-5)
    assert torch.allclose(teacher(x), plain(as_torchvision_shows(raw(), *KINETICS)), atol=1e-4)
    assert find_weights(Weights(str(tmp_path)), ["minic3d"]).colours == KINETICS


def test_frozen_networks_learn_their_last_layer_alone(tmp_path):
    net = build("r3d_18", 3, SPEC)
    save_file(net.state_dict(), tmp_path / "w.safetensors")
    begin(tmp_path / "w.safetensors", net, freeze=True)
    assert [n for n, p in net.named_parameters() if p.requires_grad] == ["net.fc.weight", "net.fc.bias"]
    assert [n for n, m in net.named_modules() if m.training] == ["net.fc"]


@pytest.mark.parametrize("name", names())
def test_the_last_layer_gives_the_logits(name):
    if name in NAMES:
        pytest.importorskip("transformers")
    spec = ClipSpec(frames=1, size=224) if name == "convnet2d" else ClipSpec(frames=16, size=224)
    with torch.device("meta"):
        layer = build.__globals__["_maker"](name)(7, spec)
        assert len(layer.get_submodule(last_layer(layer)).weight) == 7


def test_wrappers_are_taken_off_where_all_names_have_them():
    assert bare(["module.net.a", "module.net.b"]) == {"a": "module.net.a", "b": "module.net.b"}
    assert bare(["net.a", "b"]) == {"net.a": "net.a", "b": "b"}
    assert bare([]) == {}


def test_messages_are_one_line(kinetics, tmp_path):
    torch.save(build("minic3d", 3, SPEC), tmp_path / "w.pth")
    for file in ("torchvision:x", "torchvision:s3d", str(tmp_path / "w.pth")):
        with pytest.raises((ValueError, FileNotFoundError)) as told:
            begin(file, build("s3d" if file.endswith("s3d") else "minic3d", 3, ClipSpec(frames=16, size=224)))
        assert re.fullmatch(r"[^\n]+", str(told.value))
