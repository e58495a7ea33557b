"""From an image to the numbers that a network reads."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.images import Preprocessing, fit

GRAY = Preprocessing(resolution=8, channels=1, mean=(0.5,), deviation=(0.25,))
COLOR = Preprocessing(resolution=4, channels=3, mean=(0.0, 0.5, 1.0), deviation=(1.0, 0.5, 0.25))


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    resolution=st.integers(1, 40),
    mode=st.sampled_from(["L", "RGB"]),
    channels=st.sampled_from([1, 3]),
)
def test_any_image_of_one_value_fits_as_a_square_of_that_value(
    width: int, height: int, resolution: int, mode: str, channels: int
) -> None:
    array = fit(Image.new(mode, (width, height), 0x4D4D4D if mode == "RGB" else 0x4D), resolution, channels)
    assert array.dtype == np.uint8
    assert array.shape == (channels, resolution, resolution)
    assert array.flags.c_contiguous
    assert (array == 0x4D).all()


def test_image_of_the_working_size_is_not_changed() -> None:
    values = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    assert np.array_equal(fit(Image.fromarray(values), 12, 3), values.transpose(2, 0, 1))
    assert np.array_equal(fit(Image.fromarray(values[..., 0]), 12, 1)[0], values[..., 0])


@pytest.mark.parametrize("upright", [False, True])
def test_the_middle_square_of_an_oblong_image_is_cut_out(upright: bool) -> None:
    """A third red, a third green, a third blue: only green is left."""
    bands = np.zeros((20, 60, 3), np.uint8)
    for channel in range(3):
        bands[:, 20 * channel : 20 * (channel + 1), channel] = 255
    array = fit(Image.fromarray(bands.transpose(1, 0, 2).copy() if upright else bands), 20, 3)
    assert (array == np.array([0, 255, 0])[:, None, None]).all()


def test_scaled_image_keeps_its_sides() -> None:
    quarters = np.kron([[10, 80], [150, 220]], np.ones((50, 50))).astype(np.uint8)
    array = fit(Image.fromarray(quarters), 10, 1)[0]
    assert [array[0, 0], array[0, -1], array[-1, 0], array[-1, -1]] == [10, 80, 150, 220]


def test_scaling_down_averages_and_does_not_pick_single_pixels() -> None:
    chequered = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert fit(Image.fromarray(chequered), 4, 1).astype(float) == pytest.approx(127.5, abs=3)


def test_gray_spreads_over_three_channels() -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8)
    assert (fit(Image.fromarray(values), 9, 3) == values).all()


def test_color_becomes_gray_by_how_bright_it_looks() -> None:
    red, green, blue = (int(fit(Image.new("RGB", (2, 2), color), 2, 1)[0, 0, 0]) for color in ("red", "lime", "blue"))
    assert blue < red < green
    assert red + green + blue == pytest.approx(255, abs=1)


def test_the_given_image_is_left_as_it_was() -> None:
    image = Image.new("RGB", (30, 20), (1, 2, 3))
    fit(image, 8, 1)
    assert image.size == (30, 20)
    assert image.getpixel((0, 0)) == (1, 2, 3)


def test_preprocessing_fits_to_its_own_size_and_channels() -> None:
    assert GRAY.fit(Image.new("RGB", (30, 20))).shape == (1, 8, 8)
    assert COLOR.fit(Image.new("L", (30, 20))).shape == (3, 4, 4)


def test_mean_becomes_zero_and_a_deviation_above_it_one() -> None:
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    normalized = GRAY.normalize(images)
    assert normalized.dtype == np.float32
    assert normalized.flatten() == pytest.approx([-2, 2])


def test_each_channel_has_its_own_mean_and_deviation() -> None:
    white = np.full((1, 3, 4, 4), 255, np.uint8)
    normalized = COLOR.normalize(white)
    assert normalized.shape == (1, 3, 4, 4)
    assert normalized[0, :, 2, 2] == pytest.approx([1, 1, 0])


@given(
    values=st.lists(st.integers(0, 255), min_size=1, max_size=12), mean=st.floats(0, 1), deviation=st.floats(0.01, 1)
)
def test_normalizing_can_be_undone(values: list[int], mean: float, deviation: float) -> None:
    images = np.array(values, np.uint8).reshape(-1, 1, 1, 1)
    preprocessing = Preprocessing(resolution=1, channels=1, mean=(mean,), deviation=(deviation,))
    back = (preprocessing.normalize(images).astype(np.float64) * deviation + mean) * 255
    assert back == pytest.approx(images, abs=1e-3)
