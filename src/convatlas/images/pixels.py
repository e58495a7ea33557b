"""From Pillow's many modes to upright 8-bit gray or color."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.images import tiff
from convatlas.images.bands import bands, converted
from convatlas.images.reasons import UnsupportedImageError

_WHITES = (1.0, 255.0, 4095.0, 65535.0)
"""What white is in fractions, and in 8, 12 and 16 bits."""
_SCALED = {"PPM", "JPEG2000"}
"""Formats that say how many bits they have, which Pillow scales to 16."""
_ORIENTATION = 0x0112

Conversion = Callable[[Image.Image], Image.Image]


def upright(image: Image.Image) -> Image.Image:
    """A loaded image's pixels as gray ("L") or color ("RGB"), turned as its EXIF or XMP says; all metadata is dropped.

    Transparency is laid on white. Of values of more than 8 bits, the largest decides what white is: see `_gray`.

    Raises:
        UnsupportedImageError: its values have more than 16 bits.
    """
    is_deep = image.mode.startswith("I") or image.mode == "F"
    turned = converted(image, _gray(image) if is_deep else _flattening(image), _orientation(image))
    # Nobody turns it twice.
    turned.info = {}
    return turned


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(_ORIENTATION)
    # Cameras write odd EXIF, and Pillow raises many kinds of errors on it; the image itself is good.
    except Exception:
        return None


def _flattening(image: Image.Image) -> Conversion:
    """From an image of up to 8 bits, or a part of it, to gray or color, with what is transparent laid on white."""
    transparent = _transparent(image)

    def flat(part: Image.Image) -> Image.Image:
        if part.mode in ("La", "RGBa"):
            part = part.convert("LA" if part.mode == "La" else "RGBA")
        if part.mode in ("LA", "PA", "RGBA") or transparent is not None:
            gray = part.mode in ("1", "L", "LA")
            if part.info.get("transparency") != transparent:
                part = part.copy()
                part.info = {} if transparent is None else {"transparency": transparent}
            part = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), part)
            return part.convert("L" if gray else "RGB")
        if part.mode in ("L", "RGB"):
            return part.copy()
        return part.convert("L" if part.mode == "1" else "RGB")

    return flat


def _transparent(image: Image.Image) -> int | bytes | tuple[int, ...] | None:
    """The value, the palette entries or the color that PNG or GIF declares transparent; a PNG's text may claim more."""
    match image.mode, image.info.get("transparency"):
        case ("1" | "L" | "I;16" | "P", int(value)):
            return value
        case ("P", bytes(alphas)):
            return alphas
        case ("RGB", (int(), int(), int()) as color):
            # Of 16 bits Pillow keeps the upper eight.
            return tuple(part >> 8 for part in color) if max(color) > 255 else tuple(color)
    return None


def _gray(image: Image.Image) -> Conversion:
    """From gray values of more than 8 bits, or fractions, to 8 bits.

    Files hold 12 bits in 16 and do not say so: not even by PNG's sBIT, whose writers must scale the values up. So the
    largest value decides what white is: the least of 12 and 16 bits that holds it, for values of 32 bits of 8 too, for
    floats of 1 too. A set of 12 bits is read alike, however dark an image of it is. A 16-bit image without a pixel
    above a sixteenth of white is shown brighter than the others of its set; each finer step would do so to more images.

    Raises:
        UnsupportedImageError: no such white holds the largest value.
    """
    is_unsigned = image.mode == "I" and tiff.is_unsigned(image)
    is_min_white, transparent = tiff.is_min_white(image), _transparent(image)

    def numbers(part: Image.Image) -> npt.NDArray[Any]:
        pixels = np.asarray(part)
        return pixels.view(np.uint32) if is_unsigned else pixels

    largest = max(float(_finite(numbers(band)).max(initial=0)) for band in bands(image))
    # Fractions may be of one; 32 bits may hold 8.
    first = 0 if image.mode == "F" else 3 if image.format in _SCALED else 1 if image.mode == "I" else 2
    white = next((white for white in _WHITES[first:] if largest <= white), None)
    if white is None:
        raise UnsupportedImageError(f"of values up to {largest:g}, which do not say what is white; save it in 16 bits")

    def levels(part: Image.Image) -> Image.Image:
        pixels = numbers(part)
        found = (_finite(pixels).astype(np.float64).clip(0, white) * (255 / white)).round().astype(np.uint8)
        if is_min_white:
            found = 255 - found
        if transparent is not None:
            found = np.where(pixels == transparent, np.uint8(255), found)
        return Image.fromarray(found)

    return levels


def _finite(pixels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same with 0 for what is no number; infinity stays."""
    return np.nan_to_num(pixels, posinf=np.inf) if pixels.dtype.kind == "f" else pixels
