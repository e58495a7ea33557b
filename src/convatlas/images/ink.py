"""A drawing brought to the look of a data set of bright ink on black, such as MNIST.

Digit sets show each character at one size in a black frame. A photograph or drawing has dark ink on light paper,
anywhere, at any size. As the makers of MNIST did with NIST's scans (LeCun et al. 1998, section III.A), the ink is
found, made bright and placed in the middle at the size that it has in the training images.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

INK_LEVEL = 0.4
"""What counts as ink: this far from the paper towards the strongest ink."""
MIDDLE = 127
"""Paper is light above it."""
FAINTEST = 25
"""How far from the paper ink must be."""
MAX_INK = 512
"""Pixels along the longer side of the ink in a new frame, at most."""
NUM_SPANS = 1000
"""Images from which the span of a data set is taken."""


def ink_span(images: npt.NDArray[np.uint8]) -> float | None:
    """The part of the frame's side that ink spans, the mean over images (n, 1, side, side); None without ink."""
    boxes = (_box(image[0].astype(np.float32)) for image in images[:NUM_SPANS])
    spans = [max(bottom - top, right - left) for box in boxes if box for left, top, right, bottom in [box]]
    return float(np.mean(spans)) / images.shape[-1] if spans else None


def is_blank(image: Image.Image) -> bool:
    """Whether there is no ink on it."""
    return _box(_ink(image)[0]) is None


def is_of_set(image: Image.Image, side: int | None) -> bool:
    """Whether it looks like an image of the set: of its size, and with ink that is brighter than the paper."""
    return image.size == (side, side) and _ink(image)[1]


def reframe(image: Image.Image, ink: float) -> Image.Image:
    """The image's ink, bright on black, spanning `ink` of a square frame; a blank image becomes a blank frame."""
    values, _ = _ink(image)
    box = _box(values)
    if box is None:
        return Image.new("L", image.size)
    bright = Image.fromarray((values * (255 / values.max())).round().astype(np.uint8)).crop(box)
    # Finer than any network looks; and a long thin stroke must not need a frame of gigabytes.
    bright.thumbnail((MAX_INK, MAX_INK), reducing_gap=None)
    side = round(max(bright.size) / ink)
    frame = Image.new("L", (side, side))
    frame.paste(bright, ((side - bright.width) // 2, (side - bright.height) // 2))
    return frame


def _ink(image: Image.Image) -> tuple[npt.NDArray[np.float32], bool]:
    """How far each pixel (height, width) is from the paper towards the ink, and whether the ink is the brighter one.

    The paper is what lies along the edges. On light paper ink is dark and on dark paper bright, if there is such ink.
    """
    gray = np.asarray(image.convert("L"), dtype=np.float32)
    paper = np.median(np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]]))
    brighter, darker = (gray - paper).clip(min=0), (paper - gray).clip(min=0)
    expected, other = (brighter, darker) if paper <= MIDDLE else (darker, brighter)
    ink = other if expected.max() < FAINTEST <= other.max() else expected
    return ink, ink is brighter


def _box(values: npt.NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the ink in values (height, width) above 0; None if there is none."""
    if values.max(initial=0) < FAINTEST:
        return None
    rows, columns = np.nonzero(values > INK_LEVEL * values.max())
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
