"""From a decoded picture to the numbers that a network reads."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How a picture becomes a network's input, the same in training, evaluation and everywhere after."""

    resolution: int
    channels: int
    """1 for grey, 3 for colour."""
    mean: tuple[float, ...]
    """For each channel, of values from 0 to 1: what becomes 0."""
    deviation: tuple[float, ...]
    """For each channel: what becomes 1 above the mean."""
    side: int | None = None
    """The training pictures' own size, where they had one: below `resolution`, others are first made as coarse."""
    ink: float | None = None
    """For pictures of bright ink on black: the part of the frame that the ink spans; else None."""
    margin: int = 0
    """Pixels on each side of what the network reads: training reads any part of the whole, all else its middle."""

    @property
    def working_side(self) -> int:
        """Side of the pictures that training takes parts of."""
        return self.resolution + 2 * self.margin

    def fit(self, picture: Image.Image) -> npt.NDArray[np.uint8]:
        """What a network reads of the picture, (channels, resolution, resolution)."""
        if self.side is not None and self.side < self.working_side:
            coarse = fit(picture, self.side, self.channels)
            picture = Image.fromarray(coarse[0] if self.channels == 1 else coarse.transpose(1, 2, 0))
        middle = slice(self.margin, self.margin + self.resolution)
        return fit(picture, self.working_side, self.channels)[:, middle, middle]

    def normalise(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Network input of pictures (n, channels, height, width) of 0 to 255."""
        mean = np.asarray(self.mean, np.float32)[:, None, None] * 255
        deviation = np.asarray(self.deviation, np.float32)[:, None, None] * 255
        normalised: npt.NDArray[np.float32] = (pictures.astype(np.float32) - mean) / deviation
        return normalised


def fit(picture: Image.Image, resolution: int, channels: int) -> npt.NDArray[np.uint8]:
    """Scale the shorter side to `resolution` and cut the middle square: (channels, resolution, resolution)."""
    picture = picture.convert("L" if channels == 1 else "RGB")
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    if picture.size != (resolution, resolution):
        picture = picture.resize(
            (resolution, resolution),
            Image.Resampling.BILINEAR,
            box=(left, top, left + side, top + side),
            reducing_gap=3.0,
        )
    array = np.asarray(picture, dtype=np.uint8)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))
