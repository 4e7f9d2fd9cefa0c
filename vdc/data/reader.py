"""Frames of one video, by index, whatever it is and whatever decodes it."""

import os

import av

from vdc.data.readers.base import BadVideo, Reader
from vdc.data.readers.folder import IMAGES, FrameFolder
from vdc.data.readers.pyav import VideoFile

__all__ = ["IMAGES", "BadVideo", "Reader", "decoder", "open_video"]


def open_video(path: str, frames: int | None = None) -> Reader:
    """A reader of a video file, or of a folder of numbered images.

    Args:
        path: file or folder.
        frames: of a folder: how many of its images to use; `None` uses all.

    Raises:
        BadVideo: it is not there, not a video, or cut off.
    """
    return FrameFolder(path, frames) if os.path.isdir(path) else VideoFile(path)


def decoder() -> str:
    """Name and version of the decoder, for manifests."""
    return f"av {av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"
