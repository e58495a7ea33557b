"""A drawing brought to the look of a data set of bright ink on black, such as MNIST.

Digit sets show each character at one size in a black frame. A photograph or drawing has dark ink on light paper,
anywhere, at any size. As the makers of MNIST did with NIST's scans (LeCun et al. 1998, section III.A), the ink is
found, made bright and placed in the middle at the size that it has in the training images.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from convatlas.images.resize import resized

INK_LEVEL = 0.4
"""What counts as ink: this far from the paper towards the strongest ink."""
MIDDLE = 127
"""Paper is light above it."""
FAINTEST = 25
"""How far from the paper ink must be."""
MAX_INK = 512
"""Pixels along the longer side of the ink in a new frame, at most."""
SMALLEST_INK = 1 / 16
"""Part of a frame that ink spans, at least: a larger frame, around `MAX_INK` pixels, would have more numbers than
`models.bounds` lets an image have."""
NUM_SPANS = 1000
"""Images from which the span of a data set is taken."""
_LEVELS = np.arange(256, dtype=np.float32)


def ink_span(images: npt.NDArray[np.uint8]) -> float | None:
    """The part of the frame's side that ink spans, the mean over images (n, 1, side, side); None if there is none, or
    too little to be framed by."""
    spans = []
    # Without an image of each: they are small and many.
    for image in images[:NUM_SPANS, 0]:
        strongest = np.float32(image.max())
        if strongest >= FAINTEST:
            is_ink = image > INK_LEVEL * strongest
            places = (np.flatnonzero(is_ink.any(axis)) for axis in (0, 1))
            spans.append(max(int(place[-1] - place[0] + 1) for place in places))
    span = float(np.mean(spans)) / images.shape[-1] if spans else 0.0
    return span if span >= SMALLEST_INK else None


def is_blank(image: Image.Image) -> bool:
    """Whether there is no ink on it."""
    return _ink(image)[0].box() is None


def is_of_set(image: Image.Image, side: int | None) -> bool:
    """Whether it looks like an image of the set: of its size, and with ink that is brighter than the paper."""
    return image.size == (side, side) and _ink(image)[1]


def reframe(image: Image.Image, ink: float) -> Image.Image:
    """The image's ink, bright on black, spanning `ink` of a square frame; a blank image becomes a blank frame."""
    found, _ = _ink(image)
    box = found.box()
    if box is None:
        return Image.new("L", image.size)
    bright = found.bright().crop(box)
    # Finer than any network looks; and a long thin stroke must not need a frame of gigabytes.
    longest = max(bright.size)
    if longest > MAX_INK:
        width, height = (max(round(side * MAX_INK / longest), 1) for side in bright.size)
        bright = resized(bright, (width, height), Image.Resampling.BICUBIC, (0, 0, *bright.size))
    side = round(max(bright.size) / ink)
    frame = Image.new("L", (side, side))
    frame.paste(bright, ((side - bright.width) // 2, (side - bright.height) // 2))
    return frame


class _Ink:
    """How far each pixel is from the paper towards the ink: a gray image, and what each of its levels is.

    An image of a byte a pixel and a table of 256 values, where an array of such values would take four times as much.
    """

    def __init__(self, gray: Image.Image, values: npt.NDArray[np.float32]) -> None:
        """
        Args:
            values: (256,) of each level.
        """
        self._gray = gray
        self._values = values
        self.strongest: np.float32 = values[np.array(gray.histogram()) > 0].max(initial=0)

    def box(self) -> tuple[int, int, int, int] | None:
        """Left, top, right and bottom of the ink; None if there is none."""
        if self.strongest < FAINTEST:
            return None
        return self._gray.point((self._values > INK_LEVEL * self.strongest).tolist()).getbbox()

    def bright(self) -> Image.Image:
        """The ink on black, the strongest white."""
        return self._gray.point((self._values * (255 / self.strongest)).round().clip(max=255).astype(np.uint8).tolist())


def _ink(image: Image.Image) -> tuple[_Ink, bool]:
    """The ink of an image, and whether it is brighter than the paper.

    The paper is what lies along the edges. On light paper ink is dark and on dark paper bright, if there is such ink.
    """
    gray = image if image.mode == "L" else image.convert("L")
    width, height = gray.size
    edges = [(0, 0, width, 1), (0, height - 1, width, height), (0, 0, 1, height), (width - 1, 0, width, height)]
    paper = np.median(np.concatenate([np.asarray(gray.crop(edge), np.float32).ravel() for edge in edges]))
    brighter, darker = (_Ink(gray, values.clip(min=0)) for values in (_LEVELS - paper, paper - _LEVELS))
    expected, other = (brighter, darker) if paper <= MIDDLE else (darker, brighter)
    ink = other if expected.strongest < FAINTEST <= other.strongest else expected
    return ink, ink is brighter
