"""Finished runs of every family, without the time that training takes."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import convatlas as ca
from convatlas.compression.deep.codebook import share_weights
from convatlas.compression.deep.pruning import LAMP
from convatlas.models.card import Score
from convatlas.models.folder import write_weights
from convatlas.runs.options import Runtime
from convatlas.runs.record import TrainingResults
from convatlas.runs.run import Run
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.distribution import Processes
from convatlas.training.plan import plan

WIDTHS = {
    "lenet5": 1.0, "alexnet": 0.05, "vgg11": 0.05, "googlenet": 0.1, "resnet20-cifar": 0.25, "squeezenet": 0.1,
    "mobilenet": 0.1, "efficientnet-b0": 0.1,
}  # fmt: skip
"""One of each family."""
UNKNOWN = [family.variants[-1].name for family in ca.families() if not {v.name for v in family.variants} & {*WIDTHS}]
"""One of each family that comes in anew, narrow and shallow."""
WIDTHS |= dict.fromkeys(UNKNOWN, 0.5)
DEPTHS = dict.fromkeys(UNKNOWN, 0.2)


def untrained(name: str, folder: Path, seed: int = 0, compressed: bool = True) -> Run:
    """A run folder whose weights are as they begin, and whose results are made up."""
    scale = Scale(width=WIDTHS.get(name, 1.0), depth=DEPTHS.get(name, 1.0), resolution=28)
    request = Request(network=name, scale=scale, runtime=Runtime(autotune=False), seed=seed)
    planned = plan(request, Processes())
    folder.mkdir(parents=True)
    run = Run(folder, planned.card, planned.record)
    torch.manual_seed(seed)
    network = run.variant.network(run.spec)
    if compressed:
        LAMP(0.85).prune(network)
        share_weights(network, 4)
    score = Score(accuracy=0.5, interval=(0.4, 0.6), num_errors=178, num_images=355)
    results = TrainingResults(train_images=1442, skipped_images=0, epochs=1, best_epoch=None, seconds=1.0)
    run.card = replace(planned.card, score=score, weights_sha256=write_weights(folder, network))
    run.record = replace(planned.record, results=results)
    run.write()
    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Run]:
    """`finished("vgg11")` is a run folder of that network, pruned and with few values."""
    made: dict[tuple[str, int, bool], Run] = {}

    def run(name: str, seed: int = 0, compressed: bool = True) -> Run:
        key = name, seed, compressed
        if key not in made:
            made[key] = untrained(name, tmp_path_factory.mktemp("runs") / name, seed, compressed)
        return made[key]

    return run


SLOW = ("googlenet", "efficientnet-b0")
"""Whose many small layers take a while to go through all stages."""


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


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return ca.train("lenet5-modern", epochs=10, scale=Scale(resolution=28), runtime=Runtime(autotune=False), out=folder)
