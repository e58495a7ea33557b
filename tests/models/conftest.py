"""Models of every family, without the time that training takes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.models.card import Score
from convatlas.models.model import Model
from convatlas.models.network import build
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan

WIDTHS = {
    "lenet5": 1.0, "alexnet": 0.05, "vgg11": 0.05, "googlenet": 0.1, "resnet20-cifar": 0.25, "squeezenet": 0.1,
    "mobilenet": 0.1, "efficientnet-b0": 0.1,
}  # fmt: skip
"""One of each family."""
SCORE = Score(accuracy=0.5, interval=(0.4, 0.6), num_errors=178, num_images=355)


def untrained(name: str, folder: Path, seed: int = 0, compressed: bool = True) -> Model:
    """A model folder with initial weights and an invented score."""
    request = Request(
        network=name,
        scale=Scale(width=WIDTHS.get(name, 1.0), resolution=28),
        runtime=Runtime(autotune=False),
        seed=seed,
    )
    card = replace(plan(request, Processes()).card, score=SCORE)
    torch.manual_seed(seed)
    network = build(card).eval()
    if compressed:
        LAMP(0.85).prune(network)
        share_weights(network, 4)
    return Model(card, load_network=lambda: network).save(folder)


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Model]:
    """`model_of("vgg11")` is a model folder of that network, pruned and with few values; no test may change it."""
    made: dict[tuple[str, int, bool], Model] = {}

    def model(name: str, seed: int = 0, compressed: bool = True) -> Model:
        key = name, seed, compressed
        if key not in made:
            made[key] = untrained(name, tmp_path_factory.mktemp("models") / name, seed, compressed)
        return made[key]

    return model


SLOW = ("googlenet", "efficientnet-b0")
"""They have many small layers, which take a while."""


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in WIDTHS])
def family(request: pytest.FixtureRequest) -> str:
    """A network of each family in turn."""
    return str(request.param)


@pytest.fixture
def no_range_coder(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, the library of the range coder is not installed."""
    imported: Callable[..., Any] = builtins.__import__

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name == "constriction":
            raise ImportError(name)
        return imported(name, *rest, **more)

    return lambda: monkeypatch.setattr(builtins, "__import__", importing)
