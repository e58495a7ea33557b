"""Channel statistics of a data set, and the preprocessing that they make."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from convatlas.data.dataset import Dataset, Split
from convatlas.data.stream import Stream
from convatlas.images import Preprocessing
from convatlas.images.ink import span

IMAGES_AT_ONCE = 1000
"""Images over which statistics are summed at a time."""


def preprocessing_for(
    dataset: Dataset, *, margin: int, pixels: tuple[float, float] | None, like: Preprocessing | None = None
) -> Preprocessing:
    """How the images of a data set become a network's input.

    Args:
        margin: pixels on each side that training's crops may use and everything else cuts off.
        pixels: what black and white become; None: the training images get mean 0 and standard deviation 1.
        like: of weights that training starts from, which learned on values of its mean and standard deviation.
    """
    if like is not None and like.channels == dataset.channels:
        mean, std = like.mean, like.deviation
    elif pixels is None:
        mean, std = channel_statistics(dataset.train)
    else:
        black, white = pixels
        mean = (-black / (white - black),) * dataset.channels
        std = (1 / (white - black),) * dataset.channels
    return Preprocessing(
        resolution=dataset.train.images.shape[-1] - 2 * margin,
        channels=dataset.channels,
        mean=mean,
        deviation=std,
        side=dataset.side,
        ink=span(dataset.train.images[:IMAGES_AT_ONCE]) if dataset.ink else None,
        margin=margin,
    )


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values from 0 to 1; 1 for a channel that does not vary.

    Of a stream a sample stands for all.
    """

    def parts() -> Iterator[npt.NDArray[np.uint8]]:
        if isinstance(split.images, Stream):
            yield split.images.sample
            return
        for begin in range(0, len(split), IMAGES_AT_ONCE):
            yield split.images[begin : begin + IMAGES_AT_ONCE]

    channels = split.images.shape[1]
    # Counts of each value are exact, in whatever parts they are summed.
    counts = np.zeros((channels, 256), np.int64)
    for part in parts():
        for channel in range(channels):
            counts[channel] += np.bincount(part[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum((shares * (values - mean[:, None]) ** 2).sum(1), 0))
    return tuple(mean.tolist()), tuple(float(value) or 1.0 for value in std)
