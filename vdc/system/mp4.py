"""Writing H.264: the one encoder behind previews, exports, the toy set and prepared videos."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path

import av
from torch import Tensor
from torch.nn.functional import pad


def encode(
    path: str | Path,
    frames: Iterable[av.VideoFrame],
    size: tuple[int, int],
    rate: Fraction | int,
    options: Mapping[str, str],
    pixels: str = "yuv420p",
) -> int:
    """Write frames, one after the other at a constant rate, as H.264 in an mp4 file.

    Args:
        path: the file; its content is mp4 whatever its suffix.
        frames: decoded or made, of any size and pixel format: converted here.
        size: height and width written.
        rate: frames per second.
        options: of libx264.
        pixels: pixel format written.

    Returns:
        frames written.
    """
    count = 0
    with av.open(str(path), "w", format="mp4") as container:
        # libx264's mbtree reads uninitialised memory (at 32, 48, 112 pixels): output would not be reproducible.
        stream = container.add_stream("libx264", rate=rate, options={**options, "mbtree": "0"})
        stream.height, stream.width = size
        stream.pix_fmt = pixels
        stream.thread_count = 1  # callers run one encoder per core, and the same frames give the same bytes
        for frame in frames:
            converted = frame.reformat(
                width=size[1],
                height=size[0],
                format=pixels,
                interpolation="AREA",
                dst_colorspace="ITU601",  # what readers assume of a stream that names nothing
                dst_color_range="MPEG",
            )
            converted.pts, converted.time_base = count, 1 / Fraction(rate)
            container.mux(stream.encode(converted))
            count += 1
        container.mux(stream.encode())
    return count


def write_mp4(
    path: str | Path,
    frames: Tensor,
    fps: int = 8,
    crf: int = 18,
    pixels: str = "yuv420p",
    gop: int | None = None,
) -> None:
    """Write a clip that every player shows.

    Args:
        path: the file.
        frames: (T, H, W, C) uint8 RGB. With `yuv420p`, odd sides repeat their last line to become even.
        fps: frames per second.
        crf: of libx264; 18 looks the same, 0 is lossless up to the change of colour space.
        pixels: `yuv420p` plays everywhere; `yuv444p` keeps colour at full resolution.
        gop: most frames from one that decodes alone to the next; libx264's choice where not given.
    """
    if pixels == "yuv420p":
        planes = frames.movedim(-1, 0).float()
        frames = pad(planes, (0, frames.shape[2] % 2, 0, frames.shape[1] % 2), mode="replicate").movedim(
            0, -1
        )
    images = frames.byte().contiguous().numpy()
    made = (av.VideoFrame.from_ndarray(image, format="rgb24") for image in images)
    options = {"crf": str(crf), "preset": "veryfast"} | ({} if gop is None else {"g": str(gop)})
    encode(path, made, images.shape[1:3], fps, options, pixels)
