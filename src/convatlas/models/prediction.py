"""What a model says of single images. Nothing here loads torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from convatlas.images import ImageInput

NUM_CLASSES = 5


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of one image."""

    path: Path | None
    """The image's file, if it came from one."""
    classes: tuple[str, ...]
    """Up to five, the most probable first."""
    probabilities: tuple[float, ...]
    """Of these classes; those of all classes together are 1."""

    @classmethod
    def of(cls, image: ImageInput, classes: tuple[str, ...], probabilities: npt.NDArray[np.float32]) -> Prediction:
        """The most probable classes of one image, from the probabilities (classes,) of all."""
        # Of equal ones the first, as torch's `argmax`.
        top = np.argsort(-probabilities, kind="stable")[:NUM_CLASSES]
        return cls(
            path=Path(image) if isinstance(image, str | Path) else None,
            classes=tuple(classes[i] for i in top),
            probabilities=tuple(probabilities[top].tolist()),
        )
