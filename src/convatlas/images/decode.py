"""Safe decoding: a list of formats, a limit on pixels, and every byte decoded before an image counts as good."""

from __future__ import annotations

import errno
import logging
import os
import stat
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from convatlas.errors import UserError
from convatlas.images.parallel import side_by_side

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})
"""Files of a folder that are taken for images."""
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
LOOKED_AT = 100
"""Images from which the usual size of a set is taken."""
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns an image upright, by the orientation that its EXIF states."""

T = TypeVar("T")


class ImageError(UserError):
    """A file that cannot be used as an image: names the file and says why."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class ReadError(ImageError):
    """A file that cannot be read: what it holds is not known."""


def decode(path: Path, at_least: int | None = None) -> Image.Image:
    """Decode an image file upright, as 8-bit gray ("L") or color ("RGB"); of an animation the first frame.

    Transparency is laid on white, 16 bits become 8, CMYK becomes RGB.

    Args:
        at_least: pixels that the shorter side must keep, where it has them: a large JPEG is then decoded at a half, a
            quarter or an eighth of its size, which takes a fraction of the time. Without it, nothing is scaled.

    Raises:
        ImageError: the file is missing, damaged, cut short, no image of a known format, or of more pixels than
            Pillow's `Image.MAX_IMAGE_PIXELS`.
    """
    with pillow_silenced(), opened(path) as file:
        return decode_content(file, path, at_least)


def decode_all(
    paths: Iterable[Path], use: Callable[[Image.Image], T], at_least: int | None = None
) -> Generator[T | ImageError]:
    """Decode files side by side, as `decode` does: for each in turn what `use` makes of its image, or its error.

    A few are decoded ahead of what is taken, never all: a set of any size passes through little memory.
    """

    def work(path: Path) -> T | ImageError:
        try:
            with opened(path) as file:
                return use(decode_content(file, path, at_least))
        except ImageError as error:
            return error

    with pillow_silenced():
        yield from side_by_side(work, paths)


def decode_content(file: BinaryIO, path: Path, at_least: int | None = None) -> Image.Image:
    """What `decode` makes of a file that is open already, in any thread; `pillow_silenced` is for around all of them.

    Args:
        path: for messages.
    """
    try:
        with Image.open(file, formats=_FORMATS) as image:
            # Pillow itself warns from its limit on and refuses from twice its limit; for us the limit is the limit.
            if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            if at_least is not None:
                # Of the sizes that the decoder can give, the smallest that is large enough; JPEG alone has any.
                image.draft(None, (at_least, at_least))
            # Only decoding finds half a file: open() and verify() read no more than headers.
            image.load()
            return _upright(image, _eight_bits(image))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(path, f"larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError(path, f"not an image of a known format ({', '.join(_FORMATS)})") from error
    # What Pillow's decoders raise on damaged files is not one family of errors.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, OverflowError, MemoryError) as error:
        raise ImageError(path, f"damaged or cut short ({error})") from error


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """While active, Pillow's remarks on odd files are not shown: a file is good, or its error says why it is not.

    Entered once around all threads, never in one: filters of warnings belong to the whole process.
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


def usual_side(sides: Iterable[int | None]) -> int | None:
    """The median of those that are known; None if none is."""
    known = [side for side in sides if side is not None]
    return int(np.median(known)) if known else None


def shorter_side(path: Path) -> int | None:
    """Pixels along the shorter side, by the file's header alone; None where that says no such thing."""
    try:
        with pillow_silenced(), opened(path) as file:
            return shorter_side_of(file)
    # What is wrong with the file is said when it is decoded.
    except ImageError:
        return None


def shorter_side_of(file: BinaryIO) -> int | None:
    """What `shorter_side` finds in a file that is open already."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            return min(image.size)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def files_below(folder: Path) -> Iterator[Path]:
    """The files that are taken for images, at any depth; hidden ones and hidden folders are passed over.

    Raises:
        UserError: a folder among them cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"the folder {error.filename} cannot be read ({error.strerror})") from error

    # os.walk does not follow symbolic links to folders, so a loop of them cannot trap it.
    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent) / name


def status(path: Path) -> os.stat_result:
    """What the system knows of a file.

    Raises:
        ReadError: there is none, or it is none that has a content.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, ValueError) as error:
        raise ReadError(path, "there is no such file") from error
    except OSError as error:
        raise ReadError(path, _reason(error)) from error
    if stat.S_ISDIR(found.st_mode):
        raise ReadError(path, "a folder, not an image")
    if not stat.S_ISREG(found.st_mode):
        # To open a pipe would be to wait for whoever writes to it.
        raise ReadError(path, "a device or a pipe, not an image")
    return found


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """A file's content, to be read.

    Raises:
        ReadError: it has none, or may not be read.
    """
    status(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise ReadError(path, _reason(error)) from error
    with file:
        yield file


def _reason(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "a symbolic link that leads back to itself"
    return f"cannot be read ({error.strerror})"


def _upright(original: Image.Image, image: Image.Image) -> Image.Image:
    try:
        orientation = original.getexif().get(_ORIENTATION)
    # Cameras write odd EXIF, and Pillow raises many kinds of errors on it; the image itself is good.
    except Exception:
        return image
    turn = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


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
