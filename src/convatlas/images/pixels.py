"""From Pillow's many modes to upright 8-bit gray or color."""

from __future__ import annotations

import numpy as np
from PIL import Image

from convatlas.images import tiff
from convatlas.images.reasons import UnsupportedImageError

_WHITES = (1.0, 255.0, 4095.0, 65535.0)
"""What white is in fractions, and in 8, 12 and 16 bits."""
_SCALED = {"PPM", "JPEG2000"}
"""Formats that say how many bits they have, which Pillow scales to 16."""
_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transpose that turns an image upright, for each EXIF orientation (EXIF 2.3, table 4, tag Orientation)."""


def upright(image: Image.Image) -> Image.Image:
    """A loaded image's pixels as gray ("L") or color ("RGB"), turned as its EXIF or XMP says; all metadata is dropped.

    Transparency is laid on white. Of values of more than 8 bits, the largest decides what white is: see `_gray`.

    Raises:
        UnsupportedImageError: its values have more than 16 bits.
    """
    eight_bits = _eight_bits(image)
    try:
        orientation = image.getexif().get(_ORIENTATION)
    # Cameras write odd EXIF, and Pillow raises many kinds of errors on it; the image itself is good.
    except Exception:
        orientation = None
    transpose = _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    turned = eight_bits if transpose is None else eight_bits.transpose(transpose)
    # Nobody turns it twice.
    turned.info = {}
    return turned


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _gray(image)
    transparent = _transparent(image)
    if image.mode in ("La", "RGBa"):
        image = image.convert("LA" if image.mode == "La" else "RGBA")
    if image.mode in ("LA", "PA", "RGBA") or transparent is not None:
        gray = image.mode in ("1", "L", "LA")
        if image.info.get("transparency") != transparent:
            image = image.copy()
            image.info = {} if transparent is None else {"transparency": transparent}
        image = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return flat.convert("L" if gray else "RGB")
    if image.mode in ("L", "RGB"):
        return image.copy()
    return image.convert("L" if image.mode == "1" else "RGB")


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


def _gray(image: Image.Image) -> Image.Image:
    """Gray values of more than 8 bits, or fractions, as 8 bits.

    Files hold 12 bits in 16 and do not say so: not even by PNG's sBIT, whose writers must scale the values up. So the
    largest value decides what white is: the least of 12 and 16 bits that holds it, for values of 32 bits of 8 too, for
    floats of 1 too. A set of 12 bits is read alike, however dark an image of it is. A 16-bit image without a pixel
    above a sixteenth of white is shown brighter than the others of its set; each finer step would do so to more images.

    Raises:
        UnsupportedImageError: no such white holds the largest value.
    """
    pixels = np.asarray(image)
    if image.mode == "I" and tiff.is_unsigned(image):
        pixels = pixels.view(np.uint32)
    values = np.nan_to_num(pixels.astype(np.float64), posinf=np.inf)
    largest = values.max(initial=0)
    # Fractions may be of one; 32 bits may hold 8.
    first = 0 if image.mode == "F" else 3 if image.format in _SCALED else 1 if image.mode == "I" else 2
    white = next((white for white in _WHITES[first:] if largest <= white), None)
    if white is None:
        raise UnsupportedImageError(f"of values up to {largest:g}, which do not say what is white; save it in 16 bits")
    levels = (values.clip(0, white) * (255 / white)).round().astype(np.uint8)
    if tiff.is_min_white(image):
        levels = 255 - levels
    if (transparent := _transparent(image)) is not None:
        levels = np.where(pixels == transparent, np.uint8(255), levels)
    return Image.fromarray(levels)
