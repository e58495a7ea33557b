"""Channel statistics of a data set, and the preprocessing that they make."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

from convatlas.data import Dataset, Split
from convatlas.data import find as find_data
from convatlas.data.images import CHUNK, Indices
from convatlas.data.statistics import channel_statistics, preprocessing_for
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, Resize, ResizeMode


@dataclass
class OnDisk:
    """Images that are read when they are asked for."""

    images: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Indices, /) -> np.ndarray:
        read = self.images[indices]
        # Never all of a large set at once.
        assert len(read) <= CHUNK
        return read


@pytest.mark.at_once("num", [1, 999, 1000, 1001, 2500])
@pytest.mark.at_once("channels", [1, 3])
def test_statistics_are_those_of_all_pixels_wherever_the_images_are(num: int, channels: int) -> None:
    images = np.random.default_rng(num).integers(0, 200, (num, channels, 3, 5), dtype=np.uint8)
    images[:, 0] //= 3
    labels = np.zeros(num, np.int64)
    mean, std = channel_statistics(Split(images, labels))
    values = images.transpose(1, 0, 2, 3).reshape(channels, -1) / 255
    assert mean == pytest.approx(values.mean(1))
    assert std == pytest.approx(values.std(1))
    # Bit for bit, or a resumed run would see other numbers.
    assert channel_statistics(Split(OnDisk(images), labels)) == (mean, std)


def test_a_channel_that_does_not_vary_is_divided_by_one() -> None:
    images = np.full((4, 2, 3, 3), 51, np.uint8)
    images[0, 1] = 0
    mean, std = channel_statistics(Split(images, np.zeros(4, np.int64)))
    assert mean[0] == pytest.approx(0.2)
    assert std[0] == 1.0
    assert 0 < std[1] < 1


# Preprocessing


def digits() -> Dataset:
    return find_data("digits").load(28)


def photographs(channels: int = 3, side: int = 40) -> Dataset:
    """Images of many sizes, decoded to that side."""
    noise = np.random.default_rng(0).integers(0, 256, (6, channels, side, side), dtype=np.uint8)
    split = Split(noise, np.arange(6) % 2)
    return Dataset(name="photographs", classes=("cat", "dog"), train=split, test=split)


def made(
    dataset: Dataset,
    *,
    margin: int,
    pixels: tuple[float, float] | None,
    like: Preprocessing | None = None,
    mode: ResizeMode = ResizeMode.CROP,
    interpolation: Interpolation = Interpolation.BILINEAR,
) -> Preprocessing:
    resize = Resize(dataset.train.images.shape[-1], mode, interpolation)
    return preprocessing_for(dataset, resize, margin=margin, pixels=pixels, like=like)


def test_a_papers_range_of_pixels_is_used_where_it_prints_one() -> None:
    # LeNet-5's black is -0.1 and its white 1.175.
    preprocessing = made(digits(), margin=0, pixels=(-0.1, 1.175))
    ends = preprocessing.normalize(np.array([0, 255], np.uint8)[:, None, None, None]).ravel()
    assert ends == pytest.approx((-0.1, 1.175), abs=1e-6)


@pytest.mark.parametrize("dataset", [digits(), photographs()], ids=["digits", "photographs"])
def test_otherwise_the_training_images_get_mean_0_and_standard_deviation_1(dataset: Dataset) -> None:
    preprocessing = made(dataset, margin=0, pixels=None)
    normalized = preprocessing.normalize(dataset.train.images[:])
    assert normalized.mean((0, 2, 3)) == pytest.approx(0, abs=1e-4)
    assert normalized.std((0, 2, 3)) == pytest.approx(1, abs=1e-4)


def test_fine_tuning_prepares_images_as_the_weights_that_it_starts_from_saw_them() -> None:
    dataset = photographs()
    own = made(dataset, margin=2, pixels=None)
    like = Preprocessing(
        resize=113,
        crop=99,
        channels=3,
        mean=(0.1, 0.2, 0.3),
        std=(0.4, 0.5, 0.6),
        value_range=255.0,
        mode=ResizeMode.SQUASH,
        interpolation=Interpolation.BICUBIC,
        channel_order=ChannelOrder.BGR,
    )
    kept = made(
        dataset,
        margin=2,
        pixels=(-0.1, 1.175),
        like=like,
        mode=ResizeMode.SQUASH,
        interpolation=Interpolation.BICUBIC,
    )
    # Sizes are of these images.
    assert kept == replace(like, resize=own.resize, crop=own.crop)


def test_gray_images_get_the_values_that_weights_for_color_learned_on() -> None:
    # Caffe's: 0 to 255 without the mean of each color.
    like = Preprocessing(resize=40, crop=40, channels=3, mean=(104, 117, 123), std=(1, 1, 1), value_range=255.0)
    preprocessing = made(photographs(channels=1), margin=2, pixels=None, like=like)
    assert (preprocessing.mean, preprocessing.std, preprocessing.channels) == ((344 / 3,), (1,), 1)
    ends = preprocessing.normalize(np.array([0, 255], np.uint8)[:, None, None, None]).ravel()
    assert ends == pytest.approx((-344 / 3, 255 - 344 / 3), abs=1e-4)


def test_the_margin_is_cut_off_the_sides() -> None:
    preprocessing = made(photographs(side=40), margin=3, pixels=None)
    assert (preprocessing.crop, preprocessing.margin, preprocessing.resize) == (34, 3, 40)


def test_characters_are_framed_as_in_their_data_set_and_photographs_are_not() -> None:
    dataset = digits()
    assert dataset.is_light_on_dark
    preprocessing = made(dataset, margin=0, pixels=None)
    assert preprocessing.ink is not None
    assert preprocessing.native_side == dataset.native_side == 8
    assert made(photographs(), margin=0, pixels=None).ink is None
