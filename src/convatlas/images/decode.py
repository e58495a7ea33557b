"""Safe decoding: a list of formats, a limit on pixels, and every byte decoded before an image counts as good.

`decode` is exact. `decode_draft` lets the decoder scale a large JPEG down, which takes a fraction of the time and
changes the pixels a little: it is for training alone.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from convatlas.images.files import ImageError, opened
from convatlas.images.parallel import parallel_map

_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
NUM_SIZES = 100
"""The typical size of a data set is taken from so many images."""
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

T = TypeVar("T")


def decode(path: Path) -> Image.Image:
    """Decode an image file upright, as 8-bit gray ("L") or color ("RGB"); of an animation, the first frame.

    Transparency is laid on white, 16 bits become 8, CMYK becomes RGB. Nothing is scaled.

    Raises:
        ImageError: the file is missing, damaged, cut short, no image of a known format, or of more pixels than
            Pillow's `Image.MAX_IMAGE_PIXELS`.
    """
    with pillow_silenced(), opened(path) as file:
        return decode_content(file, path)


def decode_content(file: BinaryIO, path: Path) -> Image.Image:
    """Decode an open file, in any thread; see `decode`. The caller enters `pillow_silenced` once around all of them.

    Args:
        path: for messages.
    """
    return _decoded(file, path, None)[0]


def decode_draft(file: BinaryIO, path: Path, at_least: int) -> tuple[Image.Image, bool]:
    """Decode an open file as `decode_content` does, but a large JPEG at a half, a quarter or an eighth of its size.

    Args:
        at_least: pixels that the shorter side must keep, where it has them.

    Returns:
        The image, and whether it was scaled down.
    """
    return _decoded(file, path, at_least)


def decode_all(paths: Iterable[Path], decoder: Callable[[BinaryIO, Path], T]) -> Generator[T | ImageError]:
    """Open and decode files in parallel: what `decoder` returns for each in turn, or the file's error.

    A few are decoded ahead of what is taken, never all: a data set of any size passes through little memory.
    """

    def work(path: Path) -> T | ImageError:
        try:
            with opened(path) as file:
                return decoder(file, path)
        except ImageError as error:
            return error

    with pillow_silenced():
        yield from parallel_map(work, paths)


def decode_opened(image: Image.Image) -> Image.Image:
    """Decode an image that is open in Pillow as `decode` does a file; the given image is not changed.

    Raises:
        ImageError: its file is damaged or cut short, or it has too many pixels.
    """
    path = Path(getattr(image, "filename", "") or "image")
    with pillow_silenced(), _translated(path):
        _check_size(image)
        return _upright(image, _eight_bits(image))


def _decoded(file: BinaryIO, path: Path, at_least: int | None) -> tuple[Image.Image, bool]:
    with _translated(path), Image.open(file, formats=_FORMATS) as image:
        _check_size(image)
        full_size = image.size
        if at_least is not None:
            # Of the sizes that the decoder can give, the smallest that is large enough; JPEG alone has any.
            image.draft(None, (at_least, at_least))
        drafted = image.size != full_size
        # Only decoding finds half a file: open() and verify() read no more than headers.
        image.load()
        return _upright(image, _eight_bits(image)), drafted


def _check_size(image: Image.Image) -> None:
    # Pillow itself warns from its limit on and refuses from twice its limit; for us the limit is the limit.
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what Pillow raises on a bad file into an ImageError."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(path, f"larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, f"not an image of a known format ({', '.join(_FORMATS)})") from error
    # What Pillow's decoders raise on damaged files is not one family of errors.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ImageError(path, f"damaged or cut short ({error})") from error


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """Hide Pillow's warnings about odd files: a file is good, or its error says why it is not.

    Enter it once around all threads, never inside one: warning filters belong to the whole process.
    """
    logger = logging.getLogger("PIL")
    level = logger.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)


def median_side(sides: Iterable[int | None]) -> int | None:
    """The median of the known sides in pixels; None if none is known."""
    known = [side for side in sides if side is not None]
    return int(np.median(known)) if known else None


def shorter_side(path: Path) -> int | None:
    """Pixels along the shorter side, from the file's header alone; None if the header does not say."""
    try:
        with pillow_silenced(), opened(path) as file:
            return shorter_side_of(file)
    # What is wrong with the file is said when it is decoded.
    except ImageError:
        return None


def shorter_side_of(file: BinaryIO) -> int | None:
    """`shorter_side` of an open file."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            return min(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _upright(original: Image.Image, image: Image.Image) -> Image.Image:
    """Turn the pixels as the original's EXIF says, and drop all metadata: nobody turns them twice."""
    try:
        orientation = original.getexif().get(_ORIENTATION)
    # Cameras write odd EXIF, and Pillow raises many kinds of errors on it; the image itself is good.
    except Exception:
        orientation = None
    transpose = _TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    image = image if transpose is None else image.transpose(transpose)
    image.info = {}
    return image


def _eight_bits(image: Image.Image) -> Image.Image:
    if "A" in image.mode or "transparency" in image.info:
        gray = image.mode in ("1", "L", "LA")
        image = image.convert("RGBA")
        flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return flat.convert("L" if gray else "RGB")
    if image.mode in ("L", "RGB"):
        return image.copy()
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        largest = values.max(initial=0)
        # Files of 16 bits say so; wider ones hold 8 or 16 bits, or parts of 1.
        tops = (65535.0,) if image.mode.startswith("I;16") else (1.0, 255.0) if image.mode == "F" else (255.0,)
        top = next((top for top in tops if largest <= top), 65535.0)
        return Image.fromarray((values.clip(0, top) * (255 / top)).round().astype(np.uint8))
    return image.convert("RGB")
