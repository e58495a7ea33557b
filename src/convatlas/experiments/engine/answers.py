"""Every test image's prediction by every network of a comparison, kept with the result.

With them an interval can be computed again, or by another method, without training anything.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from convatlas.experiments.engine.arms import TrainedArm
from convatlas.experiments.engine.estimate import Errors

MAX_BYTES = 2**28
"""Of all predictions of a result: a thousand networks on a whole test set of ImageNet."""

Classes = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Answers:
    """Predicted classes, and the true ones."""

    labels: Classes
    """(images,)"""
    predictions: Mapping[str, Classes]
    """Of each network in words: (seeds, images)."""

    @classmethod
    def of(cls, trained: Mapping[str, TrainedArm]) -> Self:
        """Those of trained networks with the same test images."""
        first, *others = trained.values()
        assert all((arm.labels == first.labels).all() for arm in others), "they are tested on the same images"
        return cls(first.labels, {name: arm.predictions for name, arm in trained.items()})

    def errors(self, name: str) -> Errors:
        """(seeds, images): whether that network's prediction is wrong."""
        return np.not_equal(self.predictions[name], self.labels)

    def rise(self, name: str, reference: str) -> Errors:
        """(seeds, images): 1 where a network that is made of the reference is wrong and that is not, -1 the other way.

        Both are of the same training, so their difference varies with the seed much less than each of them. In an
        interval it has to stand as one figure of each seed, not as two networks'.
        """
        return np.subtract(self.errors(name), self.errors(reference), dtype=np.float64)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Answers) or self.predictions.keys() != other.predictions.keys():
            return NotImplemented if not isinstance(other, Answers) else False
        return np.array_equal(self.labels, other.labels) and all(
            np.array_equal(each, other.predictions[name]) for name, each in self.predictions.items()
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values: zlib and base64 of bytes, one a prediction."""
        return {
            "num_images": len(self.labels),
            "labels": packed(self.labels),
            "predictions": {name: packed(each) for name, each in self.predictions.items()},
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """
        Raises:
            ValueError: they are damaged.
        """
        num_images = values["num_images"]
        labels = unpacked(values["labels"])
        predictions = {name: unpacked(each) for name, each in values["predictions"].items()}
        if len(labels) != num_images or any(not len(each) or len(each) % num_images for each in predictions.values()):
            raise ValueError("the predictions are not those of the images")
        return cls(labels, {name: each.reshape(-1, num_images) for name, each in predictions.items()})


def packed(classes: Classes) -> str:
    return base64.b64encode(zlib.compress(classes.tobytes(), 9)).decode()


def unpacked(text: str) -> Classes:
    decompressor = zlib.decompressobj()
    try:
        content = decompressor.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"the predictions are damaged ({error})") from error
    if not decompressor.eof:
        raise ValueError("the predictions are cut off or too many")
    return np.frombuffer(content, np.uint8)
