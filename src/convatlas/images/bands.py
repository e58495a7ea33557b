"""Converting and turning an image a band of rows at a time: what is made in between, in wider types, stays small."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from PIL import Image

PIXELS = 2**20
"""Of a band, as a rule."""
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
_SIDEWAYS = {5, 6, 7, 8}
"""Orientations that make columns of rows."""
_BACKWARD = {3, 4, 6, 7}
"""Orientations that put the first row last."""


def bands(image: Image.Image) -> Iterator[Image.Image]:
    """The rows of a loaded image from the first to the last, in copies of about `PIXELS`; a small image as it is."""
    rows = max(PIXELS // max(image.width, 1), 1)
    if rows >= image.height:
        yield image
        return
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def converted(
    image: Image.Image, convert: Callable[[Image.Image], Image.Image], orientation: object = None
) -> Image.Image:
    """What `convert` makes of a loaded image, turned upright.

    Args:
        convert: makes a new image of a part, each pixel for itself.
        orientation: of EXIF, 1 to 8; anything else turns nothing.
    """
    transpose = _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    sideways, backward = orientation in _SIDEWAYS, orientation in _BACKWARD
    whole: Image.Image | None = None
    top = 0
    for band in bands(image):
        part = convert(band)
        if transpose is not None:
            part = part.transpose(transpose)
        if band is image:
            return part
        if whole is None:
            whole = Image.new(part.mode, image.size[::-1] if sideways else image.size)
        place = image.height - top - band.height if backward else top
        whole.paste(part, (place, 0) if sideways else (0, place))
        top += band.height
    assert whole is not None
    return whole
