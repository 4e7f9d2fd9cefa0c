"""Pictures of stored clips: contact sheets, animated images, and the previews in a set's folder."""

import io
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vdc.condensed.memory import Memory
from vdc.ops.pixels import to_frames
from vdc.system.mp4 import write_mp4
from vdc.system.text import printable

PREVIEW_CLASSES, PREVIEW_ITEMS = 16, 8
GAP = 2  # pixels between neighbours on a sheet
STRIP = 16  # pixels of a line of words
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


def lettered(film: Tensor, names: Sequence[str], heading: str = "", ticks: Sequence[str] = ()) -> Tensor:
    """A film of rows with their names at the left, a line above, and words below its columns.

    Args:
        film: (T, H, W, C) uint8, rows of equal height.
        names: of the rows.
        heading: above; none takes no room.
        ticks: below columns of equal width; none take no room.

    Returns:
        (T, H + strips, W + margin, C) uint8; the film is as it was, beside its names.
    """
    font, names = ImageFont.load_default(), [*map(printable, names)]
    time, height, width, _ = film.shape
    margin = 8 + max((int(font.getlength(name)) for name in names), default=0)
    needed = max(margin + width, 8 + int(font.getlength(heading)))
    above, below = STRIP * bool(heading), STRIP * bool(ticks)
    page = Image.new("RGB", (needed, above + height + below))
    pen = ImageDraw.Draw(page)
    pen.text((4, STRIP // 2), heading, fill="white", font=font, anchor="lm")
    for row, name in enumerate(names):
        pitch = height / len(names)
        pen.text((4, above + (row + 0.5) * pitch), name, fill="white", font=font, anchor="lm")
    for column, word in enumerate(ticks):
        pitch = width / len(ticks)
        pen.text(
            (margin + (column + 0.5) * pitch, page.height - STRIP // 2),
            word,
            fill="white",
            font=font,
            anchor="mm",
        )
    ground = torch.from_numpy(np.array(page)).to(film)
    found = ground.expand(time, *ground.shape).clone()
    found[:, above : above + height, margin : margin + width] = film
    return found


def contact_sheet(
    frames: Tensor, names: Sequence[str], columns: int = 12, side: int = 64, heading: str = ""
) -> Image.Image:
    """A picture of clips, one row each: name, then frames along time, with their numbers below.

    Args:
        frames: (N, T, H, W, C) uint8.
        names: one per clip.
        columns: most frames shown of a clip, evenly spread.
        side: pixels a frame is enlarged to.
        heading: what it shows.
    """
    shown = min(columns, frames.shape[1])
    when = torch.linspace(0, frames.shape[1] - 1, shown).round().long()
    cells = enlarge(frames[:, when].cpu(), side)  # (N, shown, H, W, C)
    sheet = grid(cells.flatten(0, 1)[:, None], shown)
    ticks = [f"frame {t + 1}" if not i else str(t + 1) for i, t in enumerate(when.tolist())]
    return Image.fromarray(lettered(sheet, names, heading, ticks)[0].byte().numpy())


@torch.no_grad()
def write_previews(folder: Path, memory: Memory, classes: Sequence[str], method: str) -> None:
    """Pictures of what is stored, with names.

    Args:
        folder: gets `preview.png`, frames of the first clip of classes, and `preview.mp4`, first clips of classes,
            a row each.
        memory: what is stored.
        classes: names.
        method: what condensed it.
    """
    per_class, spec = memory.ipc * memory.per_item, memory.spec
    columns, shown = min(per_class, PREVIEW_ITEMS), min(len(classes), PREVIEW_CLASSES)
    rows = torch.arange(len(memory)).view(-1, per_class)[:shown, :columns].flatten()
    device = next(chain(memory.parameters(), memory.buffers())).device
    chunks = rows.to(device).tensor_split(shown)
    frames = torch.cat([to_frames(memory.render(chunk)[0]).cpu() for chunk in chunks])  # (N, T, H, W, C)
    heading = (
        f"{method}, {memory.ipc} per class: {spec.stored} frames of {spec.size} px, stride {spec.stride}"
    )
    contact_sheet(frames[::columns], classes[:shown], heading=heading).save(folder / "preview.png")
    film = lettered(grid(enlarge(frames, 96), columns), classes[:shown], heading)
    loops = max(1, round(4 * FPS / len(film)))  # some 4 s: one pass of 8 frames is over before it is seen
    write_mp4(folder / "preview.mp4", film.repeat(loops, 1, 1, 1), FPS)
