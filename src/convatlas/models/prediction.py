"""What a model says of single images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from convatlas.errors import UserError

NUM_CLASSES = 5

ImageInput = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A file, a PIL image, or an array (height, width, 3) of RGB values or (height, width) of gray values, 0 to 255."""


@dataclass(frozen=True)
class Prediction:
    path: Path | None
    """The image's file, if it came from one."""
    classes: tuple[str, ...]
    """Up to five, the most probable first."""
    probabilities: tuple[float, ...]

    @classmethod
    def of(cls, image: ImageInput, classes: tuple[str, ...], probabilities: Tensor) -> Prediction:
        """The most probable classes of one image, from the probabilities (classes,) of all."""
        top = probabilities.topk(min(NUM_CLASSES, len(classes)))
        return cls(
            path=Path(image) if isinstance(image, str | Path) else None,
            classes=tuple(classes[i] for i in top.indices.tolist()),
            probabilities=tuple(top.values.tolist()),
        )


def as_image(image: ImageInput) -> Path | Image.Image:
    """A file's path or a PIL image.

    Raises:
        UserError: it is an array of other numbers, or of another shape.
    """
    if isinstance(image, str):
        return Path(image)
    if isinstance(image, Path | Image.Image):
        return image
    if not isinstance(image, np.ndarray):
        raise UserError(f"a {type(image).__name__} is no image; pass a path, a PIL image or a uint8 array")
    if image.dtype != np.uint8:
        raise UserError(
            f"an array of {image.dtype} does not say what its values mean; pass uint8 values from 0 to 255, "
            "not normalized ones"
        )
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise UserError(
            f"an array of shape {image.shape} is no image; pass (height, width, 3) in RGB order, or (height, width)"
        )
    return Image.fromarray(image)
