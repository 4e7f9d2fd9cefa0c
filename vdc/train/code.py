"""Fitting of a transform code, which becomes a folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdc.condensed.code import INFO, Decoder, Law, coded_spec, save_code
from vdc.data import RealData
from vdc.data.splits import Split
from vdc.ops.pixels import to_frames
from vdc.system.processes import first_process
from vdc.system.progress import track
from vdc.system.resume import once
from vdc.system.versions import versions

SHARES = (512, 256, 128, 64, 32)  # a clip's raw bytes over its coded ones, at which the quality is told


def fit_code(data: RealData, out: str, *, progress: bool = True) -> dict[str, Any]:
    """Fit a code to the training clips that selection methods see, and write it.

    Every video is seen once, `data.candidates` clips of each, cropped only where `data.augment` says so. How well
    clips of held-out videos (of the test split, without a validation split) are coded is told for several sizes.

    Args:
        data: the real videos.
        out: folder of the code.
        progress: show progress bars.

    Returns:
        What `code.json` holds.
    """
    data.setup("fit")
    shape = (data.spec.stored, data.spec.size, data.spec.size)
    about = {"source": data.fingerprint(), "augment": data.augment, "candidates": data.candidates}

    def make(key: str) -> None:
        if not first_process():
            return
        law = Law.of(clips_of(data, "train", progress), shape)
        found = about | {"psnr": quality(law, data, progress), "versions": versions(), "key": key}
        save_code(out, law, found, data.spec)

    return once(Path(out) / INFO, [coded_spec(data.spec), about], make)


def clips_of(data: RealData, split: Split, progress: bool) -> Iterator[Tensor]:
    """Batches (n, 3, T_c, H, W) of every clip of a split, normalised, on the device."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    loader = data.every_clip(split=split)
    for raw in track(loader, f"clips of {split} videos", unit="batches", show=progress):
        yield data.to_batch(raw.to(device)).clips


@torch.no_grad()
def quality(law: Law, data: RealData, progress: bool) -> dict[str, float]:
    """Peak signal-to-noise ratio in dB of held-out clips by bytes per clip; nothing where none is held out.

    Args:
        law: of the training clips.
        data: the real videos.
        progress: show progress bars.
    """
    split: Split = "val" if data.splits["val"] else "test"
    if not data.splits[split]:
        return {}
    decoders = [Decoder.of(law, max(1, data.spec.nbytes // share)) for share in SHARES]
    errors = torch.zeros(len(decoders), dtype=torch.float64)
    count = 0
    for clips in clips_of(data, split, progress):
        frames = to_frames(clips).double()
        count += frames.numel()
        for i, decoder in enumerate(decoders):
            decoder.to(clips.device)
            shown = to_frames(decoder.clips(decoder.rounded(decoder.encode(clips))))
            errors[i] += (shown - frames).square().sum().cpu()
    ratios = 10 * (255**2 * count / errors.clamp_min(1e-12)).log10()
    return {str(d.nbytes): round(float(ratio), 2) for d, ratio in zip(decoders, ratios, strict=True)}
