"""Resizing: from an image of any size to a square of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.errors import UserError

LARGEST_SIDE = 2**14
"""Pixels, far more than any network reads."""
REDUCING_GAP = 3.0
"""Pillow's `reducing_gap` in training: from twice this factor on, whole blocks of pixels are averaged first."""

SPARE = 2**24
"""Pixels that scaling may hold beside those of the image and of what it becomes."""

Member = TypeVar("Member", bound=StrEnum)


class ResizeMode(StrEnum):
    """How an image that is not a square becomes one."""

    CROP = "crop"
    """The shorter side gets the size; what the longer one has beyond it is cut off at both ends."""
    SQUASH = "squash"
    """Both sides get the size; proportions are lost."""
    LETTERBOX = "letterbox"
    """The longer side gets the size; black fills the rest at both ends."""


class Interpolation(StrEnum):
    """Pillow's filters; all but `nearest` average what they scale down."""

    NEAREST = "nearest"
    BOX = "box"
    BILINEAR = "bilinear"
    HAMMING = "hamming"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"

    @property
    def resampling(self) -> Image.Resampling:
        """Pillow's constant."""
        return Image.Resampling[self.name]


@dataclass(frozen=True)
class Resize:
    """Resizing to a square of `side` x `side` pixels.

    Raises:
        UserError: there is no such size, mode or interpolation.
    """

    side: int
    mode: ResizeMode = ResizeMode.CROP
    interpolation: Interpolation = Interpolation.BILINEAR

    def __post_init__(self) -> None:
        if type(self.side) is not int or not 1 <= self.side <= LARGEST_SIDE:
            raise UserError(f"side {self.side!r} is not a size; it must be 1 to {LARGEST_SIDE} pixels")
        # Strings, as JSON and people write them.
        for name, kind in (("mode", ResizeMode), ("interpolation", Interpolation)):
            object.__setattr__(self, name, member(kind, name, getattr(self, name)))

    @classmethod
    def to(cls, side: Resize | int) -> Resize:
        """A number of pixels alone means a crop, bilinear."""
        return side if isinstance(side, Resize) else cls(side)

    def __str__(self) -> str:
        """As in `32 px crop bilinear`."""
        return f"{self.side} px {self.mode} {self.interpolation}"

    def square(self, image: Image.Image, channels: int, *, approximate: bool = False) -> npt.NDArray[np.uint8]:
        """The image's pixels (channels, side, side), 0 to 255; gray for one channel, RGB for three.

        Args:
            approximate: be faster where an image is scaled down a lot (`REDUCING_GAP`). For training alone.
        """
        mode = "L" if channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        box, (width, height) = self._geometry(image.size)
        if image.size != (width, height):
            gap = REDUCING_GAP if approximate and self.is_approximate(image.size) else None
            image = resized(image, (width, height), self.interpolation.resampling, box, gap)
        if (width, height) != (self.side, self.side):
            frame = Image.new(image.mode, (self.side, self.side))
            frame.paste(image, ((self.side - width) // 2, (self.side - height) // 2))
            image = frame
        array = np.asarray(image, dtype=np.uint8)
        return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))

    def is_approximate(self, size: tuple[int, int]) -> bool:
        """Whether `approximate` may change the pixels of an image of that width and height."""
        (left, top, right, bottom), (width, height) = self._geometry(size)
        factor = max((right - left) / width, (bottom - top) / height)
        return self.interpolation is not Interpolation.NEAREST and factor >= 2 * REDUCING_GAP

    def _geometry(self, size: tuple[int, int]) -> tuple[tuple[int, int, int, int], tuple[int, int]]:
        """The part of an image of that size that is resized (left, top, right, bottom), and what it is resized to."""
        width, height = size
        whole = (0, 0, width, height)
        match self.mode:
            case ResizeMode.CROP:
                shorter = min(size)
                left, top = (width - shorter) // 2, (height - shorter) // 2
                return (left, top, left + shorter, top + shorter), (self.side, self.side)
            case ResizeMode.SQUASH:
                return whole, (self.side, self.side)
            case ResizeMode.LETTERBOX:
                longer = max(size)
                return whole, (max(round(width * self.side / longer), 1), max(round(height * self.side / longer), 1))


def resized(
    image: Image.Image,
    size: tuple[int, int],
    resampling: Image.Resampling,
    box: tuple[int, int, int, int],
    gap: float | None = None,
) -> Image.Image:
    """The part of an image in the box, resized: first each row, then each column.

    Pillow rounds after both, and which comes first depends on its version and on the image's sides. Here only a slip,
    as of one column and a million rows, has its columns resized first, or it would become a million rows of that width.
    """
    (left, top, right, bottom), (width, height) = box, size
    if gap is not None:
        return image.resize(size, resampling, box=box, reducing_gap=gap)
    if width * (bottom - top) > max(image.width * image.height, width * height) + SPARE:
        image = image.resize((right - left, height), resampling, box=box)
        return image.resize(size, resampling, box=(0, 0, right - left, height))
    image = image.resize((width, image.height), resampling, box=(left, 0, right, image.height))
    return image.resize(size, resampling, box=(0, top, width, bottom))


def member(kind: type[Member], name: str, value: str) -> Member:
    """
    Raises:
        UserError: the value of the field `name` is none of the enumeration's.
    """
    try:
        return kind(value)
    except ValueError as error:
        raise UserError(f"{name} {value!r} is unknown; it must be one of {', '.join(kind)}") from error
