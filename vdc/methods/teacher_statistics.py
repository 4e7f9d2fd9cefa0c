"""What real clips look like inside teachers: one pass over them, cached, resumable, merged over processes."""

import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_info
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vdc.data import RealData
from vdc.nets import Teacher, taps
from vdc.ops.stats import Moments, Stat, Variance, channel_moments, patch_moments
from vdc.system.files import as_json, atomic_write, digest
from vdc.system.progress import track

VERSION = 1  # of what a pass measures: another one makes old caches be measured again
SAVE_EVERY = 50  # batches between two savings of a pass under way
PATCH = " patch"  # after a tap's name: the cells of a grid over it


class Watch(NamedTuple):
    """Which layers' inputs are measured, and how."""

    kinds: tuple[Literal["norm", "conv"], ...] = ("norm", "conv")
    patch: bool = False  # also each cell of a grid over convolutions' inputs


class Measured(NamedTuple):
    """What real clips look like inside one teacher, all taps side by side."""

    sizes: dict[str, int]  # tap -> S, in forward order
    dataset: Stat  # (sum of S,) float32: running statistics of norms that keep them, else those of the pass
    moments: Moments | None  # of the pass

    def classes(self, variance: Variance) -> Stat:
        """Statistics of every class, (K, sum of S) float64."""
        if self.moments is None:
            raise ValueError("statistics of classes were not measured")
        return self.moments.classes(variance)


def observe(net: nn.Module, clips: Tensor, watch: Watch) -> tuple[Tensor, dict[str, Stat]]:
    """Run a network and measure what its layers see.

    Args:
        net: a network or a `Teacher`.
        clips: (N, C, T, H, W).
        watch: which layers.

    Returns:
        logits (N, K); tap -> per-sample statistics (N, S), in forward order.
    """
    with taps(net, watch.kinds) as inputs:
        logits = net(clips)
    inner = net.net if isinstance(net, Teacher) else net
    stats = {}
    for name, x in inputs.items():
        stats[name] = channel_moments(x)
        if watch.patch and isinstance(inner.get_submodule(name), nn.Conv3d):
            stats[name + PATCH] = patch_moments(x)
    return logits, stats


def beside(stats: dict[str, Stat]) -> Stat:
    """All taps' statistics side by side, (N, sum of S)."""
    return Stat(*(torch.cat(part, 1) for part in zip(*stats.values(), strict=True)))


def measure(
    teachers: list[Teacher], data: RealData, watch: Watch, class_wise: bool, cache: str | None = None
) -> list[Measured]:
    """What real training clips look like inside teachers: from the cache, or by a pass over them.

    A pass sees one random augmented clip of every training video. These draws have a seed of their own, so
    that runs of any seed share one pass; none is made where running statistics are all that is asked for.

    Args:
        teachers: on their device.
        data: the real videos.
        watch: which layers.
        class_wise: whether statistics of every class are needed, not only those of the whole set.
        cache: folder for what is measured; `None`: `statistics` inside each teacher's folder.
    """
    sizes = [_sizes(teacher, watch) for teacher in teachers]
    known = [_running(teacher, list(names)) for teacher, names in zip(teachers, sizes, strict=True)]
    moments: list[Any] = [None] * len(teachers)
    if class_wise or any(len(have) < len(want) for have, want in zip(known, sizes, strict=True)):
        moments = _passes(teachers, sizes, data, watch, cache)
    return [Measured(s, _dataset(s, k, m), m) for s, k, m in zip(sizes, known, moments, strict=True)]


@torch.no_grad()
def _sizes(teacher: Teacher, watch: Watch) -> dict[str, int]:
    """Tap -> S, in forward order.

    Raises:
        ValueError: the teacher has no such layers.
    """
    spec, device = teacher.spec, next(teacher.parameters()).device
    clip = torch.zeros(1, 3, spec.frames, spec.size, spec.size, device=device)
    sizes = {name: stat.mean.shape[1] for name, stat in observe(teacher, clip, watch)[1].items()}
    if not sizes:
        raise ValueError(
            f"teacher {teacher.path}: {teacher.name} has no 3-D {' or '.join(watch.kinds)} layer to match"
        )
    return sizes


def _running(teacher: Teacher, names: list[str]) -> dict[str, Stat]:
    """Running statistics of the tapped norms that keep them."""
    found = {}
    for name in names:
        layer = None if name.endswith(PATCH) else teacher.net.get_submodule(name)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is not None:
            assert layer.running_var is not None
            found[name] = Stat(layer.running_mean.cpu(), layer.running_var.cpu())
    return found


def _dataset(sizes: dict[str, int], known: dict[str, Stat], moments: Moments | None) -> Stat:
    """Statistics of the whole set, (sum of S,) float32."""
    if moments is not None:
        cut = [torch.split(part.float(), list(sizes.values())) for part in moments.dataset()]
        known = {name: known.get(name, Stat(mean, var)) for name, mean, var in zip(sizes, *cut, strict=True)}
    return Stat(*(torch.cat(part) for part in zip(*known.values(), strict=True)))


# -- cache ------------------------------------------------------------------------------------------------


def identity(teacher: Teacher, data: RealData, watch: Watch) -> dict[str, Any]:
    """Everything that the result of a pass depends on."""
    found, spec = data.fingerprint(), data.spec
    fields = {
        "version of the pass": VERSION,
        "teacher": teacher.digest,
        "training videos": found["train"],
        "decoder": found["decoder"],
        "clips": [spec.frames, spec.stride, data.short_video],
        "pixels": [spec.size, *data.load_size],
        "augmentation": data.augment,
        "taps": watch,
    }
    return dict(as_json(fields))


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Fields and tensors of a file; empty where it is missing or broken."""
    try:
        with safe_open(path, "pt") as file:
            fields = json.loads((file.metadata() or {})["fields"])
        return fields, load_file(path)
    except (FileNotFoundError, KeyError, SafetensorError, json.JSONDecodeError):
        return {}, {}


def _write(path: Path, fields: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Write a file, whole or not at all."""
    with atomic_write(path) as temporary:
        save_file(
            {k: t.cpu().contiguous() for k, t in tensors.items()}, temporary, {"fields": json.dumps(fields)}
        )


def _cached(path: Path, fields: dict[str, Any]) -> Moments | None:
    """The pass of exactly these fields; says what is different about those that do not serve."""
    found, tensors = _read(path)
    if found == fields:
        return Moments(tensors["sums"])
    for other in sorted(path.parent.glob(path.name.split("-")[0] + "-*.safetensors")):
        theirs = _read(other)[0]
        names = ", ".join(name for name in fields if theirs.get(name) != fields[name])
        why = f"other {names}" if theirs else "it is damaged"
        rank_zero_info(f"statistics in {other} do not serve ({why}): measuring anew")
    return None


# -- pass -------------------------------------------------------------------------------------------------


def _passes(
    teachers: list[Teacher], sizes: list[dict[str, int]], data: RealData, watch: Watch, cache: str | None
) -> list[Moments]:
    """The moments of every teacher; those not cached are measured in one pass, and written by process 0."""
    fields = [identity(teacher, data, watch) for teacher in teachers]
    folders = [teacher.path / "statistics" if cache is None else Path(cache) for teacher in teachers]
    names = [f"{t.name}-{digest(f, 16)}.safetensors" for t, f in zip(teachers, fields, strict=True)]
    paths = [folder / name for folder, name in zip(folders, names, strict=True)]
    found = [_cached(path, f) for path, f in zip(paths, fields, strict=True)]
    device = next(teachers[0].parameters()).device
    ready = torch.tensor([moments is not None for moments in found], dtype=torch.int32, device=device)
    if dist.is_initialized():  # machines need not share a disk
        dist.all_reduce(ready, dist.ReduceOp.MIN)
    todo = [i for i, there in enumerate(ready.tolist()) if not there]
    if todo:
        totals = [sum(sizes[i].values()) for i in todo]
        partial = {"passes": [fields[i] for i in todo], "batch": data.batch_size}
        measured = _pass([teachers[i] for i in todo], totals, data, watch, folders[todo[0]], partial)
        for i, moments in zip(todo, measured, strict=True):
            found[i] = moments
            if not dist.is_initialized() or dist.get_rank() == 0:
                _write(paths[i], fields[i], {"sums": moments.sums})
    return [moments for moments in found if moments is not None]


@torch.no_grad()
def _pass(
    teachers: list[Teacher],
    totals: list[int],
    data: RealData,
    watch: Watch,
    folder: Path,
    fields: dict[str, Any],
) -> list[Moments]:
    """Moments of several teachers over all training videos; a pass that was stopped goes on where it was.

    Args:
        teachers: on their device.
        totals: channels of all taps of each.
        data: the real videos.
        watch: which layers.
        folder: where the pass under way is kept.
        fields: what it is.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    fields = fields | {"share": [rank, world]}
    path = folder / f".partial-{digest(fields, 16)}.safetensors"
    device = next(teachers[0].parameters()).device
    every = [Moments.zeros(data.num_classes, total, device) for total in totals]
    found, tensors = _read(path)
    done = found.pop("done", 0)
    if found == fields:
        every = [Moments(tensors[str(i)].to(device)) for i in range(len(teachers))]
    else:
        done = 0
    keys = [(row, 0) for row in range(rank, len(data.labels), world)]
    batches = data.by_key(keys[done * data.batch_size :], seed=0)
    total = done + len(batches)
    for raw in track(batches, "statistics of real clips", total, done, "batches", show=rank == 0):
        batch = data.to_batch(raw.to(device))
        for teacher, moments in zip(teachers, every, strict=True):
            moments.update(beside(observe(teacher, batch.clips, watch)[1]), batch.labels)
        done += 1
        if done % SAVE_EVERY == 0:
            _write(path, fields | {"done": done}, {str(i): moments.sums for i, moments in enumerate(every)})
    for moments in every:
        if world > 1:
            dist.all_reduce(moments.sums)
        moments.sums = moments.sums.cpu()
    path.unlink(missing_ok=True)
    return every
