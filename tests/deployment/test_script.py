"""The script of an artefact decodes and reframes images as the package does."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from convatlas.deployment.manifest import SCRIPT
from convatlas.images import decode, reframe

HEIGHT, WIDTH = 23, 31


@pytest.fixture(scope="module")
def script(shipped: Path) -> dict[str, Any]:
    """The script's functions; nothing runs."""
    return runpy.run_path(str(shipped / SCRIPT), run_name="script")


def noise(channels: int, dtype: Any = np.uint8, most: int = 256) -> Any:
    shape = (HEIGHT, WIDTH) if channels == 1 else (HEIGHT, WIDTH, channels)
    return np.random.default_rng(0).integers(0, most, shape).astype(dtype)


def gray(path: Path) -> None:
    Image.fromarray(noise(1)).save(path.with_suffix(".png"))


def color(path: Path) -> None:
    Image.fromarray(noise(3)).save(path.with_suffix(".png"))


def bilevel(path: Path) -> None:
    Image.fromarray(noise(1) > 127).save(path.with_suffix(".png"))


def transparent(path: Path) -> None:
    Image.fromarray(noise(4), "RGBA").save(path.with_suffix(".png"))


def transparent_gray(path: Path) -> None:
    Image.fromarray(noise(2), "LA").save(path.with_suffix(".png"))


def palette(path: Path) -> None:
    Image.fromarray(noise(3)).quantize(16).save(path.with_suffix(".gif"), transparency=3)


def twelve_bits(path: Path) -> None:
    Image.fromarray(noise(1, np.uint16, 4000)).save(path.with_suffix(".png"))


def sixteen_bits(path: Path) -> None:
    Image.fromarray(noise(1, np.uint16, 65_000)).save(path.with_suffix(".png"))


def fractions(path: Path) -> None:
    Image.fromarray((noise(1) / 255).astype(np.float32)).save(path.with_suffix(".tif"))


def printed(path: Path) -> None:
    Image.fromarray(noise(4), "CMYK").save(path.with_suffix(".jpg"))


def turned(path: Path) -> None:
    image = Image.fromarray(noise(3))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(path.with_suffix(".jpg"), exif=exif)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")
@pytest.mark.parametrize(
    "save",
    [
        gray, color, bilevel, transparent, transparent_gray, palette, twelve_bits, sixteen_bits, fractions, printed,
        turned,
    ],
)  # fmt: skip
def test_images_are_decoded_alike(save: Callable[[Path], None], script: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path / "image")
    (path,) = tmp_path.iterdir()
    own, found = decode(path), script["decode"](path)
    assert found.mode == own.mode
    assert np.array_equal(np.asarray(found), np.asarray(own))


@pytest.mark.parametrize("seed", range(4))
def test_drawings_are_reframed_alike(seed: int, script: dict[str, Any]) -> None:
    generator = np.random.default_rng(seed)
    pixels = np.full((90, 70), 230, np.uint8)
    top, left = generator.integers(5, 30, 2)
    pixels[top : top + 40, left : left + 12] = generator.integers(0, 120, (40, 12))
    image = Image.fromarray(255 - pixels if seed % 2 else pixels)
    (ink,) = script["reframe"].__defaults__[:1]
    assert np.array_equal(np.asarray(script["reframe"](image)), np.asarray(reframe(image, ink)))
