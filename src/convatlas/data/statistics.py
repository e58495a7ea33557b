"""Channel statistics of a data set, and the preprocessing that they make."""

from __future__ import annotations

from statistics import fmean

import numpy as np

from convatlas.data.dataset import Dataset, Split
from convatlas.images import ChannelOrder, Preprocessing, Resize
from convatlas.images.ink import NUM_SPANS, ink_span


def preprocessing_for(
    dataset: Dataset,
    resize: Resize,
    *,
    margin: int,
    pixels: tuple[float, float] | None,
    like: Preprocessing | None = None,
) -> Preprocessing:
    """How the images of a data set become a network's input.

    Args:
        resize: how they were resized.
        margin: pixels on each side that training's crops may use and everything else cuts off.
        pixels: what black and white become; None: the training images get mean 0 and standard deviation 1.
        like: of weights that training starts from, which learned on values made so.
    """
    value_range, order = 1.0, ChannelOrder.RGB
    if like is not None and like.channels == dataset.channels:
        mean, std, value_range, order = like.mean, like.std, like.value_range, like.channel_order
    elif like is not None and dataset.channels == 1:
        # Gray is as much of each color, of which the first filters are summed.
        mean, std, value_range = (fmean(like.mean),), (fmean(like.std),), like.value_range
    elif pixels is None:
        mean, std = channel_statistics(dataset.train)
    else:
        black, white = pixels
        mean = (-black / (white - black),) * dataset.channels
        std = (1 / (white - black),) * dataset.channels
    side = dataset.train.images.shape[-1]
    return Preprocessing(
        resize=side,
        crop=side - 2 * margin,
        channels=dataset.channels,
        mean=mean,
        std=std,
        value_range=value_range,
        mode=resize.mode,
        interpolation=resize.interpolation,
        channel_order=order,
        native_side=dataset.native_side,
        ink=ink_span(dataset.train.images[:NUM_SPANS]) if dataset.is_light_on_dark else None,
    )


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values from 0 to 1; 1 for a channel that does not vary.

    Of a stream a sample stands for all.
    """
    channels = split.images.shape[1]
    # Counts of each value are exact, in whatever chunks they are summed.
    counts = np.zeros((channels, 256), np.int64)
    for chunk in split.reader.chunks():
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum((shares * (values - mean[:, None]) ** 2).sum(1), 0))
    return tuple(mean.tolist()), tuple(float(value) or 1.0 for value in std)
