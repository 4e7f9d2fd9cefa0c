"""Frames of one video, by index, whatever it is and whatever decodes it."""

import os
from typing import Literal

import av

from vdc.data.readers.base import BadVideo, Reader
from vdc.data.readers.decord_file import DecordFile, decord
from vdc.data.readers.folder import IMAGES, FrameFolder
from vdc.data.readers.pyav import VideoFile

__all__ = ["IMAGES", "BadVideo", "Decoder", "Reader", "decoder_version", "open_video"]

Decoder = Literal["pyav", "decord"]


def open_video(path: str, frames: int | None = None, decoder: Decoder = "pyav") -> Reader:
    """A reader of a video file, or of a folder of numbered images.

    Args:
        path: file or folder.
        frames: of a folder: how many of its images to use; `None` uses all.
        decoder: of files: `pyav` gives what players show, `decord` what published pipelines trained on.

    Raises:
        BadVideo: it is not there, not a video, or cut off.
    """
    if os.path.isdir(path):
        return FrameFolder(path, frames)
    return DecordFile(path) if decoder == "decord" else VideoFile(path)


def decoder_version(decoder: Decoder = "pyav") -> str:
    """Name and version of a decoder, for manifests.

    Raises:
        ValueError: it is not installed.
    """
    if decoder == "decord":
        return f"decord {decord().__version__}"
    return f"av {av.__version__} (libavcodec {'.'.join(map(str, av.library_versions['libavcodec']))})"
