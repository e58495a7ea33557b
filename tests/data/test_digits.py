"""The embedded digits are whole, split the same way for ever, and come at any size."""

import numpy as np
import pytest

from convatlas.data import Split
from convatlas.data.digits import Digits
from convatlas.images import Resize

COUNTS = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
"""As UCI publishes them for its test part."""


@pytest.fixture(scope="module")
def digits():
    return Digits().load(8)


def test_every_digit_has_the_published_number_of_images(digits) -> None:
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    assert np.bincount(labels).tolist() == COUNTS


def test_every_fifth_of_each_digit_is_for_the_test(digits) -> None:
    assert np.bincount(digits.test.labels).tolist() == [count // 5 for count in COUNTS]
    assert (len(digits.train), len(digits.test)) == (1442, 355)


def test_no_test_image_is_among_the_training_images(digits) -> None:
    train = {image.tobytes() for image in digits.train.images}
    assert not any(image.tobytes() in train for image in digits.test.images)


def test_images_are_gray_bytes_of_17_levels_from_black_to_white(digits) -> None:
    images = digits.train.images
    assert images.shape == (1442, 1, 8, 8)
    assert images.dtype == np.uint8
    assert digits.channels == 1
    assert np.unique(images).tolist() == [round(level * 255 / 16) for level in range(17)]


def test_the_first_image_is_the_zero_that_uci_lists_first(digits) -> None:
    assert digits.train.labels[0] == 0
    assert np.round(digits.train.images[0, 0] / 255 * 16).astype(int).tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
        [0, 4, 12, 0, 0, 8, 8, 0],
        [0, 5, 8, 0, 0, 9, 8, 0],
        [0, 4, 11, 0, 1, 12, 7, 0],
        [0, 2, 14, 5, 10, 12, 0, 0],
        [0, 0, 6, 13, 10, 0, 0, 0],
    ]


def test_checksum_is_the_one_that_run_folders_have_kept(digits) -> None:
    assert digits.checksum == "contents:ba38af677670539dbd9e1c4dd2ecd0760558c552087beb44bf3c10273a09545b"


def test_split_is_the_same_whatever_the_seed(digits) -> None:
    assert Digits().load(8, seed=7).checksum == digits.checksum


@pytest.mark.parametrize("resolution", [1, 28, 32])
def test_images_come_at_any_size_with_the_same_labels(digits, resolution: int) -> None:
    resized = Digits().load(resolution)
    assert resized.train.images.shape == (1442, 1, resolution, resolution)
    assert np.array_equal(resized.test.labels, digits.test.labels)
    brightness = resized.test.images.mean(axis=(1, 2, 3)), digits.test.images.mean(axis=(1, 2, 3))
    assert np.corrcoef(*brightness)[0, 1] > 0.9


def test_resizing_color_keeps_the_channels_apart() -> None:
    values = np.array([10, 120, 250], np.uint8)
    split = Split(np.broadcast_to(values[:, None, None], (2, 3, 6, 6)).copy(), np.array([0, 1]))
    resized = split.resized(Resize(9))
    assert resized.images.shape == (2, 3, 9, 9)
    assert (resized.images == values[:, None, None]).all()
    assert len(resized) == 2


def test_split_of_the_wanted_size_is_not_copied() -> None:
    split = Split(np.zeros((2, 1, 6, 6), np.uint8), np.array([0, 1]))
    assert split.resized(Resize(6)) is split


def test_checksum_of_a_split_changes_with_a_pixel_and_with_a_label() -> None:
    images, labels = np.zeros((2, 1, 2, 2), np.uint8), np.array([0, 1])
    other = images.copy()
    other[1, 0, 1, 1] = 1
    checksums = {Split(images, labels).checksum, Split(other, labels).checksum, Split(images, 1 - labels).checksum}
    assert len(checksums) == 3
    assert Split(images.copy(), labels.astype(np.int32)).checksum in checksums
