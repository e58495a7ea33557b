"""Safe decoding: a list of formats, a limit on pixels, and every byte decoded before an image counts as good.

`decode` is exact. `decode_draft` lets the decoder scale a large JPEG down, which takes a fraction of the time and
changes the pixels a little: it is for training alone.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import PIL
from PIL import Image, UnidentifiedImageError

from convatlas.errors import UserError
from convatlas.images import cost, heif, tiff
from convatlas.images.bounds import MAX_PIXELS
from convatlas.images.files import ImageError, ReadError, opened, path_of, read_error
from convatlas.images.loading import load, load_first
from convatlas.images.metadata import bounded, without_text
from convatlas.images.parallel import MEMORY, parallel_map
from convatlas.images.pixels import upright
from convatlas.images.reasons import CLOSED, UnsupportedImageError, is_out_of_memory, is_too_long, reason_of
from convatlas.images.sniff import HEAD, READ, format_of, why_not

NUM_SIZES = 100
"""The typical size of a data set is taken from so many images."""
T = TypeVar("T")


def decode(path: Path) -> Image.Image:
    """Decode an image file upright, as 8-bit gray ("L") or color ("RGB"); of an animation, the first frame.

    Transparency is laid on white, 12 and 16 bits become 8, CMYK becomes RGB. Nothing is scaled.

    Raises:
        ImageError: the file is missing, damaged, cut short, no image of a known format, of a kind that is not read, or
            of more pixels than `max_pixels`.
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
    """Decode what an image that is open in Pillow shows now, as `decode` does a file; the given image is not changed.

    Of an animation it is the current frame; what was turned, scaled or converted stays so.

    Raises:
        ImageError: its file is damaged or cut short, or it has too many pixels.
    """
    with pillow_silenced(), _translated(path_of(image)):
        if getattr(image, "tile", None) and getattr(image, "fp", None) is None:
            raise UnsupportedImageError(CLOSED)
        pixels = _checked_size(image)
        tiff.check(image)
        with MEMORY.held(cost.check(image, pixels)):
            load(image)
            return upright(image)


def max_pixels() -> int | None:
    """The most pixels that an image may have: the environment variable `CONVATLAS_MAX_PIXELS`, or Pillow's limit
    `PIL.Image.MAX_IMAGE_PIXELS`, where None means any number.

    Raises:
        UserError: the variable is not a number of pixels.
    """
    text = os.environ.get(MAX_PIXELS)
    if not text:
        return Image.MAX_IMAGE_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise UserError(f"{MAX_PIXELS} is {text!r}, which is not a number of pixels; it must be one, as 200000000")
    return int(text)


def decoders() -> str:
    """What decides, beside a file, which pixels it is decoded to and whether it is."""
    return f"Pillow {PIL.__version__} HEIF {heif.version()} {max_pixels()}"


def _decoded(file: BinaryIO, path: Path, at_least: int | None) -> tuple[Image.Image, bool]:
    def finish(image: Image.Image) -> tuple[Image.Image, bool]:
        pixels, full_size = _checked_size(image), image.size
        if at_least is not None and image.format in ("JPEG", "MPO"):
            # Of the sizes that the decoder can give, the smallest that is large enough; HEIF would give a thumbnail.
            image.draft(None, (at_least, at_least))
        drafted = image.size != full_size
        tiff.check(image)
        with MEMORY.held(cost.check(image, pixels)):
            return upright(load_first(image)), drafted

    with _translated(path):
        return _use(file, finish)


def _use(file: BinaryIO, function: Callable[[Image.Image], T]) -> T:
    """What a function returns of the opened image."""
    file.seek(0)
    name = format_of(file.read(HEAD))
    if name is None:
        raise UnsupportedImageError(f"not an image of a known format ({', '.join(READ)})")
    if reason := why_not(name):
        raise UnsupportedImageError(reason)
    if name == heif.HEIF:
        heif.register()
    try:
        with _open(bounded(file, name), name) as image:
            return function(image)
    except ValueError as error:
        if name != "PNG" or not is_too_long(error):
            raise
    with _open(without_text(file), name) as image:
        return function(image)


def _open(file: BinaryIO, name: str) -> Image.Image:
    try:
        return Image.open(file, formats=[name])
    except UnidentifiedImageError:
        # It hides what the format's own reader says.
        file.seek(0)
        reader, _ = Image.OPEN[name]
        return reader(file, "")


def _checked_size(image: Image.Image) -> int:
    """The pixels that an image has, no more than it may have."""
    pixels = image.width * image.height
    # Pillow itself warns from its limit on and refuses from twice its limit; for us the limit is the limit.
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise Image.DecompressionBombError
    return pixels


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Turn what Pillow raises on a file into an ImageError."""
    try:
        yield
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(
            path, f"larger than the limit of {Image.MAX_IMAGE_PIXELS:,} pixels; set {MAX_PIXELS} higher to read it"
        ) from error
    # What Pillow's decoders raise on damaged files is not one family of errors.
    except Exception as error:
        if is_out_of_memory(error):
            raise ReadError(path, "needs more memory than this machine has free") from error
        if isinstance(error, OSError) and error.errno is not None:
            raise read_error(path, error) from error
        raise ImageError(path, reason_of(error)) from error


@contextmanager
def pillow_silenced() -> Iterator[None]:
    """Hide Pillow's warnings about odd files, and set its limit to `max_pixels`: a file is good, or its error says why
    it is not.

    Enter it once around all threads, never inside one: warning filters and the limit belong to the whole process.

    Raises:
        UserError: the environment variable of the limit is not a number of pixels.
    """
    tiff.silence()
    logger = logging.getLogger("PIL")
    level, limit = logger.level, Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        logger.setLevel(logging.CRITICAL)
        Image.MAX_IMAGE_PIXELS = max_pixels()
        try:
            yield
        finally:
            logger.setLevel(level)
            Image.MAX_IMAGE_PIXELS = limit


def median_sides(sizes: Iterable[tuple[int, int] | None]) -> tuple[int, int] | None:
    """The medians of the shorter and of the longer sides in pixels, of the known sizes; None if none is known."""
    known = [sorted(size) for size in sizes if size is not None]
    if not known:
        return None
    shorter, longer = np.median(known, axis=0)
    return int(shorter), int(longer)


def size_of(path: Path) -> tuple[int, int] | None:
    """Width and height in pixels, from the file's header alone; None if the header does not say."""
    try:
        with pillow_silenced(), opened(path) as file:
            return size_of_opened(file)
    # What is wrong with the file is said when it is decoded.
    except ImageError:
        return None


def size_of_opened(file: BinaryIO) -> tuple[int, int] | None:
    """`size_of` of an open file."""
    try:
        return _use(file, lambda image: image.size)
    # Decoders raise many kinds of errors; what is wrong is said when it is decoded.
    except Exception:
        return None
