"""Mean and standard deviation of a split's channels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from convatlas.data import Split
from convatlas.data.images import CHUNK, Indices
from convatlas.data.statistics import channel_statistics


@dataclass
class Shelf:
    """Images that are read as they are asked for."""

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


@pytest.mark.parametrize("num", [1, 999, 1000, 1001, 2500])
@pytest.mark.parametrize("channels", [1, 3])
def test_statistics_are_those_of_all_pixels_wherever_they_lie(num: int, channels: int) -> None:
    images = np.random.default_rng(num).integers(0, 200, (num, channels, 3, 5), dtype=np.uint8)
    images[:, 0] //= 3
    labels = np.zeros(num, np.int64)
    mean, std = channel_statistics(Split(images, labels))
    values = images.transpose(1, 0, 2, 3).reshape(channels, -1) / 255
    assert mean == pytest.approx(values.mean(1))
    assert std == pytest.approx(values.std(1))
    # To the bit, or a resumed run would see other numbers.
    assert channel_statistics(Split(Shelf(images), labels)) == (mean, std)


def test_what_does_not_vary_is_divided_by_one() -> None:
    images = np.full((4, 2, 3, 3), 51, np.uint8)
    images[0, 1] = 0
    mean, std = channel_statistics(Split(images, np.zeros(4, np.int64)))
    assert mean[0] == pytest.approx(0.2)
    assert std[0] == 1.0
    assert 0 < std[1] < 1
