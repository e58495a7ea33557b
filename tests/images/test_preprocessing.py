"""From an image to the numbers that a network reads."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.errors import UserError
from convatlas.images import ChannelOrder, ImageError, Interpolation, Preprocessing, Resize, ResizeMode, decode, reframe
from convatlas.images.preprocessing import from_format_2

GRAY = Preprocessing(resize=8, crop=8, channels=1, mean=(0.5,), std=(0.25,))
COLOR = Preprocessing(resize=6, crop=4, channels=3, mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))


def bytes_of(**choices: Any) -> Preprocessing:
    """Leaves the values 0 to 255 as they are."""
    return Preprocessing(**{"resize": 8, "crop": 8, "channels": 3, "mean": (0.0,) * 3, "std": (1 / 255,) * 3} | choices)


def noise(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def chw(image: Image.Image) -> npt.NDArray[np.uint8]:
    return np.asarray(image).transpose(2, 0, 1)


# From an image to the network's input


def test_inputs_are_float32_of_the_networks_size() -> None:
    for preprocessing, shape in ((GRAY, (1, 8, 8)), (COLOR, (3, 4, 4))):
        for image in (noise(), noise().convert("L")):
            inputs = preprocessing.prepare(image)
            assert (inputs.dtype, inputs.shape) == (np.float32, shape)
            assert inputs.flags.c_contiguous


def test_the_center_of_the_resized_image_is_read() -> None:
    image = noise(12, 12)
    found = bytes_of(resize=12, crop=8).prepare(image)
    assert found == pytest.approx(chw(image)[:, 2:10, 2:10], abs=1e-4)
    # Of an odd margin the larger half is below and on the right.
    assert bytes_of(resize=11, crop=8).margin == 1


def test_a_file_an_opened_image_and_an_array_give_the_same(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    expected = COLOR.prepare(tmp_path / "a.png")
    assert np.array_equal(COLOR.prepare(str(tmp_path / "a.png")), expected)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(COLOR.prepare(image), expected)
    assert np.array_equal(COLOR.prepare(decode(tmp_path / "a.png")), expected)
    assert np.array_equal(COLOR.prepare(np.asarray(noise())), expected)
    assert np.array_equal(GRAY.prepare(np.asarray(noise().convert("L"))), GRAY.prepare(noise().convert("L")))


def test_an_opened_photograph_is_turned_upright_as_its_file_is(tmp_path: Path) -> None:
    tags = Image.Exif()
    tags[0x0112] = 6
    noise().save(tmp_path / "a.jpg", exif=tags)
    with Image.open(tmp_path / "a.jpg") as image:
        assert np.array_equal(COLOR.prepare(image), COLOR.prepare(tmp_path / "a.jpg"))


def test_a_large_jpeg_is_decoded_whole_and_resized_in_one_step(tmp_path: Path) -> None:
    noise(640, 480).save(tmp_path / "a.jpg", quality=95)
    with Image.open(tmp_path / "a.jpg") as image:
        square = image.convert("RGB").resize((8, 8), Image.Resampling.BILINEAR, box=(80, 0, 560, 480))
    assert bytes_of().prepare(tmp_path / "a.jpg") == pytest.approx(chw(square), abs=1e-4)


@pytest.mark.at_once("mode", ResizeMode)
@pytest.mark.at_once("interpolation", Interpolation)
def test_mode_and_interpolation_are_those_of_the_resizing(mode: ResizeMode, interpolation: Interpolation) -> None:
    preprocessing = bytes_of(mode=mode, interpolation=interpolation)
    expected = Resize(8, mode, interpolation).square(noise(), 3)
    assert preprocessing.prepare(noise()) == pytest.approx(expected, abs=1e-4)


def test_what_cannot_be_read_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(ImageError, match="not an image of a known format"):
        COLOR.prepare(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match="there is no such file"):
        COLOR.prepare(tmp_path / "b.jpg")


@pytest.mark.at_once("dtype", [np.float32, np.float64, np.int64, np.bool_])
def test_arrays_whose_range_nobody_can_tell_are_refused(dtype: Any) -> None:
    with pytest.raises(UserError, match=f"an array of {np.dtype(dtype)} does not say what its values mean"):
        COLOR.prepare(np.zeros((4, 4, 3), dtype))


@pytest.mark.at_once("shape", [(3, 4, 5), (4, 4, 4), (4,), (1, 4, 4, 3), (0, 4), (4, 0, 3)])
def test_arrays_of_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserError, match=r"is not an image; pass \(height, width, 3\) in RGB order"):
        COLOR.prepare(np.zeros(shape, np.uint8))


def test_no_torch_is_loaded() -> None:
    code = "import sys, convatlas.images; convatlas.images.Preprocessing; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# The training images' own size, and their ink


def test_other_images_become_as_coarse_as_the_training_images() -> None:
    preprocessing = bytes_of(resize=32, crop=32, native_side=8)
    coarse = Image.fromarray(Resize(8).square(noise(), 3).transpose(1, 2, 0).copy())
    assert preprocessing.prepare(noise()) == pytest.approx(Resize(32).square(coarse, 3), abs=1e-4)
    own = noise(8, 8)
    assert preprocessing.prepare(own) == pytest.approx(Resize(32).square(own, 3), abs=1e-4)


def test_a_native_size_above_the_networks_changes_nothing() -> None:
    assert np.array_equal(bytes_of(native_side=32).prepare(noise()), bytes_of().prepare(noise()))


def drawing(side: int) -> Image.Image:
    image = Image.new("L", (side, side), 255)
    image.paste(0, (side // 4, side // 4, side // 2, side // 2))
    return image


DIGITS = bytes_of(resize=28, crop=28, channels=1, mean=(0.0,), std=(1 / 255,), native_side=28, ink=0.7)
"""As of MNIST: bright ink on black, 28 pixels."""


@pytest.mark.parametrize("side", [100, 28])
def test_a_drawing_is_reframed_at_any_size(side: int) -> None:
    framed = DIGITS.prepare(drawing(side))
    assert framed == pytest.approx(Resize(28).square(reframe(drawing(side), 0.7), 1), abs=1e-4)
    assert framed[0, 0, 0] == 0
    assert framed.max() == pytest.approx(255)


@given(left=st.integers(0, 20), top=st.integers(0, 20), ink=st.integers(40, 255), paper=st.integers(0, 10))
def test_an_image_of_the_set_keeps_its_pixels_wherever_its_ink_is(left: int, top: int, ink: int, paper: int) -> None:
    image = Image.new("L", (28, 28), paper)
    image.paste(ink, (left, top, left + 8, top + 8))
    assert np.array_equal(DIGITS.prepare(image), DIGITS.normalize(np.asarray(image)[None]))


@pytest.mark.parametrize("side", [28, 57])
@pytest.mark.parametrize("paper", [0, 100, 255])
def test_a_blank_page_is_told_and_not_read(side: int, paper: int, tmp_path: Path) -> None:
    Image.new("L", (side, side), paper).save(tmp_path / "a.png")
    for image, name in ((tmp_path / "a.png", tmp_path / "a.png"), (Image.new("L", (side, side), paper), "image")):
        with pytest.raises(ImageError) as caught:
            DIGITS.prepare(image)
        assert str(caught.value) == f"{name}: blank: there is no ink on it to read"
    # Networks that read photographs may see a wall.
    assert bytes_of().prepare(tmp_path / "a.png") == pytest.approx(paper)


# Normalizing


def test_the_mean_becomes_zero_and_one_std_above_it_one() -> None:
    images = np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)
    normalized = GRAY.normalize(images)
    assert normalized.dtype == np.float32
    assert normalized.flatten() == pytest.approx([-2, 2])


def test_each_channel_has_its_own_mean_and_std() -> None:
    white = np.full((1, 3, 4, 4), 255, np.uint8)
    normalized = COLOR.normalize(white)
    assert normalized.shape == (1, 3, 4, 4)
    assert normalized[0, :, 2, 2] == pytest.approx([1, 1, 0])


@given(values=st.lists(st.integers(0, 255), min_size=1, max_size=12), mean=st.floats(0, 1), std=st.floats(0.01, 1))
def test_normalizing_can_be_undone(values: list[int], mean: float, std: float) -> None:
    images = np.array(values, np.uint8).reshape(-1, 1, 1, 1)
    preprocessing = Preprocessing(resize=1, crop=1, channels=1, mean=(mean,), std=(std,))
    back = (preprocessing.normalize(images).astype(np.float64) * std + mean) * 255
    assert back == pytest.approx(images, abs=1e-3)


def test_mean_and_std_may_be_of_values_up_to_255() -> None:
    of_one = bytes_of(mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    of_255 = bytes_of(
        mean=tuple(255 * value for value in of_one.mean), std=tuple(255 * value for value in of_one.std),
        value_range=255.0,
    )  # fmt: skip
    assert of_255.prepare(noise()) == pytest.approx(of_one.prepare(noise()), abs=1e-5)
    assert of_255.pixel_mean.ravel() == pytest.approx([102, 127.5, 153])


def test_mean_and_std_are_in_the_networks_channel_order() -> None:
    rgb = bytes_of(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    bgr = bytes_of(mean=(0.3, 0.2, 0.1), std=(0.6, 0.5, 0.4), channel_order=ChannelOrder.BGR)
    assert np.array_equal(bgr.prepare(noise()), rgb.prepare(noise())[::-1])


# As data


def test_it_survives_the_way_through_json() -> None:
    before = replace(
        COLOR, mode=ResizeMode.LETTERBOX, interpolation=Interpolation.BICUBIC, channel_order=ChannelOrder.BGR,
        value_range=255.0, native_side=5, ink=0.5,
    )  # fmt: skip
    after = Preprocessing(**json.loads(json.dumps(asdict(before))))
    assert after == before
    assert isinstance(after.mean, tuple)
    assert after.mode is ResizeMode.LETTERBOX
    assert hash(after) == hash(before)


def test_fields_of_older_records_are_brought_to_these() -> None:
    old = {
        "resolution": 32, "channels": 1, "mean": (0.1,), "deviation": (0.3,), "side": 8, "ink": 0.9, "margin": 2,
    }  # fmt: skip
    assert Preprocessing(**from_format_2(old)) == Preprocessing(
        resize=36, crop=32, channels=1, mean=(0.1,), std=(0.3,), native_side=8, ink=0.9
    )
    for name in ("side", "ink", "margin"):
        del old[name]
    assert Preprocessing(**from_format_2(old)) == Preprocessing(resize=32, crop=32, channels=1, mean=(0.1,), std=(0.3,))


@pytest.mark.at_once(
    ("choices", "message"),
    [
        ({"resize": 0}, "resize 0 is not a size"),
        ({"resize": 8.0}, "resize 8.0 is not a size"),
        ({"resize": True}, "resize True is not a size"),
        ({"resize": 10**9}, "resize 1000000000 is not a size"),
        ({"crop": -1}, "crop -1 is not a size"),
        ({"crop": None}, "crop None is not a size"),
        ({"crop": 9}, "crop 9 is larger than the resized image of 8 pixels"),
        ({"native_side": 0}, "native_side 0 is not a size"),
        ({"channels": 4}, "channels 4 does not work"),
        ({"channels": "3"}, "channels '3' does not work"),
        ({"channels": 1}, "mean has 3 values; it must have one for each of 1 channels"),
        ({"mean": (0.5,)}, "mean has 1 values"),
        ({"std": (0.5,) * 4}, "std has 4 values"),
        ({"ink": 1e-300}, "ink 1e-300 does not work; it must be a part of the frame, 0.0625 to 1"),
        ({"mean": 0.5}, "mean 0.5 does not work"),
        ({"mean": (0.5, "a", 0.5)}, "mean .* does not work"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean .* does not work"),
        ({"std": (0.5, float("inf"), 0.5)}, "std .* does not work"),
        ({"std": (0.5, 0.0, 0.5)}, "std .* does not work; each value must be above 0"),
        ({"std": (0.5, -0.5, 0.5)}, "std .* does not work; each value must be above 0"),
        ({"value_range": 1.5}, "value_range 1.5 does not work; it must be 1.0 or 255.0"),
        ({"value_range": None}, "value_range None does not work"),
        ({"mode": "stretch"}, "mode 'stretch' is unknown"),
        ({"interpolation": 2}, "interpolation 2 is unknown"),
        ({"channel_order": "grb"}, "channel_order 'grb' is unknown; it must be one of rgb, bgr"),
        ({"ink": 0.0}, "ink 0.0 does not work"),
        ({"ink": 1.5}, "ink 1.5 does not work"),
        ({"ink": "much"}, "ink 'much' does not work"),
    ],
)  # fmt: skip
def test_a_field_that_does_not_work_is_named(choices: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        bytes_of(**choices)
    assert "\n" not in str(caught.value)
