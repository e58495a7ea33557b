"""Preprocessing: from an image file to the numbers that a network reads, without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.errors import UserError
from convatlas.images.decode import decode, decode_opened
from convatlas.images.files import ImageError, path_of
from convatlas.images.ink import SMALLEST_INK, is_blank, is_of_set, reframe
from convatlas.images.resize import LARGEST_SIDE, Interpolation, Resize, ResizeMode, member

ImageInput = str | Path | Image.Image | npt.NDArray[np.uint8]
"""A file, a PIL image, or an array (height, width, 3) of RGB values or (height, width) of gray values, 0 to 255."""


class ChannelOrder(StrEnum):
    """The order of the color channels that a network reads; networks trained with Caffe or OpenCV read BGR."""

    RGB = "rgb"
    BGR = "bgr"


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """How an image becomes a network's input, the same in evaluation, prediction and on a device.

    An image is decoded exactly, resized, cropped to its center and normalized: `(pixel - mean) / std` for each channel.
    Training reads random parts of the resized image instead of its center, and may decode faster and less exactly.

    Raises:
        UserError: a field has a value that does not work; the message names it.
    """

    resize: int
    """Pixels of the resized square; `mode` says what of the image is resized to it."""
    crop: int
    """Side of the center square that the network reads, in pixels."""
    channels: int
    """1 for gray, 3 for color."""
    mean: tuple[float, ...]
    """Of each channel, in the order that the network reads."""
    std: tuple[float, ...]
    """Standard deviation of each channel."""
    value_range: float = 1.0
    """The range of pixel values that `mean` and `std` are of: 1.0 for 0 to 1, 255.0 for 0 to 255."""
    mode: ResizeMode = ResizeMode.CROP
    interpolation: Interpolation = Interpolation.BILINEAR
    channel_order: ChannelOrder = ChannelOrder.RGB
    native_side: int | None = None
    """Pixels of the training images before they were resized, where all had the same size, as MNIST's 28.
    If it is below `resize`, other images are first resized to it: they become as coarse as the training images."""
    ink: float | None = None
    """For networks that read bright ink on black: the part of the frame that ink spans in the training images. Images
    of another size, or on light paper, are reframed so: see `images.ink`. None: no image is reframed."""

    def __post_init__(self) -> None:
        for name, kind in (
            ("mode", ResizeMode), ("interpolation", Interpolation), ("channel_order", ChannelOrder),
        ):  # fmt: skip
            object.__setattr__(self, name, member(kind, name, getattr(self, name)))
        for name in ("resize", "crop", "native_side"):
            side = getattr(self, name)
            if side is None and name == "native_side":
                continue
            if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
                raise UserError(f"{name} {side!r} is not a size; it must be 1 to {LARGEST_SIDE} pixels")
        if self.crop > self.resize:
            raise UserError(f"crop {self.crop} is larger than the resized image of {self.resize} pixels")
        if self.channels not in (1, 3):
            raise UserError(f"channels {self.channels!r} does not work; it must be 1 for gray or 3 for color")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if not isinstance(values, tuple | list) or not all(map(is_finite, values)):
                raise UserError(f"{name} {values!r} does not work; it must be a number for each channel")
            if len(values) != self.channels:
                raise UserError(
                    f"{name} has {len(values)} values; it must have one for each of {self.channels} channels"
                )
            object.__setattr__(self, name, tuple(values))
        if min(self.std) <= 0:
            raise UserError(f"std {self.std} does not work; each value must be above 0")
        if self.value_range not in (1.0, 255.0):
            raise UserError(f"value_range {self.value_range!r} does not work; it must be 1.0 or 255.0")
        if self.ink is not None and not (is_finite(self.ink) and SMALLEST_INK <= self.ink <= 1):
            raise UserError(f"ink {self.ink!r} does not work; it must be a part of the frame, {SMALLEST_INK:g} to 1")

    @property
    def resizing(self) -> Resize:
        """From an image to the square that the network reads a part of."""
        return Resize(self.resize, self.mode, self.interpolation)

    @property
    def margin(self) -> int:
        """Pixels above and left of the center crop."""
        return (self.resize - self.crop) // 2

    @property
    def pixel_mean(self) -> npt.NDArray[np.float32]:
        """(channels, 1, 1), the mean in pixel values of 0 to 255."""
        return self._of_pixels(self.mean)

    @property
    def pixel_std(self) -> npt.NDArray[np.float32]:
        """(channels, 1, 1), the standard deviation in pixel values of 0 to 255."""
        return self._of_pixels(self.std)

    def prepare(self, image: ImageInput) -> npt.NDArray[np.float32]:
        """The network's input for one image: (channels, crop, crop), normalized.

        Args:
            image: it is turned upright as its EXIF says, and transparency is laid on white.

        Raises:
            UserError: it cannot be used as an image, or the network reads ink and it is blank.
        """
        return self.normalize(self.center(self.square(self.read(image))))

    def read(self, image: ImageInput) -> Image.Image:
        """The image as gray ("L") or color ("RGB"), upright; for a network that reads ink, reframed where it must be.

        Raises:
            UserError: see `prepare`.
        """
        decoded = decode_any(image)
        if self.ink is None:
            return decoded
        if is_blank(decoded):
            raise ImageError(path_of(image), "blank: there is no ink on it to read")
        return decoded if is_of_set(decoded, self.native_side) else reframe(decoded, self.ink)

    def square(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The resized image that the network reads a part of: (channels, resize, resize), 0 to 255, gray or RGB.

        Args:
            image: as `read` gives it.
        """
        if self.native_side is not None and self.native_side < self.resize:
            coarse = Resize(self.native_side, self.mode, self.interpolation).square(image, self.channels)
            image = Image.fromarray(coarse[0] if self.channels == 1 else coarse.transpose(1, 2, 0))
        return self.resizing.square(image, self.channels)

    def center(self, squares: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The center crop (..., crop, crop) of resized images (..., resize, resize)."""
        part = slice(self.margin, self.margin + self.crop)
        return squares[..., part, part]

    def normalize(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Network inputs of images (..., channels, height, width), gray or RGB, 0 to 255."""
        if self.channel_order is ChannelOrder.BGR:
            images = images[..., ::-1, :, :]
        return np.ascontiguousarray((images.astype(np.float32) - self.pixel_mean) / self.pixel_std)

    def _of_pixels(self, values: tuple[float, ...]) -> npt.NDArray[np.float32]:
        return (np.asarray(values, np.float32) * np.float32(255 / self.value_range))[:, None, None]


def from_format_2(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `Preprocessing` from those that run records of formats 1 and 2 have.

    Raises:
        KeyError, TypeError: they are not such fields.
    """
    return {
        "resize": values["resolution"] + 2 * values.get("margin", 0),
        "crop": values["resolution"],
        "channels": values["channels"],
        "mean": values["mean"],
        "std": values["deviation"],
        "native_side": values.get("side"),
        "ink": values.get("ink"),
    }


def decode_any(image: ImageInput) -> Image.Image:
    """An image as 8-bit gray ("L") or color ("RGB"), upright.

    Raises:
        UserError: the file cannot be used, or the array has another type or shape.
    """
    if isinstance(image, str | Path):
        return decode(Path(image))
    if isinstance(image, Image.Image):
        return decode_opened(image)
    if not isinstance(image, np.ndarray):
        raise UserError(f"a {type(image).__name__} is not an image; pass a path, a PIL image or a uint8 array")
    if image.dtype != np.uint8:
        raise UserError(
            f"an array of {image.dtype} does not say what its values mean; pass uint8 values from 0 to 255, "
            "not normalized ones"
        )
    if 0 in image.shape or (image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3)):
        raise UserError(
            f"an array of shape {image.shape} is not an image; pass (height, width, 3) in RGB order, or (height, width)"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def is_finite(value: object) -> bool:
    """Whether it is a number, neither infinite nor NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
