"""Evaluation: students x seeds trained on a condensed set and tested on real videos."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from vdc.condensed.format import load, save
from vdc.condensed.labels import Labels
from vdc.condensed.manifest import CLIPS, LABELS, CondensedSet
from vdc.condensed.memory import Pixels
from vdc.data import RealData
from vdc.evaluate.condensed_data import CondensedData
from vdc.evaluate.relabel import relabel
from vdc.evaluate.results import Task, made
from vdc.evaluate.stored import links
from vdc.nets.transformers import resolved
from vdc.nets.weights import Weights, find_weights
from vdc.spec import INTERPOLATOR
from vdc.system.processes import first_process, wait_for_all
from vdc.train.module import EvalModule
from vdc.train.protocol import Protocol, check_epochs
from vdc.train.run import MakeTrainer, Running, apply_protocol


def evaluate(
    condensed: str | Path,
    data: RealData,
    students: Sequence[str] = ("minic3d",),
    seeds: Sequence[int] = (0, 1, 2),
    protocol: Protocol | None = None,
    *,
    ipc: int | None = None,
    teacher: str | None = None,
    random_twin: bool = False,
    name: str | None = None,
    out: str | None = None,
    net_options: dict[str, Any] | None = None,
    weights: Weights | None = None,
    trainer: MakeTrainer = Trainer,
    progress: bool = True,
    checkpoint_every: float = 60.0,
) -> list[dict[str, Any]]:
    """Train students on a condensed set and test them on the test videos.

    Finished seeds are read back and an unfinished one goes on from its checkpoint, so a killed evaluation is
    continued by starting it again.

    Args:
        condensed: folder of the set.
        data: the real videos; only their test split is read, and the training split for a random twin.
        students: names of networks.
        seeds: one run of every student each.
        protocol: how students are trained; `None` is Video-DC's.
        ipc: use only the first items of every class.
        teacher: folder of the teacher, for live labels and for labelling the random twin.
        random_twin: also evaluate random clips of the same number and shape, made once and kept.
        name: of the results; `None` tells student, protocol, labels and a hash of everything.
        out: folder of the results; `None` is `evaluations` in the set.
        net_options: further arguments of the networks.
        weights: that the one network starts from; `None` starts afresh.
        trainer: makes a Lightning Trainer from keyword arguments.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.

    Returns:
        The results as written, per student, those of the twin after those of the set.

    Raises:
        ValueError: classes or clip shapes of set, data and teacher differ, or labels are not there.
        FileNotFoundError: no set or teacher.
    """
    running = Running(trainer, progress, checkpoint_every)
    start = None if weights is None else find_weights(weights, students)
    condensed_data = CondensedData(str(condensed), protocol or Protocol(), data, ipc, teacher)
    check_match(condensed_data.set, data)
    condensed_data.real = data.with_(test_passes=condensed_data.protocol.test_passes)
    folder = Path(out) if out else condensed_data.set.path / "evaluations"
    if out is None and (link := next(links(folder), None)) is not None:
        raise ValueError(f"{link} is a link, which in a set from elsewhere is not followed: give --out DIR")
    results = []
    for student in students:
        title = name if name is None or len(students) == 1 else f"{name}-{student}"
        task = condensed_task(condensed_data, student, resolved(student, net_options or {}), folder, title)
        task = replace(task, processes=running.processes, weights=start)
        results.append(run_task(task, condensed_data, seeds, running))
    if not random_twin:
        return results
    twin = make_random_twin(condensed_data, folder, teacher, progress)
    return results + evaluate(
        str(twin), data, students, seeds, condensed_data.protocol, ipc=ipc, teacher=teacher,
        name=None if name is None else f"{name}-random", out=str(folder), net_options=net_options,
        weights=weights, trainer=trainer, progress=progress, checkpoint_every=checkpoint_every,
    )  # fmt: skip


def evaluate_sizes(
    condensed: str, data: RealData, ipc: Sequence[int] = (), name: str | None = None, **options: Any
) -> list[dict[str, Any]]:
    """Evaluate prefixes of a condensed set.

    Args:
        condensed: folder of the set.
        data: the real videos.
        ipc: items per class of each; none: the whole set.
        name: of the results; of several sizes, each adds its own.
        options: of `evaluate`.

    Raises:
        ValueError: the set holds fewer items; before anything is trained.
    """
    stored = load(condensed)
    for size in ipc:
        stored.rows(size)
    results, sizes = [], list[int | None](ipc)
    for one in sizes or [None]:
        own = f"{name}-ipc{one}" if name is not None and len(ipc) > 1 else name
        results += evaluate(condensed, data, ipc=one, name=own, **options)
    return results


def evaluate_full(
    data: RealData,
    out: str,
    students: Sequence[str] = ("minic3d",),
    seeds: Sequence[int] = (0, 1, 2),
    protocol: Protocol | None = None,
    *,
    name: str | None = None,
    net_options: dict[str, Any] | None = None,
    weights: Weights | None = None,
    trainer: MakeTrainer = Trainer,
    progress: bool = True,
    checkpoint_every: float = 60.0,
) -> list[dict[str, Any]]:
    """The full-data bound: students trained on all training videos, by the same trainer.

    Args:
        data: the real videos; its batch size is that of training.
        out: folder of the results.
        students: names of networks.
        seeds: one run of every student each.
        protocol: how students are trained, with hard labels; `None` is Video-DC's.
        name: of the results.
        net_options: further arguments of the networks.
        weights: that the one network starts from; `None` starts afresh.
        trainer: makes a Lightning Trainer from keyword arguments.
        progress: show progress bars.
        checkpoint_every: seconds between two checkpoints; 0 writes one per epoch.

    Returns:
        The results as written, per student.
    """
    running = Running(trainer, progress, checkpoint_every)
    start = None if weights is None else find_weights(weights, students)
    data.setup("test")
    settled = (protocol or Protocol()).with_labels("hard")
    data = apply_protocol(data, settled)
    videos, spec, source = len(data.labels), data.spec, data.fingerprint()
    about = {
        "method": "full data",
        "ipc": None,
        "classes": data.classes,
        "train_videos": videos,
        "bytes": {"clips": source["train"]["bytes"], "labels": videos},  # its students read the source files
        "source": source,
        "test_data": test_identity(data),
    }
    identity = {"data": source, "batch_size": data.batch_size, "test_data": test_identity(data)}
    results = []
    for student in students:
        title = name if name is None or len(students) == 1 else f"{name}-{student}"
        task = Task(
            student,
            resolved(student, net_options or {}),
            settled,
            spec,
            about,
            identity,
            Path(out),
            title,
            running.processes,
            start,
        )
        results.append(run_task(task, data, seeds, running))
    return results


def run_task(
    task: Task, data: CondensedData | RealData, seeds: Sequence[int], running: Running
) -> dict[str, Any]:
    """Train and test the seeds that are not done yet, and write the summary.

    Args:
        task: what is trained on what.
        data: its clips. On a condensed set students are scored late in
            training, for the published habit.
        seeds: of the runs.
        running: how they are run.
    """
    done, p = task.finished(), task.protocol
    looks = check_epochs(p.epochs, p.checks)[:-1] if isinstance(data, CondensedData) else []
    left = [seed for seed in seeds if seed not in done]
    for seed in left:
        folder = task.open(seed)
        own = data.with_(seed=seed)
        module = EvalModule(task.student, len(data.classes), task.spec, p, seed, task.net_options, "test")
        start = {} if task.weights is None else module.start_from(task.weights, data.classes)
        number, after = seeds.index(seed) + 1, len(left) - left.index(seed) - 1
        title = f"{task.about['method']}, {task.student}, seed {seed} ({number} of {len(seeds)})"
        seconds = running.fit_and_test(module, own, folder, title, looks, after=after)
        found = module.outcome() | {"checks": module.history, "curve": module.curve}
        found |= {key: start[key] for key in ("last_layer",) if key in start}
        done[seed] = task.close(seed, found, seconds)
    return task.summarise(done, with_checks=isinstance(data, CondensedData))


def condensed_task(
    data: CondensedData, student: str, net_options: dict[str, Any], folder: Path, name: str | None
) -> Task:
    """The task of training a student on a condensed set."""
    assert data.real is not None
    condensed, kind = data.set, data.protocol.labels
    files = condensed.manifest["files"]
    teacher = None if data.teacher is None else {"net": data.teacher.name, "digest": data.teacher.digest}
    about = {
        "method": condensed.manifest["method"],
        **{key: condensed.manifest[key] for key in ("selects",) if key in condensed.manifest},
        "ipc": condensed.ipc,
        "stored_ipc": condensed.stored_ipc,
        "sizes": made(condensed.manifest),
        "condensed_seed": condensed.manifest["seed"],
        "per_item": condensed.per_item,
        "condensed": condensed.manifest["digest"],
        "classes": condensed.classes,
        "train_videos": len(data.real.labels),
        "labels": condensed.manifest["labels"] if kind == "views" else {"kind": kind},
        "teacher": teacher,
        "bytes": data.nbytes,
        "source": condensed.manifest["source"],
        "config": condensed.manifest["config"],
        "test_data": test_identity(data.real),
    }
    identity = {
        "clips": files[CLIPS]["sha256"],
        "labels": files[LABELS]["sha256"] if kind in ("soft", "views") else None,
        "ipc": condensed.ipc,
        "teacher": teacher,
        "test_data": test_identity(data.real),
        **{name: files[name]["sha256"] for name in INTERPOLATOR[1:] if name in files},
    }
    return Task(student, net_options, data.protocol, condensed.spec, about, identity, folder, name)


def test_identity(data: RealData) -> dict[str, Any]:
    """The test videos, and how they are shown."""
    found = data.fingerprint()
    return {
        "videos": found["test"],
        "decoder": found["decoder"],
        "load_size": found["load_size"],
        "test_clips": data.test_clips,
        "short_video": data.short_video,
    }


def check_match(condensed: CondensedSet, data: RealData) -> None:
    """Refuse test videos that are not what the set was condensed for.

    Raises:
        ValueError: no test videos, other classes, or another clip shape.
    """
    data.setup("test")
    if condensed.classes != data.classes:
        odd = sorted(set(condensed.classes) ^ set(data.classes))[:3] or ["another order"]
        raise ValueError(
            f"{condensed.path} knows {condensed.num_classes} classes and the data {len(data.classes)}, "
            f"not the same ones: {', '.join(odd)}"
        )
    for name in ("frames", "size", "stride"):
        ours, theirs = getattr(condensed.spec, name), getattr(data.spec, name)
        if ours != theirs:
            raise ValueError(
                f"{condensed.path} has spec.{name} {ours}, the data {theirs}: give --data.spec.{name} {ours}"
            )


def make_random_twin(data: CondensedData, folder: Path, teacher: str | None, progress: bool) -> Path:
    """Random training clips as a set of the same classes, ipc and spec, labelled alike; made once.

    Args:
        data: the set whose twin it is, and its real videos.
        folder: where the twin is kept.
        teacher: folder of the teacher, where the set teaches by stored logits.
        progress: show progress bars.

    Raises:
        ValueError: stored logits are asked for, and no teacher is given.
    """
    assert data.real is not None
    condensed, real, kind = data.set, data.real, data.protocol.labels
    twin = folder / f"random_twin_ipc{condensed.ipc}"
    wait_for_all()  # nobody looks before everybody can: the first process writes below
    known = load(twin) if twin.exists() else None
    if known is None or known.spec != condensed.spec or known.manifest["source"] != real.fingerprint():
        memory = Pixels(condensed.num_classes, condensed.ipc, condensed.spec)
        memory.initialise(real.sample(condensed.ipc, 0))  # in all processes: they share what they decode
        if first_process():
            save(
                twin, memory, Labels(memory.labels), classes=condensed.classes, source=real.fingerprint(),
                method="Random", config={}, seed=0, selects=True,
            )  # fmt: skip
    if kind in ("soft", "views") and first_process() and getattr(load(twin).labels, kind) is None:
        label_like(condensed, twin, teacher, kind, progress)
    wait_for_all()
    return twin


def label_like(condensed: CondensedSet, twin: Path, teacher: str | None, kind: str, progress: bool) -> None:
    """Give the twin the kind of stored logits that the set has."""
    if teacher is None:
        raise ValueError(f"the random twin needs {kind} labels too: give --teacher DIR")
    views = condensed.labels.views
    if kind == "soft" or views is None:
        relabel(str(twin), teacher, "soft", progress=progress)
        return
    _, count, k = views.logits.shape
    scale, flip = views.recipe["crop_scale"], views.recipe["flip"]
    crop = None if scale is None else (float(scale[0]), float(scale[1]))
    relabel(
        str(twin), teacher, "views", count, k, crop_scale=crop, flip=flip, seed=views.seed, progress=progress
    )
