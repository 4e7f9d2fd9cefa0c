"""Decoded frames on disk: one memory-mapped file per split, shared by processes and by later commands."""

import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vdc.data.index import Video
from vdc.data.reader import decoder_version
from vdc.data.store import Needed, Store, decode_all, placed
from vdc.system.files import free_bytes, fresh_dir, sweep
from vdc.system.locks import locked
from vdc.system.schema import read_tensors

FRAMES, INDEX = "frames.u8", "index.safetensors"
VERSION = 1  # of the files: another one is decoded anew
LOOKED_AT = (*range(1, 65), 100, 300, 1000)  # lengths that tell which frames are asked for
log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where decoded frames lie: `$VDC_CACHE`, or `vdc/frames` in the user's cache."""
    own = os.environ.get("VDC_CACHE")
    return (
        Path(own)
        if own
        else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vdc" / "frames"
    )


class DiskStore(Store):
    """Frames in a file that is read as they are needed; those of a video are compared with their sum at first sight.

    Args:
        folder: of the file and its index.
        size: height and width.
    """

    def __init__(self, folder: Path, size: tuple[int, int]) -> None:
        index = read_tensors(folder / INDEX)
        lengths, counts, self.kept, self.sums = (
            index[name] for name in ("lengths", "counts", "kept", "sums")
        )
        whole = int(counts.sum()) * size[0] * size[1] * 3
        if (found := (folder / FRAMES).stat().st_size) != whole or len(self.kept) != counts.sum():
            raise ValueError(f"{folder / FRAMES}: {found} bytes, expected {whole}")
        with torch.inference_mode(False):
            flat = torch.from_file(str(folder / FRAMES), shared=False, size=whole, dtype=torch.uint8)
        kept = [part.tolist() for part in torch.split(self.kept.long(), counts.tolist())]
        super().__init__(flat.view(-1, *size, 3), *placed(lengths.tolist(), kept))
        self.folder, self.size, self.known = folder, size, set[int]()

    def __reduce__(self) -> tuple[Any, ...]:
        """A worker opens the file itself."""
        return DiskStore, (self.folder, self.size)

    def positions(self, row: int, indices: Sequence[int]) -> Tensor:
        """See `Store`.

        Raises:
            ValueError: what lies on the disk is not what was written.
        """
        if row not in self.known:
            if checksum(self.frames[self.first[row] : self.first[row + 1]]) != int(self.sums[row]):
                raise ValueError(
                    f"{self.folder / FRAMES}: frames of video {row} are not what was written: remove that folder, and "
                    "they are decoded again"
                )
            self.known.add(row)
        return super().positions(row, indices)


def checksum(frames: Tensor) -> int:
    """CRC-32 of frames (n, H, W, C) uint8."""
    return zlib.crc32(memoryview(frames.contiguous().numpy().data))


def identity(videos: Sequence[Video], size: tuple[int, int], needed: Needed) -> str:
    """A name for the decoded frames of videos: by files, size, decoder, and which frames are asked for.

    Args:
        videos: of a split, in order.
        size: height and width.
        needed: from the length of a video to its frames.

    Raises:
        OSError: a file is not there.
    """
    digest = hashlib.sha256(json.dumps([VERSION, size, [list(needed(n)) for n in LOOKED_AT]]).encode())
    for decoder in sorted({video.decoder for video in videos}):
        digest.update(decoder_version(decoder).encode())
    for video in videos:
        files = (
            [video.path] if not os.path.isdir(video.path) else sorted(e.path for e in os.scandir(video.path))
        )
        told = [(path, (stat := os.stat(path)).st_size, stat.st_mtime_ns) for path in files]
        digest.update(repr((video.path, video.frames, video.decoder, told)).encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def open_or_make(
    videos: Sequence[Video],
    size: tuple[int, int],
    needed: Needed,
    limit: int,
    name: str,
    local: tuple[int, int],
    lengths_of: Callable[[], list[int]],
) -> Store:
    """The decoded frames of a split, by the first process that asks; others wait and share them.

    Args:
        videos: the split.
        size: height and width that frames are resized to.
        needed: which frames to keep of a video of some length.
        limit: bytes of all splits in the cache; those used longest ago make room.
        name: of the split, for messages.
        local: see `vdc.data.cache.load`.
        lengths_of: opens all videos.

    Raises:
        ValueError: the split is larger than the limit or the free disk.
        OSError: the disk is full; nothing is left behind.
        BadVideo: a video cannot be decoded.
    """
    root, key = cache_folder(), identity(videos, size, needed)
    folder = root / key
    with locked(root / f"{key}.lock"):
        store = _opened(folder, size, needed)
        if store is not None:
            return store
        sweep(root)
        lengths = lengths_of()
        kept = [sorted(set(needed(length))) for length in lengths]
        bytes_ = sum(map(len, kept)) * size[0] * size[1] * 3
        told = f"--data.cache disk: the {len(videos)} {name} videos take {bytes_ / 1e9:.2f} GB"
        with fresh_dir(folder) as place:
            with locked(root / ".lock"), (place / FRAMES).open("wb") as file:
                _make_room(root, bytes_, limit, told)
                file.truncate(bytes_)  # from here on others count it
            _write(place, videos, size, lengths, kept, name, local)
        return DiskStore(folder, size)


def _opened(folder: Path, size: tuple[int, int], needed: Needed) -> DiskStore | None:
    """What is there, if it is whole and holds just the frames needed; else it is removed."""
    if not folder.exists():
        return None
    try:
        store = DiskStore(folder, size)
        wanted = [frame for length in store.lengths for frame in sorted(set(needed(length)))]
        if wanted != store.kept.tolist():
            raise ValueError(f"{folder} holds other frames")
    except (ValueError, OSError, KeyError) as error:
        log.warning("decoded again, the cache is damaged: %s", error)
        shutil.rmtree(folder)
        return None
    os.utime(folder)  # used last
    return store


def _make_room(root: Path, bytes_: int, limit: int, told: str) -> None:
    """Remove what was used longest ago until so many bytes fit, beside what others are writing.

    Raises:
        ValueError: they cannot, as `told` begins to say.
    """
    entries, busy = list[tuple[float, int, Path]](), 0
    for path in root.iterdir():
        with suppress(OSError):  # removed by another process
            if path.is_dir():
                size = sum(file.stat().st_size for file in path.iterdir())
                if path.name.startswith("."):
                    busy += size
                else:
                    entries.append((path.stat().st_mtime, size, path))
    held, free = sum(size for _, size, _ in entries), free_bytes(root)
    if busy + bytes_ > limit:
        beside = f" beside {busy / 1e9:.2f} GB being written," if busy else ","
        raise ValueError(
            f"{told}{beside} more than --data.cache_gb {limit / 1e9:g}: raise it, or lower --data.load_size"
        )
    if held + free < bytes_:
        raise ValueError(
            f"{told}, and {(held + free) / 1e9:.2f} GB are free at {root}: set --data.cache none, or VDC_CACHE to "
            "another disk"
        )
    for _, size, path in sorted(entries):
        if held + busy + bytes_ <= limit and free >= bytes_:
            return
        shutil.rmtree(path, ignore_errors=True)  # who reads it keeps what it has mapped
        log.info("%s made room in the cache of frames", path)
        held, free = held - size, free + size


def _write(
    place: Path,
    videos: Sequence[Video],
    size: tuple[int, int],
    lengths: list[int],
    kept: list[list[int]],
    name: str,
    local: tuple[int, int],
) -> None:
    """Decode a split into a file, each video at its place, and write the index of it."""
    sums = [0] * len(videos)  # no tensor: made in a trainer's inference mode, threads could not write to it
    first = placed(lengths, kept)[2]
    with (place / FRAMES).open("r+b") as file:

        def put(row: int, frames: Tensor) -> None:
            data = memoryview(frames.numpy().reshape(-1).data)
            offset = first[row] * size[0] * size[1] * 3
            while data:  # not through the map: a full disk would kill the process
                written = os.pwrite(file.fileno(), data, offset)
                data, offset = data[written:], offset + written
            sums[row] = checksum(frames)

        decode_all(videos, size, kept, put, name, local)
    flat = [frame for frames in kept for frame in frames]
    index = {
        "lengths": torch.tensor(lengths),
        "counts": torch.tensor([len(frames) for frames in kept]),
        "sums": torch.tensor(sums),
    }
    save_file(index | {"kept": torch.tensor(flat, dtype=torch.int32)}, place / INDEX)
