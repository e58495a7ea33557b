"""From an image of any size to a square of pixels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.errors import UserError
from convatlas.images import Interpolation, Resize, ResizeMode, resize
from convatlas.images.resize import LARGEST_SIDE

modes = st.sampled_from(list(ResizeMode))
interpolations = st.sampled_from(list(Interpolation))


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def bands() -> Image.Image:
    """60 wide and 20 high: a third red, a third green, a third blue."""
    array = np.zeros((20, 60, 3), np.uint8)
    for channel in range(3):
        array[:, 20 * channel : 20 * (channel + 1), channel] = 255
    return Image.fromarray(array)


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    side=st.integers(1, 40),
    mode=st.sampled_from([ResizeMode.CROP, ResizeMode.SQUASH]),
    interpolation=interpolations,
    gray=st.booleans(),
    channels=st.sampled_from([1, 3]),
    approximate=st.booleans(),
)
def test_an_image_of_one_value_becomes_a_square_of_that_value(
    width: int, height: int, side: int, mode: ResizeMode, interpolation: Interpolation, gray: bool, channels: int,
    approximate: bool,
) -> None:  # fmt: skip
    image = Image.new("L", (width, height), 0x4D) if gray else Image.new("RGB", (width, height), 0x4D4D4D)
    array = Resize(side, mode, interpolation).square(image, channels, approximate=approximate)
    assert array.dtype == np.uint8
    assert array.shape == (channels, side, side)
    assert array.flags.c_contiguous
    assert (array == 0x4D).all()


@given(mode=modes, interpolation=interpolations)
def test_an_image_of_the_size_is_not_changed(mode: ResizeMode, interpolation: Interpolation) -> None:
    resize, image = Resize(12, mode, interpolation), noise(12, 12)
    assert np.array_equal(resize.square(image, 3), np.asarray(image).transpose(2, 0, 1))
    gray = image.convert("L")
    assert np.array_equal(resize.square(gray, 1)[0], gray)


@pytest.mark.parametrize("upright", [False, True])
def test_a_crop_is_the_middle_square(upright: bool) -> None:
    image = bands().transpose(Image.Transpose.ROTATE_90) if upright else bands()
    array = Resize(20).square(image, 3)
    assert (array == np.array([0, 255, 0])[:, None, None]).all()


def test_a_squash_shows_all_of_the_image() -> None:
    array = Resize(30, ResizeMode.SQUASH, Interpolation.NEAREST).square(bands(), 3)
    for channel in range(3):
        shown = array[channel] == 255
        assert (shown.all(axis=0) == (np.arange(30) // 10 == channel)).all()


@given(width=st.integers(1, 200), height=st.integers(1, 200), side=st.integers(1, 50))
def test_a_letterbox_shows_all_of_the_image_between_black_bars(width: int, height: int, side: int) -> None:
    array = Resize(side, ResizeMode.LETTERBOX).square(Image.new("L", (width, height), 200), 1)[0]
    rows, columns = np.flatnonzero(array.any(1)), np.flatnonzero(array.any(0))
    assert max(len(rows), len(columns)) == side
    for places, length in ((rows, height), (columns, width)):
        assert len(places) == pytest.approx(max(1, length * side / max(width, height)), abs=0.51)
        # In the middle, and without gaps.
        assert abs(places[0] - (side - 1 - places[-1])) <= 1
        assert np.ptp(places) + 1 == len(places)
    assert (array[np.ix_(rows, columns)] == 200).all()


def test_a_scaled_image_keeps_its_sides() -> None:
    quarters = np.kron([[10, 80], [150, 220]], np.ones((50, 50))).astype(np.uint8)
    array = Resize(10).square(Image.fromarray(quarters), 1)[0]
    assert [array[0, 0], array[0, -1], array[-1, 0], array[-1, -1]] == [10, 80, 150, 220]


def test_a_slip_of_one_column_is_scaled_down_before_it_is_made_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    slip = noise(1, 5000)
    whole = Resize(40, ResizeMode.SQUASH).square(slip, 3)
    monkeypatch.setattr(resize, "SPARE", 0)
    by_columns = Resize(40, ResizeMode.SQUASH).square(slip, 3)
    assert np.abs(whole.astype(int) - by_columns).max() <= 1


def test_scaling_down_averages_and_does_not_pick_single_pixels() -> None:
    checkered = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert Resize(4).square(Image.fromarray(checkered), 1).astype(float) == pytest.approx(127.5, abs=3)


@pytest.mark.at_once("interpolation", Interpolation)
def test_each_interpolation_is_pillows(interpolation: Interpolation) -> None:
    image = noise(40, 40)
    expected = image.resize((16, 16), Image.Resampling[interpolation.name])
    found = Resize(16, interpolation=interpolation).square(image, 3)
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


def test_gray_spreads_over_three_channels() -> None:
    gray = noise(9, 9).convert("L")
    assert (Resize(9).square(gray, 3) == np.asarray(gray)).all()


def test_color_becomes_gray_by_how_bright_it_looks() -> None:
    red, green, blue = (
        int(Resize(2).square(Image.new("RGB", (2, 2), color), 1)[0, 0, 0]) for color in ("red", "lime", "blue")
    )
    assert blue < red < green
    assert red + green + blue == pytest.approx(255, abs=1)


def test_the_given_image_is_left_as_it_was() -> None:
    image = Image.new("RGB", (30, 20), (1, 2, 3))
    Resize(8).square(image, 1)
    assert image.size == (30, 20)
    assert image.getpixel((0, 0)) == (1, 2, 3)


# Approximations


@given(width=st.integers(1, 300), height=st.integers(1, 300), side=st.integers(1, 60), mode=modes)
def test_what_is_not_called_approximate_has_exact_pixels(width: int, height: int, side: int, mode: ResizeMode) -> None:
    resize, image = Resize(side, mode), noise(width, height)
    exact, approximate = (resize.square(image, 3, approximate=fast) for fast in (False, True))
    if not resize.is_approximate((width, height)):
        assert np.array_equal(exact, approximate)


def test_what_is_called_approximate_can_have_other_pixels() -> None:
    resize = Resize(20)
    assert not resize.is_approximate((119, 150))
    assert resize.is_approximate((130, 150))
    exact, approximate = (resize.square(noise(130, 150), 3, approximate=fast) for fast in (False, True))
    assert not np.array_equal(exact, approximate)


# What cannot be


@pytest.mark.at_once("side", [0, -1, LARGEST_SIDE + 1, 2.0, True, "8", None])
def test_a_side_that_is_none_is_refused(side: object) -> None:
    with pytest.raises(UserError, match="is not a size; it must be 1 to"):
        Resize(side)  # type: ignore[arg-type]


def test_modes_and_interpolations_may_be_strings() -> None:
    resize = Resize(8, "squash", "lanczos")  # type: ignore[arg-type]
    assert resize == Resize(8, ResizeMode.SQUASH, Interpolation.LANCZOS)
    assert resize.mode is ResizeMode.SQUASH
    with pytest.raises(UserError, match="mode 'stretch' is unknown; it must be one of crop, squash, letterbox"):
        Resize(8, "stretch")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="interpolation 'cubic' is unknown"):
        Resize(8, interpolation="cubic")  # type: ignore[arg-type]


def test_a_number_of_pixels_means_a_bilinear_crop() -> None:
    assert Resize.to(8) == Resize(8, ResizeMode.CROP, Interpolation.BILINEAR)
    other = Resize(8, ResizeMode.LETTERBOX)
    assert Resize.to(other) is other


@pytest.mark.parametrize("size", [(123, 500), (500, 123), (64, 1000)])
def test_rows_are_resized_before_columns_whatever_the_shape(size: tuple[int, int]) -> None:
    # Pillow 13 begins with the columns of images that are much taller than wide, and rounds after both.
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    image = Image.fromarray(pixels)
    expected = image.resize((72, image.height), Image.Resampling.BILINEAR).resize((72, 72), Image.Resampling.BILINEAR)
    found = Resize(72, ResizeMode.SQUASH).square(image, 3)
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))
