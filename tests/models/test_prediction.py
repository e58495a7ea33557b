"""What a prediction keeps of the probabilities, and of where its image came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from convatlas.models.prediction import NUM_CLASSES, Prediction


@given(st.lists(st.integers(0, 100), min_size=1, max_size=12, unique=True))
def test_the_most_probable_classes_come_first(weights: list[int]) -> None:
    classes = tuple(f"class {i}" for i in range(len(weights)))
    probabilities = np.array(weights, np.float32) / max(sum(weights), 1)
    prediction = Prediction.of(Image.new("L", (3, 3)), classes, probabilities)
    order = sorted(range(len(weights)), key=lambda i: -weights[i])[:NUM_CLASSES]
    assert prediction.classes == tuple(classes[i] for i in order)
    assert prediction.probabilities == tuple(probabilities[order].tolist())


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("a/b.png", Path("a/b.png")),
        (Path("b.png"), Path("b.png")),
        (Image.new("L", (3, 3)), None),
        (np.zeros((3, 3), np.uint8), None),
    ],
    ids=["text", "path", "image", "array"],
)
def test_a_prediction_names_the_file_of_its_image(image: Any, path: Path | None) -> None:
    assert Prediction.of(image, ("cat", "dog"), np.array([0.25, 0.75], np.float32)).path == path
