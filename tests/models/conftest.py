"""Models of every family, without the time that training takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from convatlas.models.model import Model
from convatlas.runs.run import Run


@pytest.fixture(scope="session")
def model_of(finished: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """`model_of("vgg11")` is a model folder of that network, pruned and with few values; no test may change it."""
    made: dict[tuple[str, int, bool], Model] = {}

    def model(name: str, seed: int = 0, compressed: bool = True) -> Model:
        key = name, seed, compressed
        if key not in made:
            made[key] = finished(*key).model.save(tmp_path_factory.mktemp("models") / name)
        return made[key]

    return model
