"""What other toolkits read: mp4 files or JPEG folders with a list, or a WebDataset tar."""

import json
import re
import tarfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Literal

from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from vdc.condensed.card import card, metadata, mmaction2_config
from vdc.condensed.manifest import CondensedSet
from vdc.condensed.preview import FPS
from vdc.ops.pixels import to_frames
from vdc.system.files import fresh_dir
from vdc.system.mp4 import write_mp4
from vdc.system.text import printable

Format = Literal["videos", "frames", "webdataset", "mmaction2", "huggingface"]
PLACES: dict[str, str] = {
    "mmaction2": "videos",
    "huggingface": "train",
}  # folders that clips lie in, where not at the top


def folder_names(classes: Sequence[str]) -> list[str]:
    """Distinct folder names of classes, without characters that split lists or paths."""
    names: list[str] = []
    for label, name in enumerate(classes):
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._") or f"class_{label}"
        names.append(plain if plain not in names else f"{plain}_{label}")
    return names


def export(
    condensed: CondensedSet,
    out: str | Path,
    ipc: int | None = None,
    format: Format = "videos",
) -> Path:
    """Write a condensed set for other toolkits.

    `<class>/<item>.mp4` (or `<item>-<variant>.mp4`), `list.txt` of `path label`, which is mmaction2's annotation
    of a VideoDataset, `classes.txt`, and soft labels, if any, as `labels.safetensors` in the order of the list.
    Written whole or not at all. The videos are near-lossless H.264: 4:4:4, because learnt clips are noise in colour
    and 4:2:0 would cost them 28 dB.

    `frames` writes folders `<class>/<item>/img_00001.jpg`, ... (quality 95, 4:4:4) and a list of `path frames label`,
    which is mmaction2's of a RawframeDataset. `webdataset` packs the videos of `list.txt` into `clips.tar`, samples
    `000000.mp4`, `000000.cls`, in the order of the list. `mmaction2` has the videos in `videos`, `train_list.txt`,
    `label_map.txt` and a `dataset.py` to inherit from; `huggingface` in `train` with `metadata.jsonl`, and a dataset
    card.

    Args:
        condensed: the set.
        out: a new or empty folder.
        ipc: items per class; all of them where not given.
        format: see above.

    Raises:
        ValueError: `out` is not empty, or `ipc` is more than the set holds.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} exists and is not an empty folder: choose another")
    rows, memory = condensed.rows(ipc), condensed.memory()
    variants = memory.variants  # different clips that a row renders as when asked for so often
    per_class, per_item = len(rows) // condensed.num_classes, condensed.per_item
    lines = []
    with fresh_dir(out) as folder:
        place = folder / PLACES.get(format, ".")
        for label, name in enumerate(folder_names(condensed.classes)):
            (place / name).mkdir(parents=True)
            for i, row in enumerate(rows[label * per_class : (label + 1) * per_class]):
                clip = f"{i // per_item:03d}" + (f"_{i % per_item}" if per_item > 1 else "")
                for number, film in enumerate(to_frames(memory.render(row.repeat(variants))[0])):
                    path = f"{name}/{clip}" + (f"-{number}" if variants > 1 else "")
                    if format == "frames":
                        write_frames(place / path, film)
                        lines.append(f"{path} {len(film)} {label}\n")
                    else:
                        write_mp4(place / f"{path}.mp4", film, FPS, 4, "yuv444p")
                        lines.append(f"{path}.mp4 {label}\n")
        describe(condensed, folder, lines, format)
        labels = condensed.labels.prefix(rows.repeat_interleave(variants))
        if labels.kind != "hard":
            save_file(labels.tensors(), folder / "labels.safetensors", {"labels": json.dumps(labels.info())})
    return out


def describe(condensed: CondensedSet, folder: Path, lines: Sequence[str], format: Format) -> None:
    """Write what tells another toolkit of the clips in a folder.

    Args:
        condensed: the set.
        folder: of the export.
        lines: `path label` of every clip.
        format: of the export.
    """
    names = "".join(f"{printable(name)}\n" for name in condensed.classes)
    texts = {"list.txt": "".join(lines), "classes.txt": names}
    if format == "mmaction2":
        texts = {
            "train_list.txt": texts["list.txt"],
            "label_map.txt": names,
            "dataset.py": mmaction2_config(condensed),
        }
    elif format == "huggingface":
        texts = {"train/metadata.jsonl": metadata(condensed.classes, lines), "classes.txt": names}
        texts["README.md"] = card(condensed, len(lines))
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    if format == "webdataset":
        pack(folder, lines)


def write_frames(folder: Path, film: Tensor) -> None:
    """Write a clip (T, H, W, C) uint8 as numbered JPEG files, from 1."""
    folder.mkdir()
    for number, frame in enumerate(film.numpy(), 1):
        Image.fromarray(frame).save(folder / f"img_{number:05d}.jpg", quality=95, subsampling=0)


def pack(folder: Path, lines: Sequence[str]) -> None:
    """Move the videos of a list into `clips.tar`, with their classes: samples as WebDataset names them."""
    with tarfile.open(folder / "clips.tar", "w") as tar:
        for number, line in enumerate(lines):
            path, label = line.rsplit(maxsplit=1)
            sample = tarfile.TarInfo(f"{number:06d}.cls")
            sample.size = len(label)
            tar.add(folder / path, f"{number:06d}.mp4")
            tar.addfile(sample, BytesIO(label.encode()))
            (folder / path).unlink()
    for place in {folder / line.partition("/")[0] for line in lines}:
        place.rmdir()
