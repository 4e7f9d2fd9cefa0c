"""Teacher labels for a condensed set: one soft vector per stored clip, or one per augmented view."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from vdc.condensed.format import load, replace_labels
from vdc.condensed.labels import Labels, Views
from vdc.eval.views import Geometry, look, stored_view
from vdc.memory import Memory, restore
from vdc.nets.interpolator import Interpolator, interpolator_of
from vdc.nets.teacher import Teacher, load_teacher
from vdc.ops.rng import derive
from vdc.ops.windows import apply_view


def relabel(
    condensed: str,
    teacher: str,
    labels: Literal["soft", "views"] = "soft",
    views: int = 100,
    top_k: int | None = None,
    *,
    crop_scale: tuple[float, float] | None = (0.08, 1.0),
    flip: float = 0.5,
    seed: int = 0,
    batch: int = 64,
    out: str | None = None,
    progress: bool = True,
) -> Path:
    """Write a teacher's logits into a condensed set.

    Args:
        condensed: folder of the set.
        teacher: folder of the teacher.
        labels: `soft`, of the middle window of every stored clip, averaged over the clips that a row may render
            as; `views`, of augmented views of it.
        views: V per clip; training sees one per epoch.
        top_k: logits kept per view; `None` keeps all.
        crop_scale: area of a view's crop over that of the frame; `None` neither crops nor mirrors.
        flip: probability of mirroring a view.
        seed: of the views.
        batch: clips per forward pass.
        out: write a relabelled copy there instead of changing the set.
        progress: show a progress bar.

    Returns:
        The folder written.

    Raises:
        ValueError: a teacher of other classes or clip shapes.
    """
    if views < 1 or (top_k is not None and top_k < 1):
        raise ValueError(f"--views {views} --top_k {top_k}: both must be at least 1")
    stored = load(Path(condensed))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teach = load_teacher(Path(teacher), stored.classes, stored.spec).to(device)
    memory = restore(stored).to(device)
    interpolator, hard = interpolator_of(stored.spec, device), stored.labels.hard
    if labels == "soft":
        parts = _logits(memory, teach, interpolator, None, batch, progress)
        logits = torch.cat([part.cpu() for part in parts])
        made = Labels(hard, logits.half(), stored.labels.views)
    else:
        crop = None if crop_scale is None else list(crop_scale)
        recipe = {"rows": len(hard), "crop_scale": crop, "flip": flip, "teacher": teach.digest}
        k = min(top_k or stored.num_classes, stored.num_classes)
        seen = _views(memory, teach, interpolator, views, k, seed, recipe, batch, progress)
        made = Labels(hard, stored.labels.soft, seen)
    return replace_labels(Path(condensed), made, None if out is None else Path(out))


def _views(
    memory: Memory,
    teacher: Teacher,
    interpolator: Interpolator | None,
    views: int,
    k: int,
    seed: int,
    recipe: dict[str, Any],
    batch: int,
    bar: bool,
) -> Views:
    """The k strongest logits of every view of every clip row."""
    device, parts = next(teacher.parameters()).device, []
    for number in tqdm(range(views), "label views", unit="view", disable=not bar):
        view = stored_view(recipe, memory.spec, seed, number).to(device)
        memory.redraw(derive(seed, "memory", number))
        logits = torch.cat(list(_logits(memory, teacher, interpolator, view, batch, False)))
        parts.append(Views.top(logits[:, None], k, seed, recipe))
    return Views(
        seed, torch.cat([v.logits for v in parts], 1), torch.cat([v.index for v in parts], 1), recipe
    )


@torch.no_grad()
def _logits(
    memory: Memory,
    teacher: Teacher,
    interpolator: Interpolator | None,
    view: Geometry | None,
    batch: int,
    progress: bool,
) -> Iterator[Tensor]:
    """Teacher logits (N, K) of every clip row in turn, seen through `view`, or whole in the middle window."""
    device, variants = next(teacher.parameters()).device, memory.variants if view is None else 1
    chunks = torch.split(torch.arange(len(memory), device=device), max(1, batch // variants))
    for rows in tqdm(chunks, "label clips", unit="batch", disable=not progress):
        clips = memory.clips(rows.repeat_interleave(variants), None)
        if view is None:
            seen = apply_view(clips, memory.spec, None, interpolator)
        else:
            seen = look(clips, memory.spec, view.of(rows), interpolator)
        yield teacher(seen).unflatten(0, (-1, variants)).mean(1)
