"""What the sliders say is what the package counts."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from convatlas import atlas, measure
from convatlas.museum.exhibits import EXHIBITS, Exhibit, StopValues
from convatlas.museum.stops import run_lengths, script, stop, stop_data

FEW, MANY = 3, 200


def exhibit(name: str) -> Exhibit:
    return next(one for one in EXHIBITS if one.name == name)


def lengths(text: str) -> list[int]:
    """As the page reads them."""
    runs = ([int(part) for part in run.split("*")] for run in text.split())
    return [value for value, *times in runs for _ in range(times[0] if times else 1)]


def check(one: Exhibit, data: dict[str, Any], place: tuple[int, int, int]) -> None:
    """Fail if a stop's figures are not those of the network that the atlas builds at its scale."""
    width, depth, resolution = (data[name][i] for name, i in zip(("width", "depth", "resolution"), place, strict=True))
    told = data["figures"][(place[0] * len(data["depth"]) + place[1]) * len(data["resolution"]) + place[2]]
    variant = one.variant
    spec = atlas.scale(variant, width=width, depth=depth, resolution=resolution)
    table = measure.layers_of(variant.network, spec)
    assert told[:4] == [table.params, table.macs, table.peak_activation_bytes, table.depth], (one.name, place)
    shapes = [row.output_shape for row in table if row.macs]
    assert lengths(data["channels"][told[4]]) == [shape[0] for shape in shapes]
    assert lengths(data["sides"][told[5]]) == [shape[1] if len(shape) > 1 else 1 for shape in shapes]
    assert lengths(data["connected"][told[6]]) == [int(len(shape) == 1) for shape in shapes]


def data_of(one: Exhibit) -> dict[str, Any]:
    """What the page loads."""
    text = script("STOPS", stop_data(one)).decode()
    values: dict[str, Any] = json.loads(text.removeprefix("var STOPS = ").removesuffix(";\n"))
    return values


def check_some(names: tuple[str, ...], number: int) -> None:
    loaded = {name: data_of(exhibit(name)) for name in names}
    chance = random.Random(0)
    for _ in range(number):
        one = exhibit(chance.choice(names))
        data = loaded[one.name]
        sizes = [len(data[axis]) for axis in ("width", "depth", "resolution")]
        check(one, data, (chance.randrange(sizes[0]), chance.randrange(sizes[1]), chance.randrange(sizes[2])))


def test_some_stops_are_what_the_atlas_builds() -> None:
    check_some(("lenet5", "vgg16"), FEW)


@pytest.mark.slow
def test_two_hundred_stops_are_what_the_atlas_builds() -> None:
    check_some(tuple(one.name for one in EXHIBITS), MANY)


def test_the_sliders_begin_at_the_papers_own_network() -> None:
    data = data_of(exhibit("lenet5"))
    check(exhibit("lenet5"), data, tuple(data["own"]))
    assert data["figures"][(data["own"][0] * 3 + data["own"][1]) * 4 + data["own"][2]][0] == 60_000


@pytest.mark.parametrize("one", EXHIBITS, ids=lambda one: one.name)
def test_there_are_few_stops_and_the_papers_own_is_one(one: Exhibit) -> None:
    values = one.stops
    assert len(values.width) <= 7
    assert len(values.depth) <= 5
    assert len(values.resolution) <= 7
    assert all(list(axis) == sorted(set(axis)) for axis in (values.width, values.depth, values.resolution))
    assert 1 in values.width
    assert 1 in values.depth
    assert one.variant.spec.resolution in values.resolution


def test_the_multipliers_that_papers_print_are_stops() -> None:
    mobilenet = exhibit("mobilenet").stops
    assert {0.25, 0.5, 0.75, 1} <= set(mobilenet.width)
    assert {128, 160, 192, 224} <= set(mobilenet.resolution)
    released = {(1, 1, 224), (1.1, 1.2, 260), (1.2, 1.4, 300), (1.4, 1.8, 380), (2, 3.1, 600)}
    b0 = exhibit("efficientnet-b0").stops
    assert all(w in b0.width and d in b0.depth and r in b0.resolution for w, d, r in released)


def test_a_stop_without_a_network_says_why() -> None:
    assert "too small" in stop(exhibit("vgg16"), 1, 1, 8).why
    assert stop(exhibit("vgg16"), 1, 1, 8).summary is None
    values = StopValues(width=(1,), depth=(1,), resolution=(8, 224))
    figures = stop_data(Exhibit(**{**vars(exhibit("vgg16")), "stops": values}))["figures"]
    assert isinstance(figures, list)
    assert "too small" in figures[0]


def test_runs_are_read_as_they_were_written() -> None:
    assert run_lengths([64, 64, 128]) == "64*2 128"
    assert lengths(run_lengths([64, 64, 128])) == [64, 64, 128]
