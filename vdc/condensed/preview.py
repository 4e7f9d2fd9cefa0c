"""Pictures of stored clips: contact sheets, animated images, and the previews in a set's folder."""

import io
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vdc.condensed.memory import Memory
from vdc.ops.pixels import to_frames
from vdc.system.mp4 import write_mp4

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


@torch.no_grad()
def write_previews(folder: Path, memory: Memory, classes: Sequence[str]) -> None:
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
