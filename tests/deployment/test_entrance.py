"""The preprocessing as a graph, against the preprocessing that everybody else uses."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.deployment.entrance import ImageEntrance, whole_shares
from convatlas.errors import UserError
from convatlas.images import ChannelOrder, Interpolation, Preprocessing, ResizeMode

EXPORTED = (Interpolation.BILINEAR, Interpolation.HAMMING, Interpolation.BICUBIC, Interpolation.LANCZOS)
SIDE = st.integers(1, 130)


def photograph(height: int, width: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth colors with noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (smooth + generator.integers(-20, 20, smooth.shape)).clip(0, 255).astype(np.uint8)


def entered(preprocessing: Preprocessing, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    with torch.inference_mode():
        prepared: npt.NDArray[np.float32] = ImageEntrance(preprocessing)(torch.from_numpy(image))[0].numpy()
    return prepared


def preprocessing_of(channels: int, **fields: Any) -> Preprocessing:
    means = tuple(0.1 * (channel + 1) for channel in range(channels))
    return Preprocessing(channels=channels, mean=means, std=tuple(1 - mean for mean in means), **fields)


@given(
    height=SIDE,
    width=SIDE,
    resize=st.integers(1, 60),
    margin=st.integers(0, 9),
    mode=st.sampled_from(ResizeMode),
    channels=st.sampled_from([1, 3]),
    order=st.sampled_from(ChannelOrder),
    native=st.none() | st.integers(1, 40),
    value_range=st.sampled_from([1.0, 255.0]),
)
def test_bilinear_images_enter_bit_by_bit_as_they_are_prepared(
    height: int,
    width: int,
    resize: int,
    margin: int,
    mode: ResizeMode,
    channels: int,
    order: ChannelOrder,
    native: int | None,
    value_range: float,
) -> None:
    preprocessing = preprocessing_of(
        channels,
        resize=resize,
        crop=max(resize - 2 * margin, 1),
        mode=mode,
        channel_order=order,
        native_side=native,
        value_range=value_range,
    )
    image = photograph(height, width)
    assert np.array_equal(entered(preprocessing, image), preprocessing.prepare(image))


@given(
    height=st.integers(20, 200),
    width=st.integers(20, 200),
    mode=st.sampled_from(ResizeMode),
    interpolation=st.sampled_from([one for one in EXPORTED if one is not Interpolation.BILINEAR]),
)
def test_other_filters_differ_by_a_level_here_and_there_at_most(
    height: int, width: int, mode: ResizeMode, interpolation: Interpolation
) -> None:
    preprocessing = preprocessing_of(3, resize=64, crop=64, mode=mode, interpolation=interpolation)
    image = photograph(height, width)
    levels = np.abs(entered(preprocessing, image) - preprocessing.prepare(image)) * preprocessing.pixel_std
    assert levels.max() < 1.01
    # Most where many values lie halfway between two levels, as at a scale of two thirds.
    assert (levels > 0.5).mean() <= 0.005


@pytest.mark.parametrize(
    ("size", "mode"),
    [
        ((701, 2000), ResizeMode.CROP),
        *(
            pytest.param(size, mode, marks=pytest.mark.slow)
            for size in ((3000, 4000), (4000, 3000))
            for mode in ResizeMode
        ),
    ],
)
def test_photographs_enter_exactly(size: tuple[int, int], mode: ResizeMode) -> None:
    preprocessing = preprocessing_of(3, resize=40, crop=32, mode=mode)
    image = photograph(*size)
    assert np.array_equal(entered(preprocessing, image), preprocessing.prepare(image))


@pytest.mark.parametrize("interpolation", [one for one in Interpolation if one not in EXPORTED])
def test_filters_that_pillow_computes_by_chance_are_refused(interpolation: Interpolation) -> None:
    with pytest.raises(UserError, match=f"^{interpolation} interpolation is not exported"):
        entered(preprocessing_of(3, resize=9, crop=9, interpolation=interpolation), photograph(20, 20))


@given(sums=st.integers(1, 2**24), share=st.floats(0, 1))
def test_shares_are_rounded_once(sums: int, share: float) -> None:
    part = int(share * sums)
    found = int(whole_shares(torch.tensor(part), torch.tensor(sums)))
    assert found == (part * 2**23 + sums) // (2 * sums)
