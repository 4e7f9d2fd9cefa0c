"""What other programs read: mp4 files with a `path label` list, contact sheets, animated images."""

import io
import json
import re
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save_file
from torch import Tensor

from vdc.ops.files import fresh_dir
from vdc.ops.mp4 import write_mp4
from vdc.ops.pixels import to_frames

if TYPE_CHECKING:
    from vdc.condensed.format import CondensedSet, Storable

__all__ = ["contact_sheet", "export", "grid", "write_gif", "write_mp4", "write_previews"]

PREVIEW_CLASSES, PREVIEW_ITEMS = 16, 8
GAP = 2  # pixels between neighbours on a sheet
FPS = 8  # stored frames are a stride apart: real time would flash by


def write_gif(frames: Tensor, fps: int = FPS) -> bytes:
    """An endless animation of frames (T, H, W, C) uint8: what TensorBoard plays as an image."""
    images = [Image.fromarray(frame) for frame in frames.byte().cpu().numpy()]
    held = io.BytesIO()
    images[0].save(held, "GIF", save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    return held.getvalue()


def enlarge(frames: Tensor, side: int) -> Tensor:
    """Repeat the pixels of frames (..., H, W, C) until their height is about `side`."""
    times = max(1, round(side / frames.shape[-3]))
    return frames.repeat_interleave(times, -3).repeat_interleave(times, -2)


def grid(frames: Tensor, columns: int) -> Tensor:
    """Clips side by side, row by row, with black gaps.

    Args:
        frames: (N, T, H, W, C) uint8; N need not fill the last row.
        columns: clips in a row.

    Returns:
        (T, rows * (H + gap), columns * (W + gap), C) uint8.
    """
    n, time, height, width, channels = frames.shape
    rows = -(-n // columns)
    sheet = frames.new_zeros(rows * columns, time, height + GAP, width + GAP, channels)
    sheet[:n, :, :height, :width] = frames
    sheet = sheet.view(rows, columns, *sheet.shape[1:]).permute(
        2, 0, 3, 1, 4, 5
    )  # (T, rows, H, columns, W, C)
    return sheet.flatten(3, 4).flatten(1, 2)


def contact_sheet(frames: Tensor, names: Sequence[str], columns: int = 12, side: int = 64) -> Image.Image:
    """A picture of clips, one row each: name, then frames along time.

    Args:
        frames: (N, T, H, W, C) uint8.
        names: one per clip.
        columns: most frames shown of a clip, evenly spread.
        side: pixels a frame is enlarged to.
    """
    shown = min(columns, frames.shape[1])
    when = torch.linspace(0, frames.shape[1] - 1, shown).round().long()
    cells = enlarge(frames[:, when].cpu(), side)  # (N, shown, H, W, C)
    sheet = Image.fromarray(grid(cells.flatten(0, 1)[:, None], shown)[0].byte().numpy())
    font = ImageFont.load_default()
    margin = 8 + max(int(font.getlength(name)) for name in names)
    page = Image.new("RGB", (margin + sheet.width, sheet.height))
    page.paste(sheet, (margin, 0))
    pen, pitch = ImageDraw.Draw(page), cells.shape[2] + GAP
    for row, name in enumerate(names):
        pen.text((4, row * pitch + pitch // 2), name, fill="white", font=font, anchor="lm")
    return page


def folder_names(classes: Sequence[str]) -> list[str]:
    """Distinct folder names of classes, without characters that split lists or paths."""
    names: list[str] = []
    for label, name in enumerate(classes):
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._") or f"class_{label}"
        names.append(plain if plain not in names else f"{plain}_{label}")
    return names


def export(
    condensed: "CondensedSet",
    clips_of: Callable[[Tensor], Tensor],
    out: str | Path,
    ipc: int | None = None,
    variants: int = 1,
) -> Path:
    """Write a condensed set as videos for other toolkits.

    `<class>/<item>.mp4` (or `<item>-<variant>.mp4`), `list.txt` of `path label`, `classes.txt`, and soft
    labels, if any, as `labels.safetensors` in the order of the list. Written whole or not at all. The videos
    are near-lossless H.264: 4:4:4, because learnt clips are noise in colour and 4:2:0 would cost them 28 dB.

    Args:
        condensed: the set.
        clips_of: renders clip rows (n,) int64 as frames (n, T, H, W, C) uint8.
        out: a new or empty folder.
        ipc: items per class; all of them where not given.
        variants: different clips that a row renders as when asked for so often; all of them are written.

    Raises:
        ValueError: `out` is not empty, or `ipc` is more than the set holds.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out} exists and is not an empty folder: choose another")
    rows = condensed.rows(ipc)
    per_class, per_item = len(rows) // condensed.num_classes, condensed.per_item
    lines = []
    with fresh_dir(out) as folder:
        for label, name in enumerate(folder_names(condensed.classes)):
            (folder / name).mkdir()
            for i, row in enumerate(rows[label * per_class : (label + 1) * per_class]):
                clip = f"{i // per_item:03d}" + (f"_{i % per_item}" if per_item > 1 else "")
                for number, film in enumerate(clips_of(row.repeat(variants)).cpu()):
                    path = f"{name}/{clip}" + (f"-{number}" if variants > 1 else "") + ".mp4"
                    write_mp4(folder / path, film, FPS, 4, "yuv444p")
                    lines.append(f"{path} {label}\n")
        (folder / "list.txt").write_text("".join(lines), encoding="utf-8")
        (folder / "classes.txt").write_text(
            "".join(f"{name}\n" for name in condensed.classes), encoding="utf-8"
        )
        labels = condensed.labels.prefix(rows.repeat_interleave(variants))
        if labels.kind != "hard":
            save_file(labels.tensors(), folder / "labels.safetensors", {"labels": json.dumps(labels.info())})
    return out


@torch.no_grad()
def write_previews(folder: Path, memory: "Storable", classes: Sequence[str]) -> None:
    """`preview.png`: frames of the first clip of classes. `preview.mp4`: first clips, a row per class."""
    per_class = memory.ipc * memory.per_item
    columns, shown = min(per_class, PREVIEW_ITEMS), min(len(classes), PREVIEW_CLASSES)
    rows = torch.arange(len(memory)).view(-1, per_class)[:shown, :columns].flatten()
    device = next(chain(memory.parameters(), memory.buffers())).device
    chunks = rows.to(device).tensor_split(shown)
    frames = torch.cat([to_frames(memory.render(chunk)[0]).cpu() for chunk in chunks])  # (N, T, H, W, C)
    contact_sheet(frames[::columns], classes[:shown]).save(folder / "preview.png")
    film = grid(enlarge(frames, 96), columns)
    loops = max(1, round(4 * FPS / len(film)))  # some 4 s: one pass of 8 frames is over before it is seen
    write_mp4(folder / "preview.mp4", film.repeat(loops, 1, 1, 1), FPS)
