"""Is a file all there? Asked of the file's own structure: counts in headers are often wrong in sound files."""

import os
from typing import Any, BinaryIO

HEAD = 1 << 16  # bytes in which a header stands
EBML, SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the object that holds the file's size
TS_PACKETS = {188: 0, 192: 4, 204: 0}  # bytes of a transport packet -> before its sync byte


def lacking(path: str, container: Any, stream: Any, packets: int, last_partial: bool) -> bool:
    """Whether the file ends before its container does, or lacks packets that its index lists.

    Args:
        path: of the file.
        container: it, read to its end.
        stream: of the video.
        packets: that were read of it.
        last_partial: the last of them came short.
    """
    kind, size = container.format.name, os.path.getsize(path)
    if last_partial and kind != "mpegts":  # there the joint of two files looks like that
        return True
    if kind.startswith(("mov", "avi")) and packets < len(stream.index_entries):
        return True  # the index is complete, whatever could be read
    if kind.startswith("mov"):
        return False
    with open(path, "rb") as file:
        head = file.read(HEAD)
        if kind == "mpegts":
            return _partial_packet(head, size)
        if kind.startswith("matroska"):
            return size < _segment_end(head)
        if kind == "asf":
            at = head.find(ASF_FILE)
            return 0 <= at < size < int.from_bytes(head[at + 40 : at + 48], "little")
        if kind == "avi":  # where only the index is gone, all frames are there
            return packets < stream.frames and size < _riff_end(file, size)
    return False


def _partial_packet(head: bytes, size: int) -> bool:
    """Whether a transport stream ends inside a packet."""
    for length, offset in TS_PACKETS.items():
        if head[offset::length][:8].count(0x47) == min(8, len(head[offset::length])):
            return size % length > 0
    return False


def _segment_end(head: bytes) -> int:
    """Where the segment of a Matroska file ends; 0 where that is left open, as in a live recording."""
    if not head.startswith(EBML):
        return 0
    length, value = _vint(head, 4)
    at = 4 + length + value
    if head[at : at + 4] != SEGMENT:
        return 0
    length, value = _vint(head, at + 4)
    return 0 if value == (1 << 7 * length) - 1 else at + 4 + length + value


def _vint(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length: its bytes, and its value."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    return length, int.from_bytes(data[at : at + length], "big") & ((1 << 7 * length) - 1)


def _riff_end(file: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI file ends: there is another one per gigabyte."""
    end = 0
    while end < size:
        file.seek(end + end % 2)
        header = file.read(8)
        length = int.from_bytes(header[4:], "little")
        if header[:4] != b"RIFF" or not length:
            break
        end += end % 2 + 8 + length
    return end
