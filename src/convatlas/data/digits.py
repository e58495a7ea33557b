"""The embedded set: 1,797 handwritten digits of 8x8 pixels, so that the first run needs no network."""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from convatlas.data.dataset import Dataset, Split


@dataclass(frozen=True)
class Digits:
    """The test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998, CC BY 4.0)."""

    name: str = "digits"
    side: int = 8
    detail: int = 8

    def load(self, resolution: int, *, seed: int = 0, skip_bad: bool = False) -> Dataset:
        """1,442 training and 355 test images: of each digit every fifth is for the test, whatever the seed."""
        train, test = splits(resolution)
        return Dataset(name=self.name, classes=tuple("0123456789"), side=self.side, ink=True, train=train, test=test)


@lru_cache(maxsize=2)
def splits(resolution: int) -> tuple[Split, Split]:
    """For training and for the test; kept, since making them takes as long as a small network's epoch."""
    packed = (files("convatlas.data") / "embedded" / "digits.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.int64)
    # 0 to 16 counts the set dots of a 4x4 cell.
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, 64]
    rank = np.empty_like(labels)
    for digit in range(10):
        of_digit = labels == digit
        rank[of_digit] = np.arange(of_digit.sum())
    test = rank % 5 == 4
    return (
        Split(images[~test], labels[~test]).resized(resolution),
        Split(images[test], labels[test]).resized(resolution),
    )
