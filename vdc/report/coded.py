"""How few bytes hold all training clips: the figure that the bytes of a condensed set are measured against."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from vdc.data import RealData
from vdc.ops.pixels import to_frames
from vdc.report.results import CODED
from vdc.system.files import write_json
from vdc.system.mp4 import write_mp4
from vdc.system.progress import track

CRF = 23  # libx264's own default: no visible loss


def code_training_clips(data: RealData, folder: str | Path, crf: int = CRF) -> dict[str, Any]:
    """Code one clip of every training video by H.264, as long and as large as a stored item, and count the bytes.

    A class is one stream, every clip of which decodes alone, so that the container weighs next to nothing.
    Decodes every training video once.

    Args:
        data: the real videos.
        folder: gets `coded-<digest>.json`, where reports on it find the figure.
        crf: quality of libx264.

    Returns:
        What the file holds.
    """
    spec, train = data.spec, data.fingerprint()["train"]
    clips = training_clips(data)
    total = 0
    with TemporaryDirectory() as work:
        for _, of_class in groupby(clips, key=lambda pair: pair[0]):
            frames = torch.cat([frames for _, frames in of_class])
            path = Path(work) / "class.mp4"
            write_mp4(path, frames, crf=crf, gop=spec.stored)
            total += path.stat().st_size
    found = {
        "format": CODED,
        "codec": f"H.264 crf {crf}",
        "train": train["sha256"],
        "videos": train["videos"],
        "frames": spec.stored,
        "size": spec.size,
        "stride": spec.stride,
        "bytes": total,
    }
    write_json(Path(folder) / f"coded-{train['sha256'][:8]}-{spec.stored}x{spec.size}.json", found)
    return found


def training_clips(data: RealData) -> Iterator[tuple[int, Tensor]]:
    """Class and frames (T_c, H, W, C) uint8 of one clip of every training video, class by class."""
    order = data.labels.argsort(stable=True).tolist()
    loader = data.by_key([(row, 0) for row in order], 0, stored=True)
    for raw in track(loader, "coding training clips", unit="batches"):
        batch = data.to_batch(raw)
        for label, frames in zip(batch.labels.tolist(), to_frames(batch.clips), strict=True):
            yield label, frames.cpu()
