"""What trained experts make of real clips: which to start from, and which labels to give them (DATM)."""

from collections.abc import Iterator

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from vdc.data import RealData
from vdc.nets.experts import Experts
from vdc.nets.interpolator import interpolator_of
from vdc.ops.windows import apply_view
from vdc.spec import ClipSpec

TRIES = 4  # clips looked at for each that is wanted
CHUNK = 32  # clips classified, and at least decoded, at a time


@torch.no_grad()
def expert_logits(experts: Experts, clips: Tensor, spec: ClipSpec, device: torch.device) -> Iterator[Tensor]:
    """Logits (n, K) of stored clips (n, C, T_c, H, W), middle window, by one expert after another."""
    interpolator = interpolator_of(spec, device)
    for expert in range(len(experts)):
        net = experts.trained(expert).to(device)
        seen = (apply_view(part.to(device), spec, None, interpolator) for part in torch.split(clips, CHUNK))
        yield torch.cat([net(part).cpu() for part in seen])


def first_right(logits: Iterator[Tensor], labels: Tensor, wanted: int) -> Tensor:
    """The first expert that gets each clip right, (n,) int64; the number of experts asked where none does.

    Experts are asked until `wanted` clips of every class in `labels` (n,) are classified correctly.
    """
    first, asked = torch.full_like(labels, -1), 0
    for asked, found in enumerate(logits, 1):
        right = (found.argmax(1) == labels) & (first < 0)
        first[right] = asked - 1
        if all(int((first[labels == k] >= 0).sum()) >= wanted for k in set(labels.tolist())):
            break
    return torch.where(first < 0, asked, first)


def correct_clips(data: RealData, experts: Experts, wanted: int, seed: int, device: torch.device) -> Tensor:
    """Random training clips that experts classify correctly, (K, wanted, C, T_c, H, W).

    Those right by the first expert come first, then by the second, as in GzyAftermath/DATM:distill/DATM.py;
    clips that none gets right only where `TRIES` times as many as wanted hold too few others.

    Args:
        data: the real videos.
        experts: who classifies.
        wanted: clips per class.
        seed: of the choice.
        device: where experts run.
    """
    counts = torch.bincount(data.labels, minlength=data.num_classes)
    per_class = min(TRIES * wanted, max(int(counts.min()), wanted))
    chosen, wrong = [], 0
    classes = list(range(data.num_classes))
    size = max(1, CHUNK // per_class)
    for block in (classes[i : i + size] for i in range(0, len(classes), size)):
        clips = data.sample(per_class, seed, block)
        labels = torch.tensor(block).repeat_interleave(per_class)
        first = first_right(expert_logits(experts, clips.flatten(0, 1), data.spec, device), labels, wanted)
        first = first.view(len(block), per_class)
        order = first.argsort(dim=1, stable=True)[:, :wanted]
        wrong += int((first.gather(1, order) >= len(experts)).sum())
        chosen += [own[index] for own, index in zip(clips, order, strict=True)]
    if wrong:
        rank_zero_warn(
            f"{wrong} of {len(classes) * wanted} clips to start from are classified correctly by no expert"
        )
    return torch.stack(chosen)


def mean_expert_logits(logits: Iterator[Tensor], labels: Tensor) -> Tensor:
    """Start of soft labels (n, K): mean logits of the experts that classify a clip correctly, else of all.

    GzyAftermath/DATM:distill/DATM.py lacks this guard: there a clip that no expert gets right starts at 0/0.

    Args:
        logits: (n, K) per expert.
        labels: (n,) int64.
    """
    right = every = torch.zeros(())
    count = torch.zeros(len(labels), 1)
    asked = 0
    for found in logits:
        asked += 1
        mine = (found.argmax(1) == labels)[:, None].to(found.dtype)
        right, every, count = right + mine * found, every + found, count + mine
    return torch.where(count > 0, right / count.clamp_min(1), every / asked)
