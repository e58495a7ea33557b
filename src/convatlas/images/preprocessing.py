"""From a decoded image to the numbers that a network reads."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input, the same in training, evaluation and everywhere after."""

    resolution: int
    channels: int
    """1 for gray, 3 for color."""
    mean: tuple[float, ...]
    """For each channel, of values from 0 to 1: what becomes 0."""
    deviation: tuple[float, ...]
    """For each channel: what becomes 1 above the mean."""
    side: int | None = None
    """The training images' own size, where they had one: below `resolution`, others are first made as coarse."""
    ink: float | None = None
    """For images of bright ink on black: the part of the frame that the ink spans; else None."""
    margin: int = 0
    """Pixels on each side of what the network reads: training reads any part of the whole, all else its middle."""

    @property
    def working_side(self) -> int:
        """Side of the images that training takes parts of."""
        return self.resolution + 2 * self.margin

    def fit(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """What a network reads of the image, (channels, resolution, resolution)."""
        if self.side is not None and self.side < self.working_side:
            coarse = fit(image, self.side, self.channels)
            image = Image.fromarray(coarse[0] if self.channels == 1 else coarse.transpose(1, 2, 0))
        middle = slice(self.margin, self.margin + self.resolution)
        return fit(image, self.working_side, self.channels)[:, middle, middle]

    def normalize(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Network input of images (n, channels, height, width) of 0 to 255."""
        mean = np.asarray(self.mean, np.float32)[:, None, None] * 255
        deviation = np.asarray(self.deviation, np.float32)[:, None, None] * 255
        normalized: npt.NDArray[np.float32] = (images.astype(np.float32) - mean) / deviation
        return normalized


def fit(image: Image.Image, resolution: int, channels: int) -> npt.NDArray[np.uint8]:
    """Scale the shorter side to `resolution` and cut the middle square: (channels, resolution, resolution)."""
    image = image.convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (resolution, resolution):
        image = image.resize(
            (resolution, resolution),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
            reducing_gap=3.0,
        )
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))
