"""A small museum, built once: four networks, of which one has sliders, and a drawing format."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.museum import build, ideas, rooms, site
from convatlas.museum.exhibits import EXHIBITS, Exhibit, StopValues
from convatlas.runs.run import Run

SHOWN = ("lenet5", "vgg16", "mobilenet", "efficientnet-b0")


def exhibit(name: str) -> Exhibit:
    return next(one for one in EXHIBITS if one.name == name)


def without_sliders(one: Exhibit) -> Exhibit:
    """Its paper's own scale alone: stops take time."""
    return replace(one, stops=StopValues(width=(1,), depth=(1,), resolution=(one.variant.spec.resolution,)))


@pytest.fixture(scope="session")
def small() -> Iterator[None]:
    """What is built meanwhile is small."""
    with pytest.MonkeyPatch.context() as patch:
        exhibits = [exhibit(name) for name in SHOWN]
        patch.setattr(site, "EXHIBITS", (exhibits[0], *map(without_sliders, exhibits[1:])))
        patch.setattr(ideas, "DEPTHS", (5, 10))
        patch.delitem(rooms.SUFFIXES, "pdf")
        yield


@pytest.fixture(scope="session")
def museum(small: None, finished: Callable[..., Run], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder, which no test may change."""
    lenet5, lenet1989, modern = (
        finished(name, compressed=False).folder for name in ("lenet5", "lenet1989", "lenet5-modern")
    )
    out = tmp_path_factory.mktemp("museum") / "site"
    return build(out, lenet5=lenet5, lenet1989=lenet1989, lenet5_modern=modern).folder
