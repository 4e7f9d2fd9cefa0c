"""Teacher labels for a condensed set: one soft vector per stored clip, or one per augmented view."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from vdc.condensed.format import load, replace_labels
from vdc.condensed.labels import Labels, Views
from vdc.condensed.manifest import LABELS, CondensedSet
from vdc.condensed.memory import Memory
from vdc.condensed.views import Geometry, look, stored_view
from vdc.nets.base import in_parts
from vdc.nets.interpolator import Interpolator, interpolator_of
from vdc.nets.teacher import Teacher, load_teacher
from vdc.ops.rng import derive
from vdc.ops.windows import apply_view
from vdc.system.progress import track
from vdc.system.resume import Parts

BATCHES = 16  # per part that a killed run keeps


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

    A killed run is continued by starting it again: what is labelled already lies beside the set meanwhile.

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
    stored = load(condensed)
    target = Path(out or stored.path)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teach = load_teacher(Path(teacher), stored.classes, stored.spec).to(device)
    memory, hard = stored.memory().to(device), stored.labels.hard
    key = {"set": _seen_of(stored), "teacher": teach.digest, "labels": labels, "batch": batch}
    key |= {"device": device.type}
    recipe: dict[str, Any] = {}
    if labels == "views":
        crop = None if crop_scale is None else list(crop_scale)
        recipe = {"rows": len(hard), "crop_scale": crop, "flip": flip, "teacher": teach.digest}
        key |= {"views": views, "top_k": top_k, "seed": seed, "recipe": recipe}
    parts = Parts(target.with_name(f".{target.name}.labelling"), key)
    between, k = interpolator_of(stored.spec, device), top_k or stored.num_classes
    labeller = _Labeller(memory, teach, between, parts, seed, recipe, k, batch)
    if labels == "soft":
        made = Labels(hard, labeller.run([None], progress)["logits"][0], stored.labels.views)
    else:
        found = labeller.run(range(views), progress)
        logits, index = (found[name].transpose(0, 1).contiguous() for name in ("logits", "index"))
        made = Labels(hard, stored.labels.soft, Views(seed, logits, index, recipe))
    written = replace_labels(stored.path, made, None if out is None else target)
    parts.drop()
    return written


def _seen_of(stored: CondensedSet) -> dict[str, Any]:
    """What of a set its labels depend on: its spec, and the hashes of its tensors."""
    files = stored.manifest["files"].items()
    tensors = {name: f["sha256"] for name, f in files if name.endswith(".safetensors") and name != LABELS}
    return tensors | {
        "spec": asdict(stored.spec) | {"interpolator": None}
    }  # path excluded: its hash is part of the key


@dataclass(frozen=True)
class _Labeller:
    """A teacher, what it labels, and where finished parts are.

    Args:
        memory: of the set.
        teacher: the network.
        between: what makes frames between stored ones, where views need that.
        parts: what it has said already.
        seed: of the views.
        recipe: of the views.
        top_k: logits kept per view.
        batch: clips per forward pass.
    """

    memory: Memory
    teacher: Teacher
    between: Interpolator | None
    parts: Parts
    seed: int
    recipe: dict[str, Any]
    top_k: int
    batch: int

    def run(self, views: Sequence[int | None], progress: bool) -> dict[str, Tensor]:
        """`logits` (V, N, k) float16 of every clip row in every view, `None` being the whole clip.

        Of views, also the classes `index` that they are of.
        """
        device = next(self.teacher.parameters()).device
        blocks = torch.split(torch.arange(len(self.memory), device=device), BATCHES * self.batch)
        units = [(view, rows) for view in views for rows in blocks]
        found = []
        for view, rows in track(units, "label clips", unit="parts", show=progress):
            found.append(self.parts.get(f"view{view}-row{int(rows[0])}", partial(self._part, view, rows)))
        whole = {name: torch.cat([part[name] for part in found]) for name in found[0]}
        return {name: tensor.reshape(len(views), -1, *tensor.shape[1:]) for name, tensor in whole.items()}

    def _part(self, view: int | None, rows: Tensor) -> dict[str, Tensor]:
        """What is stored of some clip rows in one view."""
        if view is None:
            return {"logits": self._logits(rows, None, self.memory.variants).half().cpu()}
        where = stored_view(self.recipe, self.memory.spec, self.seed, view).to(rows.device)
        self.memory.redraw(derive(self.seed, "memory", view))
        kept = Views.top(self._logits(rows, where, 1)[:, None], self.top_k, self.seed, self.recipe)
        return {"logits": kept.logits[:, 0].contiguous(), "index": kept.index[:, 0].contiguous()}

    @torch.no_grad()
    def _logits(self, rows: Tensor, view: Geometry | None, variants: int) -> Tensor:
        """Logits (n, K) of clip rows seen through `view`, or whole in the middle window, mean of variants."""
        spec, said = self.memory.spec, list[Tensor]()
        for some in torch.split(rows, max(1, self.batch // variants)):
            clips = self.memory.clips(some.repeat_interleave(variants))
            if view is None:
                seen = apply_view(clips, spec, None, self.between)
            else:
                seen = look(clips, spec, view.of(some), self.between)
            answers = in_parts(self.teacher, seen)
            said.append(answers.view(-1, variants, answers.shape[1]).mean(1))
        return torch.cat(said)
