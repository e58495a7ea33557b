"""A drawing brought to the look of a data set of bright ink on black, such as MNIST.

Digit sets show each character at one size in a black frame. A photograph or drawing has dark ink on light paper,
anywhere, at any size. As the makers of MNIST did with NIST's scans (LeCun et al. 1998, section III.A), the ink is
found, made bright and placed in the middle at the size that it has in the training images.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

INK_LEVEL = 0.4
"""What counts as ink: this far from the paper towards the strongest ink."""
MAX_INK = 512
"""Pixels along the longer side of the ink in a new frame, at most."""
NUM_SPANS = 1000
"""Images from which the span of a data set is taken."""


def ink_span(images: npt.NDArray[np.uint8]) -> float | None:
    """The part of the frame's side that ink spans, the mean over images (n, 1, side, side); None without ink."""
    boxes = (_box(image[0].astype(np.float32)) for image in images[:NUM_SPANS])
    spans = [max(bottom - top, right - left) for box in boxes if box for left, top, right, bottom in [box]]
    return float(np.mean(spans)) / images.shape[-1] if spans else None


def reframe(image: Image.Image, ink: float) -> Image.Image:
    """The image's ink, bright on black, spanning `ink` of a square frame; a blank image becomes a blank frame."""
    gray = image.convert("L")
    values = np.asarray(gray, dtype=np.float32)
    paper = np.median(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]))
    if paper > 127:
        gray, values, paper = ImageOps.invert(gray), 255 - values, 255 - paper
    values = (values - paper).clip(min=0)
    box = _box(values)
    if box is None:
        return gray
    bright = Image.fromarray((values * (255 / values.max())).round().astype(np.uint8)).crop(box)
    # Finer than any network looks; and a long thin stroke must not need a frame of gigabytes.
    bright.thumbnail((MAX_INK, MAX_INK), reducing_gap=None)
    side = round(max(bright.size) / ink)
    frame = Image.new("L", (side, side))
    frame.paste(bright, ((side - bright.width) // 2, (side - bright.height) // 2))
    return frame


def _box(values: npt.NDArray[np.float32]) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the ink in values (height, width) above 0; None if there is none."""
    if values.max(initial=0) < 25:
        return None
    rows, columns = np.nonzero(values > INK_LEVEL * values.max())
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
