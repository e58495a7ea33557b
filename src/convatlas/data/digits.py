"""The embedded set: 1,797 handwritten digits of 8x8 pixels, so that the first run needs no network."""

import gzip
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

import numpy as np

from convatlas.data.dataset import Dataset, Split
from convatlas.files import SILENT, ProgressCallback
from convatlas.images import Resize


@dataclass(frozen=True)
class Digits:
    """The test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak 1998, CC BY 4.0)."""

    name: str = "digits"
    native_side: int = 8
    typical_size: tuple[int, int] = (8, 8)
    path: None = None

    def load(
        self, resize: Resize | int, *, seed: int = 0, skip_bad: bool = False, progress: ProgressCallback = SILENT
    ) -> Dataset:
        """1,442 training and 355 test images: of each digit every fifth is for the test, whatever the seed."""
        train, test = splits(Resize.to(resize))
        return Dataset(
            name=self.name,
            classes=tuple("0123456789"),
            train=train,
            test=test,
            native_side=self.native_side,
            is_light_on_dark=True,
        )


@lru_cache(maxsize=2)
def splits(resize: Resize) -> tuple[Split, Split]:
    """For training and for the test; cached, since resizing takes as long as a small network's epoch."""
    packed = (files("convatlas.data") / "embedded" / "digits.csv.gz").read_bytes()
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",", dtype=np.int64)
    # 0 to 16 counts the dots that are set in a cell of 4x4.
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, 64]
    rank = np.empty_like(labels)
    for digit in range(10):
        of_digit = labels == digit
        rank[of_digit] = np.arange(of_digit.sum())
    test = rank % 5 == 4
    return (
        Split(images[~test], labels[~test]).resized(resize),
        Split(images[test], labels[test]).resized(resize),
    )
