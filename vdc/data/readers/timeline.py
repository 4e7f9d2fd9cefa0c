"""Which frames a file must show, and where decoding may start, as far as its packets can be trusted to tell."""

from typing import Any, NamedTuple

# codecs of which one packet is one picture, if need be by a look at its bytes; none of the last group reorders
PICTURES = frozenset(("h264", "hevc", "av1", "libdav1d", "vp9", "mpeg1video", "mpeg2video", "prores"))
INSPECTED = frozenset(("mpeg4", "vp8"))
IN_ORDER = frozenset(("mjpeg", "msmpeg4v2", "msmpeg4v3", "ffv1", "huffyuv", "rawvideo", "dvvideo", "png"))
KNOWN = PICTURES | INSPECTED | IN_ORDER
TIMED = ("mov", "matroska", "mpegts", "flv")  # containers that time each packet
SOUGHT = ("mov", "matroska", "avi")  # containers that seek exactly; AVI knows no times, it counts packets
FIELDS = frozenset(("h264", "hevc"))  # codecs of which a packet may be a single field
PROGRESSIVE = (0, 1)  # unknown or progressive, as libavcodec numbers orders of fields
VOP = b"\x00\x00\x01\xb6"  # starts an MPEG-4 picture
DROPPED = 16  # bytes below which an MPEG-4 packet may be the mark of a picture left out


class Timeline(NamedTuple):
    """What demuxing a stream to its end told."""

    times: list[int]  # ascending, of frames that must come; empty where packets do not tell
    keys: list[int]  # ascending, times of packets that decode alone
    places: dict[int, tuple[int | None, int]]  # of each of these: where it lies in the file, and its bytes
    sought: bool  # `times` are all frames and seeking finds them; else frames are found by counting
    packets: int
    partial: bool  # the last packet came short
    hidden: bool  # an edit list hides packets
    open_groups: bool  # pictures after a key frame are shown before it


def timeline(container: Any, stream: Any) -> Timeline:
    """Demux a stream to its end.

    Args:
        container: at its start.
        stream: of it.
    """
    context = stream.codec_context
    codec, reorders = context.name, context.has_b_frames
    avi = container.format.name == "avi"
    times: list[int | None] = []  # of packets that are shown
    hidden: list[int | None] = []  # of those that an edit list hides
    keys: list[int | None] = []
    places = {}
    before = packets = 0  # shown packets before the first key
    plain, partial, open_groups = codec in KNOWN, False, False
    for packet in container.demux(stream):
        if not packet.size:
            continue
        packets, partial = packets + 1, packet.is_corrupt
        if packet.is_keyframe:
            before = before if keys else len(times)
            keys.append(packet.pts)
            if packet.pts is not None:
                places[packet.pts] = packet.pos, packet.size
        elif keys and None not in (keys[-1], packet.pts):
            open_groups = open_groups or packet.pts < keys[-1]
        (hidden if packet.is_discard else times).append(packet.pts)
        if codec in INSPECTED and plain:
            plain = _one_picture(bytes(packet), codec, reorders=not avi)
    due = _due(times[before:], keys)
    told = plain and len(due) > 0 and not (codec in FIELDS and context.field_order not in PROGRESSIVE)
    sought = (
        told
        and container.format.name.startswith(SOUGHT)
        and len(due) == len(times)
        and not any(time is None or due[0] <= time <= due[-1] for time in hidden)  # several edits
        and (not avi or codec in IN_ORDER or (codec == "mpeg4" and not reorders))
    )
    told = told and (sought or container.format.name.startswith(TIMED))
    return Timeline(
        due if told else [], sorted(places), places, sought, packets, partial, bool(hidden), open_groups
    )


def _due(times: list[int | None], keys: list[int | None]) -> list[int]:
    """Times, ascending, from the first key on; none if some are missing or double.

    A file that was cut by copying begins with pictures that refer to others before it: they come before the
    first key, or, in an open group, after it and with earlier times.
    """
    if not keys or keys[0] is None or None in times or len(set(times)) < len(times):
        return []
    return sorted(time for time in times if time is not None and time >= keys[0])


def _one_picture(data: bytes, codec: str, reorders: bool) -> bool:
    """Whether a packet holds one picture that is shown, in its turn unless `reorders`."""
    if codec == "vp8":
        return bool(data[0] & 16)  # show_frame
    at = data.find(VOP)
    if at < 0 or data.count(VOP) > 1 or len(data) < max(DROPPED, at + 5):
        return False
    return reorders or data[at + 4] >> 6 != 2  # no B-picture
