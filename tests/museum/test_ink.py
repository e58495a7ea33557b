"""The page frames drawings as the package does, to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from convatlas.images.ink import reframe
from convatlas.museum import site

FRAMED = """
(() => {
    const found = reframed({ values: Uint8Array.from(%s), width: %d, height: %d }, %r);
    return found && { ...found, values: Array.from(found.values) };
})()
"""


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    """The browser on a page with the script alone."""
    source = Path(site.__file__).parent / "pages" / "ink.js"
    (tmp_path / "ink.js").write_bytes(source.read_bytes())
    (tmp_path / "page.html").write_text('<!DOCTYPE html><title>test</title><script src="ink.js"></script>')
    browser.open((tmp_path / "page.html").as_uri())
    return browser


def drawing(width: int, height: int, paper: int, ink: int) -> Image.Image:
    """A bent stroke, and noise on the paper."""
    generator = np.random.default_rng(width)
    noise = generator.integers(-4, 5, (height, width))
    image = Image.fromarray((paper + noise).clip(0, 255).astype(np.uint8))
    points = [(int(width * x), int(height * y)) for x, y in ((0.2, 0.15), (0.7, 0.3), (0.45, 0.8))]
    ImageDraw.Draw(image).line(points, fill=ink, width=max(min(width, height) // 12, 1))
    return image


@pytest.mark.parametrize(
    ("width", "height", "paper", "ink"),
    [
        (28, 28, 4, 255),
        (60, 45, 230, 20),
        (33, 90, 100, 140),
        # The ink alone is larger than what is looked at.
        (1500, 400, 240, 30),
        (300, 2000, 20, 230),
    ],
)
def test_ink_is_framed_as_in_python(page: Any, width: int, height: int, paper: int, ink: int) -> None:
    image, part = drawing(width, height, paper, ink), 20.3 / 28
    found = page.run(FRAMED % (list(np.asarray(image).ravel().tolist()), width, height, part))
    expected = np.asarray(reframe(image, part))
    assert (found["height"], found["width"]) == expected.shape
    assert np.array_equal(np.array(found["values"]).reshape(expected.shape), expected)


def test_without_ink_there_is_no_frame(page: Any) -> None:
    values = np.full(30 * 20, 200).tolist()
    assert page.run(FRAMED % (values, 30, 20, 0.7)) is None
