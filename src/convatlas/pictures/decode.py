"""Safe decoding: a list of formats, a limit on pixels, and every byte decoded before a picture counts as good."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from convatlas.errors import UserError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
"""Files of a folder that are taken for pictures."""
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


class PictureError(UserError):
    """A file that cannot be used as a picture: names the file and says why."""


def decode(path: Path) -> Image.Image:
    """Decode a picture file upright, as 8-bit grey ("L") or colour ("RGB"); of an animation the first frame.

    Transparency is laid on white, 16 bits become 8, CMYK becomes RGB.

    Raises:
        PictureError: the file is missing, damaged, cut short, no picture of a known format, or beyond
            Pillow's pixel limit.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns between its limit and twice its limit; for us the limit is the limit.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                # Only decoding finds half a file: open() and verify() read no more than headers.
                picture.load()
                return _eight_bits(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = f"{Image.MAX_IMAGE_PIXELS:,}"
        raise PictureError(f"{path}: larger than the limit of {limit} pixels") from error
    except FileNotFoundError as error:
        raise PictureError(f"{path}: there is no such file") from error
    except UnidentifiedImageError as error:
        raise PictureError(f"{path}: not a picture of a known format ({', '.join(_FORMATS)})") from error
    except IsADirectoryError as error:
        raise PictureError(f"{path}: a folder, not a picture") from error
    # What Pillow's decoders raise on damaged files is not one family of errors.
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        IndexError,
        KeyError,
        OverflowError,
        MemoryError,
    ) as error:
        raise PictureError(f"{path}: damaged or cut short ({error})") from error


def _eight_bits(picture: Image.Image) -> Image.Image:
    if picture.mode == "L" or picture.mode == "RGB":
        return picture.copy()
    if picture.mode == "1":
        return picture.convert("L")
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        # 16-bit files come as "I;16" or, from some decoders, as 32-bit "I" with 16-bit values.
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    if "A" in picture.mode or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture).convert("RGB")
    return picture.convert("RGB")
