"""Labels of a condensed set: what each clip row teaches, and what that costs in bytes.

Hard: one class. Soft: one logit vector of the stored clip. Views: the strongest logits of a teacher on each
of V augmented views, whose augmentation is drawn again from a stored seed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from vdc.system.schema import Count, Fields, Finite, Seed, check_fields

Share = Annotated[Finite, Field(ge=0, le=1)]


class Recipe(Fields):
    """How a view of a clip is drawn, and who labelled it."""

    crop_scale: Annotated[list[Share], Field(min_length=2, max_length=2)] | None
    flip: Share
    rows: Count | None = None


class LabelInfo(Fields):
    """What the manifest says of labels, beside the tensors."""

    kind: Literal["hard", "soft", "views"]


class ViewsInfo(LabelInfo):
    """The same of labels per view."""

    seed: Seed
    views: Count
    top: Count
    recipe: Recipe


def _index_dtype(num_classes: int) -> torch.dtype:
    """The smallest type that holds a class: uint8 up to 256 classes, else int16."""
    if num_classes > 2**15:
        raise ValueError(f"at most {2**15} classes can be stored, got {num_classes}")
    return torch.uint8 if num_classes <= 256 else torch.int16


@dataclass
class Views:
    """Teacher logits of V augmented views per clip row.

    Args:
        seed: of the views. A view is drawn from (seed, number of the view, clip row in the whole set), never
            from the position of a line, so that a prefix of the set keeps its labels: see `rows`.
        logits: the k strongest, descending, (rows, V, k) float16.
        index: their classes, (rows, V, k) uint8 or int16. Convert before indexing: uint8 would be a mask.
        recipe: how a view is drawn and who labelled it, for the manifest.
        origin: clip row in the whole set of every line, (rows,) int32; `None` for the whole set.
    """

    seed: int
    logits: Tensor
    index: Tensor
    recipe: dict[str, Any] = field(default_factory=dict)
    origin: Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse logits and classes that do not go together."""
        if self.logits.shape != self.index.shape or self.logits.ndim != 3:
            found = f"{tuple(self.logits.shape)} and {tuple(self.index.shape)}"
            raise ValueError(f"logits and index of views are {found}, expected (rows, V, k) both")

    @property
    def rows(self) -> Tensor:
        """Clip row in the whole set of every line, (rows,) int32: what its views are drawn by."""
        return torch.arange(len(self.logits), dtype=torch.int32) if self.origin is None else self.origin

    @classmethod
    def top(cls, logits: Tensor, k: int, seed: int, recipe: dict[str, Any]) -> Self:
        """Keep the k strongest of the logits of all classes, (rows, V, K)."""
        values, index = logits.cpu().topk(min(k, logits.shape[-1]), dim=-1)
        return cls(seed, values.half(), index.to(_index_dtype(logits.shape[-1])), recipe)

    def prefix(self, rows: Tensor) -> Self:
        """The views of `rows` (n,) int64."""
        return type(self)(self.seed, self.logits[rows], self.index[rows], self.recipe, self.rows[rows])


@dataclass
class Labels:
    """Labels of every clip row.

    Args:
        hard: classes, (rows,) int64.
        soft: logits of the stored clips, (rows, K) float16.
        views: logits of augmented views.
    """

    hard: Tensor
    soft: Tensor | None = None
    views: Views | None = None

    def __post_init__(self) -> None:
        """Refuse labels of other rows."""
        for name, held in (("soft", self.soft), ("views", None if self.views is None else self.views.logits)):
            if held is not None and (len(held) != len(self.hard) or held.dtype != torch.float16):
                found = f"{len(held)} rows of {held.dtype}"
                raise ValueError(f"{name} labels: {found}, expected {len(self.hard)} of torch.float16")

    def __len__(self) -> int:
        """Clip rows."""
        return len(self.hard)

    @property
    def kind(self) -> str:
        """The richest labels held: `views`, `soft` or `hard`."""
        return "views" if self.views is not None else "soft" if self.soft is not None else "hard"

    @property
    def nbytes(self) -> int:
        """Exact bytes of the stored tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors().values())

    def prefix(self, rows: Tensor) -> Self:
        """The labels of `rows` (n,) int64."""
        return type(self)(
            self.hard[rows],
            None if self.soft is None else self.soft[rows],
            None if self.views is None else self.views.prefix(rows),
        )

    def tensors(self) -> dict[str, Tensor]:
        """What is stored: contiguous, on the host, classes in their smallest type."""
        found = {"hard": self.hard.to(_index_dtype(int(self.hard.max()) + 1))}
        if self.soft is not None:
            found["soft"] = self.soft
        if self.views is not None:
            found |= {f"views.{name}": getattr(self.views, name) for name in ("logits", "index", "rows")}
        return {name: tensor.detach().cpu().contiguous() for name, tensor in found.items()}

    def info(self) -> dict[str, Any]:
        """What the manifest says of them, beside the tensors."""
        if self.views is None:
            return {"kind": self.kind}
        _, count, k = self.views.logits.shape
        return {
            "kind": self.kind,
            "seed": self.views.seed,
            "views": count,
            "top": k,
            "recipe": self.views.recipe,
        }

    @classmethod
    def from_tensors(
        cls, tensors: dict[str, Tensor], info: dict[str, Any], num_classes: int, path: Path
    ) -> Self:
        """The labels that `tensors` and `info` of others describe.

        Args:
            tensors: as stored.
            info: what the manifest says of them.
            num_classes: K.
            path: of the file, for messages.

        Raises:
            ValueError: a tensor is missing, unknown, or of another type, shape or range than it should be.
        """
        known, per_view = {"hard", "soft"}, info["kind"] == "views"
        if per_view:
            check_fields(ViewsInfo, info, path)
            known |= {"views.logits", "views.index", "views.rows"}
        if odd := sorted(tensors.keys() - known):
            raise ValueError(f"{path}: tensor {odd[0]!r} is none of labels of kind {info['kind']}")
        rows = len(tensors["hard"]) if "hard" in tensors and tensors["hard"].ndim else 0
        classes = _index_dtype(num_classes)
        _check(tensors, path, "hard", (rows,), (torch.uint8, torch.int16), num_classes)
        if info["kind"] == "soft" or "soft" in tensors:
            _check(tensors, path, "soft", (rows, num_classes), (torch.float16,))
        views = None
        if per_view:
            shape = (rows, info["views"], info["top"])
            _check(tensors, path, "views.logits", shape, (torch.float16,))
            _check(tensors, path, "views.index", shape, (classes,), num_classes)
            _check(tensors, path, "views.rows", (rows,), (torch.int32,), 2**31 - 1)
            logits, index, origin = (tensors[f"views.{name}"] for name in ("logits", "index", "rows"))
            views = Views(info["seed"], logits, index, info["recipe"], origin)
        found = cls(tensors["hard"].long(), tensors.get("soft"), views)
        if found.kind != info["kind"]:
            raise ValueError(f"{path} holds {found.kind} labels, its manifest says {info['kind']}")
        return found


def _check(
    tensors: dict[str, Tensor],
    path: Path,
    name: str,
    shape: tuple[int, ...],
    dtypes: tuple[torch.dtype, ...],
    below: int | None = None,
) -> None:
    """Refuse a tensor that is missing, or of another shape, type or range (0 to `below` - 1)."""
    if name not in tensors:
        raise ValueError(f"{path}: tensor {name!r} is missing")
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype not in dtypes:
        found, wanted = f"{tuple(tensor.shape)} {tensor.dtype}", f"{shape} {' or '.join(map(str, dtypes))}"
        raise ValueError(f"{path}: {name} is {found}, expected {wanted}")
    if below is not None and tensor.numel() and not 0 <= int(tensor.min()) <= int(tensor.max()) < below:
        raise ValueError(
            f"{path}: {name} holds {int(tensor.min())} to {int(tensor.max())}, expected 0 to {below - 1}"
        )
