"""Loading pixels, with as little beside them as Pillow's decoders let go of."""

from __future__ import annotations

from typing import Any

from PIL import Image
from PIL.AvifImagePlugin import AvifImageFile
from PIL.WebPImagePlugin import WebPImageFile

from convatlas.images import tiff


def load(image: Image.Image) -> None:
    """Load any image that is open in Pillow."""
    # Only decoding finds half a file: open() and verify() read no more than headers.
    tiff.load(image)


def load_first(image: Image.Image) -> Image.Image:
    """The first frame of an image that was just opened, loaded. No other frame can be had of it afterwards.

    Pillow holds what libwebp and libavif decoded as long as the image lives, twice as much as its pixels.
    """
    decoder: Any = getattr(image, "_decoder", None)
    frame = None
    if isinstance(image, WebPImageFile) and hasattr(decoder, "get_next"):
        frame, mode = decoder.get_next(), image.rawmode
    elif isinstance(image, AvifImageFile) and hasattr(decoder, "get_frame"):
        frame, mode = decoder.get_frame(0), image.mode
    if frame is None:
        load(image)
        return image
    vars(image).pop("_decoder")
    loaded = Image.frombuffer(mode, image.size, frame[0], "raw", mode, 0, 1)
    loaded.info = image.info
    return loaded
