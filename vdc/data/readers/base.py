"""What every reader promises, and the one error that it raises."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor


class BadVideo(ValueError):
    """A video that cannot be decoded; one line that starts with its path."""

    def __init__(self, message: str) -> None:
        # a DataLoader raises a worker's error anew, with the worker's traceback as its message
        super().__init__(message.strip().rsplit("BadVideo: ", 1)[-1].splitlines()[0])


@contextmanager
def naming(path: object) -> Iterator[None]:
    """Whatever a decoder raises inside becomes a BadVideo with the path.

    Decoders raise more than their own errors: a damaged header gives UnicodeDecodeError, AttributeError or
    MemoryError, depending on which byte it is.

    Args:
        path: of the video.

    Raises:
        BadVideo: anything was raised.
    """
    try:
        yield
    except BadVideo:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        raise BadVideo(f"{path}: cannot be decoded: {reason}") from error


class Reader(ABC):
    """A video to take frames from; made for one item and thrown away."""

    @abstractmethod
    def __len__(self) -> int:
        """Frames that a player shows, at least 1."""

    @abstractmethod
    def get(self, indices: Sequence[int], size: tuple[int, int] | None = None) -> Tensor:
        """Frames at `indices`, in that order, repeats allowed.

        Args:
            indices: 0-based.
            size: height and width to resize to, antialiased bilinear; `None` keeps the video's.

        Returns:
            (n, H, W, C) uint8 RGB.

        Raises:
            BadVideo: one of the frames cannot be decoded.
        """

    @abstractmethod
    def check(self) -> None:
        """Decode everything, the way that `get` does.

        Raises:
            BadVideo: a frame is damaged or missing.
        """
