"""Video files as people have them that no encoder here writes: cut, trimmed, patched, with covers."""

import io
import struct
from collections.abc import Callable, Collection, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

H264: dict[str, Any] = {"codec": "libx264", "pixels": "yuv420p", "options": {"crf": "5"}}
OPEN: dict[str, Any] = {
    **H264,
    "options": {
        "preset": "medium",
        "x264-params": "open-gop=1:keyint=15:min-keyint=15:bframes=2:b-adapt=0:scenecut=0:crf=5",
    },
}
HEVC: dict[str, Any] = {
    "codec": "libx265",
    "pixels": "yuv420p",
    "gop": 16,
    "settings": {
        "x265-params": "open-gop=1:keyint=16:min-keyint=16:bframes=4:b-adapt=0:scenecut=0:log-level=none:crf=8"
        ":asm=0"  # the assembly of PyAV's x265 writes past its buffers, and aborts within ten such small videos
    },
}
MPEG2: dict[str, Any] = {"codec": "mpeg2video", "pixels": "yuv420p", "settings": {"b": "4M", "bf": "2"}}
MPEG4: dict[str, Any] = {"codec": "mpeg4", "pixels": "yuv420p", "settings": {"b": "4M", "bf": "2"}}
IN_ORDER: dict[str, Any] = {**MPEG4, "settings": {"b": "4M"}}
WMV: dict[str, Any] = {"codec": "wmv2", "pixels": "yuv420p", "settings": {"b": "4M"}}
VP9: dict[str, Any] = {"codec": "libvpx-vp9", "pixels": "yuv420p", "settings": {"crf": "10", "cpu-used": "8"}}
VP8: dict[str, Any] = {"codec": "libvpx", "pixels": "yuv420p", "settings": {"crf": "10", "cpu-used": "8"}}
ONE = 65536
# (a, b, c, d) of a display matrix -> where the top left, top right, bottom left, bottom right corner comes from
ORIENTATIONS = {
    "as_it_is": ((ONE, 0, 0, ONE), "abcd"),
    "clockwise": ((0, ONE, -ONE, 0), "cadb"),
    "half_turn": ((-ONE, 0, 0, -ONE), "dcba"),
    "counterclockwise": ((0, -ONE, ONE, 0), "bdac"),
    "left_right": ((-ONE, 0, 0, ONE), "badc"),
    "up_down": ((ONE, 0, 0, -ONE), "cdab"),
    "transposed": ((0, ONE, ONE, 0), "acbd"),
    "anti_transposed": ((0, -ONE, -ONE, 0), "dbca"),
}


def copied(
    source: Path, target: Path, keep: Callable[[int, Any], bool], shift: int = 0, **options: str
) -> Path:
    """A copy of the packets that `keep` (number, packet) takes, `shift` frames earlier, nothing encoded anew."""
    with av.open(str(source)) as given, av.open(str(target), "w", container_options=options) as made:
        stream = given.streams.video[0]
        out = made.add_stream_from_template(stream)
        offset = int(shift / Fraction(25) / stream.time_base)
        for number, packet in enumerate(p for p in given.demux(stream) if p.size):
            if keep(number, packet):
                packet.pts -= offset
                packet.dts -= offset
                packet.stream = out
                made.mux(packet)
    return target


def from_second_key(source: Path, target: Path) -> Path:
    """Cut before the second key frame: in an open group, pictures after it refer to what is gone."""
    keys = []

    def keep(number: int, packet: Any) -> bool:
        keys.extend([number] if packet.is_keyframe and packet.pts else [])
        return bool(keys)

    return copied(source, target, keep, avoid_negative_ts="make_zero")


def from_middle(source: Path, target: Path) -> Path:
    """Cut in the middle of the first group of pictures."""
    return copied(source, target, lambda number, packet: number > 4, avoid_negative_ts="make_zero")


def with_hole(source: Path, target: Path) -> Path:
    """Without some packets in the middle."""
    return copied(source, target, lambda number, packet: not 17 < number < 21)


def trimmed(source: Path, target: Path, start: int, key: int) -> Path:
    """Trimmed to begin at frame `start`; an edit list hides what leads there from the `key` frame on."""

    def keep(number: int, packet: Any) -> bool:
        return round(packet.pts * packet.time_base * 25) >= key

    return copied(source, target, keep, shift=start, avoid_negative_ts="disabled")


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes, int]]:
    """Tag, content and index flags of every chunk of a small AVI file."""
    at = data.index(b"movi") + 4
    end = at - 4 + struct.unpack("<I", data[at - 8 : at - 4])[0]
    index = data.index(b"idx1", end) + 8
    while at < end:
        size = struct.unpack("<I", data[at + 4 : at + 8])[0]
        yield (
            data[at : at + 4],
            data[at + 8 : at + 8 + size],
            struct.unpack("<I", data[index + 4 : index + 8])[0],
        )
        at, index = at + 8 + size + size % 2, index + 16


def rewritten(
    path: Path, extra: dict[int, bytes], length: int | None = None, astray: Collection[int] = ()
) -> Path:
    """An AVI with chunks added after others.

    `extra`: position -> content, empty to repeat a picture; `length`: frames that the header claims;
    `astray`: entries of the index that point to the next chunk.
    """
    data = path.read_bytes()
    taken = []
    for i, (tag, content, flags) in enumerate(chunks(data)):
        taken.append((tag, content, flags))
        if i in extra:
            taken.append((tag, extra[i], 0))
    body, places = b"movi", []
    for tag, content, flags in taken:
        places.append((tag, flags, len(body), len(content)))
        body += tag + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
    entries = [places[i + 1] if i in astray else place for i, place in enumerate(places)]
    index = b"".join(
        tag + struct.pack("<III", flags, *entry[2:])
        for (tag, flags, *_), entry in zip(places, entries, strict=True)
    )
    made = bytearray(data[: data.index(b"movi") - 8] + b"LIST" + struct.pack("<I", len(body)) + body)
    made += b"idx1" + struct.pack("<I", len(index)) + index
    made[4:8] = struct.pack("<I", len(made) - 8)
    at = made.index(b"strh") + 8 + 32
    made[at : at + 4] = struct.pack("<I", len(taken) if length is None else length)
    path.write_bytes(made)
    return path


def not_coded(number: int) -> bytes:
    """An MPEG-4 picture that says: nothing new, 1/25 s after `number` more (what encoders drop frames with)."""
    bits = f"01{'0'}1{number % 25:05b}10" + "0" + "1" * 7
    bits += "1" * (-len(bits) % 8)
    return b"\x00\x00\x01\xb6" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), kind) + body


def boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    while start < end:
        size, kind = struct.unpack(">I4s", data[start : start + 8])
        yield kind, start, size
        start += size


def cover_first(path: Path) -> Path:
    """Put a cover picture into an mp4, before the track of its video."""
    data = path.read_bytes()
    picture = io.BytesIO()
    Image.new("RGB", (32, 32), (220, 0, 0)).save(picture, "JPEG")
    tag = box(b"covr", box(b"data", struct.pack(">II", 13, 0) + picture.getvalue()))
    handler = box(b"hdlr", struct.pack(">II4s", 0, 0, b"mdir") + b"appl" + bytes(9))
    user = box(b"udta", box(b"meta", bytes(4) + handler + box(b"ilst", tag)))
    _, start, size = next(found for found in boxes(data, 0, len(data)) if found[0] == b"moov")
    inside = [data[at : at + n] for kind, at, n in boxes(data, start + 8, start + size) if kind != b"udta"]
    path.write_bytes(
        data[:start] + box(b"moov", b"".join([inside[0], user, *inside[1:]])) + data[start + size :]
    )
    return path


def still_first(source: Path, target: Path) -> Path:
    """A track with one still picture, marked as default, before the video."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        still = made.add_stream("mjpeg", rate=25)
        still.width, still.height, still.pix_fmt = 320, 240, "yuvj420p"
        still.disposition = av.stream.Disposition.default
        stream = given.streams.video[0]
        out = made.add_stream_from_template(stream)
        out.disposition = av.stream.Disposition(0)
        picture = av.VideoFrame.from_ndarray(np.full((240, 320, 3), 200, np.uint8), format="rgb24")
        made.mux(still.encode(picture.reformat(format="yuvj420p")))
        made.mux(still.encode())
        for packet in given.demux(stream):
            if packet.size:
                packet.stream = out
                made.mux(packet)
    return target


def oriented(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Patch the display matrix (a, b, c, d) of an mp4's video."""
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack(">9i", ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30), data.index(b"tkhd"))
    a, b, c, d = matrix
    data[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path


def two_edits(path: Path, first: tuple[int, int], second: tuple[int, int]) -> Path:
    """Give an mp4 an edit list of two spans (from, to) of frames."""
    data = path.read_bytes()
    scale = struct.unpack(">I", data[data.index(b"mvhd") + 16 :][:4])[0]
    ticks = struct.unpack(">I", data[data.index(b"mdhd") + 16 :][:4])[0]
    spans = [
        struct.pack(">IiI", (end - start) * scale // 25, start * ticks // 25, ONE)
        for start, end in (first, second)
    ]
    edits = box(b"edts", box(b"elst", struct.pack(">II", 0, 2) + b"".join(spans)))
    _, start, size = next(found for found in boxes(data, 0, len(data)) if found[0] == b"moov")
    made = b""
    for kind, at, n in boxes(data, start + 8, start + size):
        if kind == b"trak":
            inner = [(k, data[i : i + m]) for k, i, m in boxes(data, at + 8, at + n)]
            made += box(b"trak", b"".join(edits if k == b"edts" else piece for k, piece in inner))
        else:
            made += data[at : at + n]
    path.write_bytes(data[:start] + box(b"moov", made) + data[start + size :])
    return path


def latin(path: Path) -> Path:
    """Metadata in Latin-1, as many files of HMDB51 have it, in place of the muxer's name."""
    data = path.read_bytes()
    assert b"Lavf" in data
    path.write_bytes(data.replace(b"Lavf", b"\xd3\xe9\xfca"))
    return path
