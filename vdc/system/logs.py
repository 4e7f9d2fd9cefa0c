"""Pictures in logs: every logger that takes pictures or videos gets them, in its own way."""

import io
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image

TAKE = (TensorBoardLogger, WandbLogger, MLFlowLogger)


def log_image(loggers: Iterable[Any], tag: str, image: bytes, size: Sequence[int], step: int) -> None:
    """Add an encoded picture, which may be animated, to those of some loggers.

    Args:
        loggers: of a trainer; those that take no pictures are passed over.
        tag: its name.
        image: a PNG or GIF file.
        size: height and width in pixels.
        step: when.
    """
    for logger in loggers:
        if isinstance(logger, TensorBoardLogger):
            to_tensorboard(logger, tag, image, size, step)
        elif isinstance(logger, WandbLogger):
            to_wandb(logger, tag, image, step)
        elif isinstance(logger, MLFlowLogger):
            to_mlflow(logger, tag, image, step)


def to_tensorboard(logger: TensorBoardLogger, tag: str, image: bytes, size: Sequence[int], step: int) -> None:
    """`SummaryWriter.add_video` would need moviepy; an image summary may hold an animated GIF just as well."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[import-untyped]  # no stubs shipped

    height, width = size
    held = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=image)
    summary = Summary(value=[Summary.Value(tag=tag, image=held)])
    logger.experiment._get_file_writer().add_summary(summary, step)


def to_wandb(logger: WandbLogger, tag: str, image: bytes, step: int) -> None:
    """A film as a video, anything else as a picture."""
    if suffix(image) == ".png":
        logger.log_image(tag, [Image.open(io.BytesIO(image))], step=step)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.gif"
        path.write_bytes(image)
        logger.log_video(tag, [str(path)], step=step, format=["gif"])


def to_mlflow(logger: MLFlowLogger, tag: str, image: bytes, step: int) -> None:
    """A file among the run's artefacts, as browsers show it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{step:08d}{suffix(image)}"
        path.write_bytes(image)
        logger.experiment.log_artifact(logger.run_id, str(path), artifact_path=tag)


def suffix(image: bytes) -> str:
    """Of a file of these bytes."""
    return ".gif" if image.startswith(b"GIF8") else ".png"


def takes_images(loggers: Iterable[Any]) -> bool:
    """Whether a picture is worth drawing: some logger takes it."""
    return any(isinstance(logger, TAKE) for logger in loggers)
