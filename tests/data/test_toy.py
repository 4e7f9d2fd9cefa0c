import math
import shutil
from collections import namedtuple

import av
import pytest
import torch

from vdc.data.toy import CLASSES, ToyData, draw, make_toy, sprite, tracks
from vdc.ops.rng import generator

K = len(CLASSES)


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads of torch that wait for a busy core cost more than the work they share."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def clips(split, videos, size=32):
    """Clips (K * videos, T, H, W, C) in [0, 1], 16 frames 2 apart, and labels."""
    made = [draw(k, split, n, frames=32, size=size)[::2] for k in range(K) for n in range(videos)]
    return torch.stack(made).float() / 255, torch.arange(K).repeat_interleave(videos)


def told(train, train_labels, test, test_labels):
    """Share of test features (N, D) whose class a ridge classifier tells."""
    mean, std = train.mean(0), train.std(0) + 1e-6
    train, test = (torch.cat([(x - mean) / std, torch.ones(len(x), 1)], 1).double() for x in (train, test))
    targets = torch.eye(K, dtype=torch.float64)[train_labels]
    kernel = train @ train.T + len(train) * torch.eye(len(train), dtype=torch.float64)
    guess = (test @ train.T @ torch.linalg.solve(kernel, targets)).argmax(1)
    return (guess == test_labels).float().mean().item()


def appearance(film):
    """What one frame shows: itself, and how often each colour occurs."""
    frame = film[:, 8]
    histogram = torch.stack([torch.histc(c, 8, 0, 1) for f in frame for c in f.movedim(-1, 0)]).view(
        len(film), -1
    )
    return torch.cat([frame[:, ::2, ::2].flatten(1), histogram], 1)


def motion(film):
    """Flow of the whole field over time, from brightness gradients, and what of it a mirror keeps."""
    grey = film.mean(-1)
    dt, dy, dx = grey[:, 1:] - grey[:, :-1], *torch.gradient((grey[:, 1:] + grey[:, :-1]) / 2, dim=(2, 3))
    y, x = (-(dt * d).mean((2, 3)) / (d * d).mean((2, 3)) for d in (dy, dx))  # (N, T - 1)
    turns = [(f[:, lag:] * f[:, : f.shape[1] - lag]).mean(1) for f in (x, y) for lag in range(6)]
    return torch.stack([y.mean(1), x.mean(1).abs(), *turns], 1)


def test_motion_tells_the_class_and_one_frame_does_not():
    (train, train_labels), (test, test_labels) = clips("train", 24), clips("test", 16)
    one = told(appearance(train), train_labels, appearance(test), test_labels)
    many = told(motion(train), train_labels, motion(test), test_labels)
    assert one < 0.2  # chance is 0.1, its deviation over 160 clips 0.024
    assert many > 2.5 * max(one, 0.1)


def test_up_is_down_backwards():
    (train, labels), (test, test_labels) = clips("train", 16), clips("test", 16)
    pair, test_pair = labels < 2, test_labels < 2
    flow, test_flow = motion(train[pair])[:, 0], motion(test[test_pair])[:, 0]
    assert (flow[:16] < 0).float().mean() > 0.8
    assert (flow[16:] > 0).float().mean() > 0.8
    backwards = motion(test[test_pair].flip(1))[:, 0]
    assert ((backwards > 0) == (test_flow < 0)).float().mean() > 0.9


@pytest.mark.parametrize("label", range(K), ids=CLASSES)
@pytest.mark.parametrize("when", [0, 13, 31])
def test_at_every_instant_all_classes_have_one_law(label, when):
    found = [tracks(label, 32, generator(n, "one law")) for n in range(300)]
    centre = torch.stack([f[0][:, when] for f in found]).flatten(0, 1)  # (900, 2)
    level, angle = (torch.stack([f[i][:, when] for f in found]).flatten() for i in (1, 2))
    for values in (centre[:, 0], centre[:, 1], level, angle / (2 * math.pi) % 1):
        expected = (torch.arange(900) + 0.5) / 900
        # Kolmogorov-Smirnov: 2.2 / sqrt(n) is passed by chance once in 8,000
        assert (values.sort().values - expected).abs().max() < 2.2 / math.sqrt(900)


def test_every_class_moves_and_only_as_named():
    moved = {}
    for label, name in enumerate(CLASSES):
        changed = [x.std(1).amax() > 0.01 for x in tracks(label, 32, generator(3, "named"))]
        moved[name] = "".join(part for part, does in zip("cla", changed, strict=True) if does)
    size, place = (
        dict.fromkeys(["grow", "shrink", "pulse"], "l"),
        ["up", "down", "sideways", "shake", "nod", "orbit"],
    )
    assert moved == {"spin": "a"} | size | dict.fromkeys(place, "c")


def test_train_and_test_share_no_shape_and_no_hue():
    assert not torch.equal(draw(0, "train", 0), draw(0, "test", 0))
    for split, sectors in (("train", {0, 2, 4}), ("test", {1, 3, 5})):
        seen = set()
        for n in range(30):
            object_ = sprite(split, generator(n, "look"))
            lobes = torch.fft.rfft(profile(object_[3])).abs()[1:8].argmax().item() + 1
            assert lobes % 2 == (split == "train")
            seen |= {sector(object_[:3, y, x]) for y, x in extremes(object_)}
        assert seen == sectors


def profile(opacity):
    """Distance from the centre to the edge, at 64 angles."""
    turn, far = torch.arange(64) / 64 * 2 * math.pi, torch.linspace(0, 1, 60)
    where = torch.stack([far * turn[:, None].cos(), far * turn[:, None].sin()], -1)[None]
    return torch.nn.functional.grid_sample(opacity[None, None], where, align_corners=True)[0, 0].mean(1)


def extremes(object_):
    """Where the two pure colours are: the pixels of least and most of the channel that varies most."""
    flat = object_[:3].flatten(1)
    channel = flat[flat.std(1).argmax()]
    return [divmod(i.item(), object_.shape[2]) for i in (channel.argmin(), channel.argmax())]


def sector(rgb):
    import colorsys

    return int(colorsys.rgb_to_hsv(*rgb.tolist())[0] * 6 + 1e-4) % 6


def tree(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def small(root, **options):
    return make_toy(root, **{"train_videos": 2, "test_videos": 1, "frames": 8, "size": 32} | options)


def test_the_set_is_real_video_with_lists(tmp_path):
    root = small(tmp_path / "toy")
    lines = (root / "train.txt").read_text().splitlines()
    assert lines[:3] == ["train/up/0000.mp4 0", "train/up/0001.mp4 0", "train/down/0000.mp4 1"]
    assert len(lines) == 2 * K
    assert len((root / "test.txt").read_text().splitlines()) == K
    with av.open(str(root / "test/orbit/0000.mp4")) as film:
        assert film.streams.video[0].codec_context.name == "h264"
        frames = torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) for f in film.decode(video=0)])
    want = draw(CLASSES.index("orbit"), "test", 0, frames=8, size=32)
    assert (frames.float() - want.float()).abs().mean() < 12  # lossy, in 4:2:0


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    one, two = tree(small(tmp_path / "one")), tree(small(tmp_path / "two"))
    assert one == two
    other = tree(small(tmp_path / "other", seed=1))
    assert other["train/up/0000.mp4"] != one["train/up/0000.mp4"]


def test_the_number_of_videos_changes_none_of_them(tmp_path):
    few, more = tree(small(tmp_path / "few")), tree(small(tmp_path / "more", train_videos=3))
    assert few.items() - more.items() == {(name, few[name]) for name in ("toy.json", "train.txt")}


def test_a_finished_set_is_left_alone_and_another_one_replaced(tmp_path):
    root = small(tmp_path / "toy")
    before = (root / "train/up/0000.mp4").stat()
    assert small(root) == root
    assert (root / "train/up/0000.mp4").stat().st_mtime_ns == before.st_mtime_ns
    small(root, train_videos=1)
    assert len(list((root / "train/up").iterdir())) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["before-1", "toy"]  # nothing is lost


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    calls = []

    def fail(path, *rest, **options):
        calls.append(path)
        if len(calls) == 3:
            raise OSError("disk full")
        path.write_bytes(b"")

    monkeypatch.setattr("vdc.data.toy.write_mp4", fail)
    with pytest.raises(OSError, match="disk full"):
        small(tmp_path / "toy")
    assert list(tmp_path.iterdir()) == []
    assert len(calls) < 3 * K  # the rest is not drawn


def test_too_small_a_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(OSError, match=r"the toy set needs 0\.\d+ MB at .*, which has 0\.00 MB free"):
        small(tmp_path / "deep" / "toy")
    assert not (tmp_path / "deep" / "toy").exists()


def test_somebody_elses_folder_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match=r"--data\.root .* holds other files"):
        small(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_data_module_knows_its_classes_and_writes_its_videos(tmp_path):
    data = ToyData(str(tmp_path / "toy"), train_videos=2, test_videos=1, batch_size=5, num_workers=0)
    assert (data.num_classes, data.classes, data.spec.size) == (K, list(CLASSES), 48)
    assert not (tmp_path / "toy").exists()
    data.prepare_data()
    data.setup("fit")
    assert data.classes == data._lists["train"].classes
    assert torch.equal(data.labels, torch.arange(K).repeat_interleave(2))
    raw = next(iter(data.tested("test")))
    batch = data.to_batch(raw)
    assert batch.clips.shape == (5, 3, 8, 48, 48)
    assert batch.labels.tolist() == [0, 1, 2, 3, 4]
    assert data.sample(1, seed=0).shape == (K, 1, 3, 8, 48, 48)


def test_the_data_module_of_a_few_classes(tmp_path):
    make_toy(tmp_path / "toy", train_videos=1, test_videos=1)
    data = ToyData(str(tmp_path / "toy"), train_videos=1, test_videos=1, classes=["spin", "down"])
    assert data.classes == ["down", "spin"]
    assert data._lists["train"].classes == ["down", "spin"]


def test_options_of_the_data_module_come_from_both_classes():
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(ToyData, "data")
    found = parser.parse_args(["--data=ToyData", "--data.train_videos=3", "--data.val_share=0.1"])
    assert (found.data.init_args.train_videos, found.data.init_args.val_share) == (3, 0.1)
    assert "format" not in found.data.init_args
