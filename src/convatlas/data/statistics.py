"""Statistics of a split's pixels."""

from __future__ import annotations

import numpy as np

from convatlas.data.dataset import Split


def channel_statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, of values from 0 to 1; a channel that does not vary has std 1.

    For a stream, a sample stands for all.
    """
    channels = split.images.shape[1]
    # Counts of each value are exact, whatever the chunks.
    counts = np.zeros((channels, 256), np.int64)
    for chunk in split.reader.chunks():
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    shares = counts / counts.sum(1, keepdims=True)
    mean = shares @ values
    std = np.sqrt(np.maximum((shares * (values - mean[:, None]) ** 2).sum(1), 0))
    return tuple(mean.tolist()), tuple(float(value) or 1.0 for value in std)
