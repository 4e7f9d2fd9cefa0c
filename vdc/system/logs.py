"""Pictures in logs: TensorBoard takes any that a browser shows, also animated ones."""

from collections.abc import Iterable, Sequence
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger


def log_image(loggers: Iterable[Any], tag: str, image: bytes, size: Sequence[int], step: int) -> None:
    """Add an encoded picture to those of some loggers that are TensorBoard's.

    `SummaryWriter.add_video` would need moviepy; an image summary may hold an animated GIF just as well.

    Args:
        loggers: of a trainer.
        tag: its name.
        image: a PNG or GIF file.
        size: height and width in pixels.
        step: when.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # no stubs shipped

    height, width = size
    held = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=image)
    summary = Summary(value=[Summary.Value(tag=tag, image=held)])
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.experiment._get_file_writer().add_summary(summary, step)


def takes_images(loggers: Iterable[Any]) -> bool:
    """Whether a picture is worth drawing: some logger is TensorBoard's."""
    return any(isinstance(logger, TensorBoardLogger) for logger in loggers)
