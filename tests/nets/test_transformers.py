"""Video classifiers of transformers, tiny and random; its own models are the oracle."""

import json

import pytest
import torch

from vdc.nets import build, load_teacher, names, save_teacher, settings
from vdc.nets import transformers as ours
from vdc.nets.weights import Weights, find_weights, start_from
from vdc.spec import ClipSpec

transformers = pytest.importorskip("transformers")

SPEC = ClipSpec(frames=4, size=32)
TINY = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"intermediate_size": 32}
JEPA = {
    "num_pooler_layers": 1,
    "pred_hidden_size": 12,
    "pred_num_attention_heads": 2,
    "pred_num_hidden_layers": 1,
}
OPTIONS = {name: TINY | (JEPA if name == "vjepa2" else WIDE) for name in ours.NAMES}
SHAPES = {"vjepa2": {"frames_per_clip": 4, "crop_size": 32}}
COLOURS = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def twin_of(name, k=3):
    shape = SHAPES.get(name, {"num_frames": 4, "image_size": 32})
    config = transformers.AutoConfig.for_model(name, **OPTIONS[name], **shape, num_labels=k)
    torch.manual_seed(1)
    return transformers.AutoModelForVideoClassification.from_config(config).eval()


@pytest.mark.parametrize("name", ours.NAMES)
def test_logits_are_those_of_transformers(name, tmp_path):
    twin, x = twin_of(name), torch.randn(2, 3, 4, 32, 32)
    twin.save_pretrained(tmp_path)
    net = build(name, 3, SPEC, config=str(tmp_path)).eval()
    assert OPTIONS[name].items() <= net.options.items()  # the folder is not needed any more
    assert "config" not in net.options
    assert start_from(net, find_weights(Weights(str(tmp_path)), [name])) is None
    with torch.no_grad():
        expected = twin(x.transpose(1, 2)).logits
        assert torch.allclose(net(x), expected, atol=1e-5)
        assert torch.allclose(net.net.classifier(net.features(x)), expected, atol=1e-5)
    assert net.embed(x).shape == (2, 16)


def test_a_folder_tells_colours_and_classes(tmp_path):
    twin = twin_of("videomae", 2)
    twin.config.id2label = {1: "run", 0: "jump"}
    twin.save_pretrained(tmp_path)
    shown = {"image_mean": COLOURS[0], "image_std": COLOURS[1]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(shown))
    found = find_weights(Weights(str(tmp_path)), ["videomae"])
    assert (found.colours, found.classes) == (COLOURS, ["jump", "run"])
    assert found.name == f"{tmp_path.name}/model.safetensors"
    net = build("videomae", 2, SPEC, config=str(tmp_path / "config.json")).eval()
    start_from(net, found, ["jump", "run"])
    x = torch.rand(1, 3, 4, 32, 32)
    mean, std = (torch.tensor(c).view(3, 1, 1, 1) for c in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        assert torch.allclose(
            net((x - mean) / std), twin(((x - 0.5) / 0.25).transpose(1, 2)).logits, atol=1e-5
        )


def test_seeds_decide_the_start_and_teachers_come_back(tmp_path):
    net = build("videomae", 3, SPEC, **OPTIONS["videomae"])
    starts = []
    for seed in (0, 0, 1):
        net.reset_parameters("default", torch.Generator().manual_seed(seed))
        starts.append(net.net.classifier.weight.clone())
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    save_teacher(tmp_path, net, {"classes": ["a", "b", "c"]})
    x = torch.randn(1, 3, 4, 32, 32)
    assert torch.allclose(load_teacher(tmp_path, ["a", "b", "c"], SPEC)(x), net.eval()(x), atol=1e-6)


def test_gradients_of_gradients():
    net = build("videomae", 3, SPEC, **OPTIONS["videomae"])
    x = torch.randn(1, 3, 4, 32, 32, requires_grad=True)
    (first,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert second.abs().max() > 0


def test_what_is_refused(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vivit"}))
    for spec, options, told in (
        (SPEC, {"config": str(tmp_path)}, "config.json is of model_type 'vivit', expected 'videomae'"),
        (SPEC, {"config": str(tmp_path / "x.json")}, "x.json is no JSON file of transformers"),
        (SPEC, {"depth": 3}, "net videomae has no option 'depth'"),
        (ClipSpec(frames=1, size=8), {}, "clips of 1 frames of 8 px are smaller than one patch"),
    ):
        with pytest.raises(ValueError, match=told):
            build("videomae", 3, spec, **options)
    assert {"videomae", "vivit"} <= set(names())
    assert settings("videomae", hidden_size=5)["hidden_size"] == 5
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(
        ValueError, match=r"need the package transformers: pip install 'vdcondense\[transformers\]'"
    ):
        build("videomae", 3, SPEC, hidden_size=8)
    assert settings("videomae", hidden_size=8) == {"config": None, "hidden_size": 8}  # tables need no package
