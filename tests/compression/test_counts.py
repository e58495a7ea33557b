"""Which numbers of a spec count which layers' channels, found without a word of the family."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import pytest
from torch import Tensor, nn

from convatlas import atlas
from convatlas.compression.counts import (
    Place,
    all_output_channels,
    counted_layers,
    output_channels,
    with_changes,
    with_numbers,
)
from convatlas.measure.table import build_without_memory
from convatlas.spec import Spec

UNCOUNTED = ("lenet1", "lenet4")
"""Whose tables say which maps are read, and which have no fully connected layer but the last."""


def test_numbers_are_the_output_channels_of_the_layers_that_they_count(structure_name: str) -> None:
    variant = atlas.find(structure_name)
    counted = counted_layers(variant.network, variant.spec)
    assert bool(counted) == (structure_name not in UNCOUNTED)
    channels = all_output_channels(build_without_memory(variant.network, variant.spec))
    numbers: dict[Place, int] = {}
    with_numbers(variant.spec, lambda place, number: numbers.setdefault(place, number))
    assert {layer: channels[layer] for layer in counted} == {layer: numbers[counted[layer]] for layer in counted}
    assert with_changes(variant.spec, {}) == variant.spec
    # Each number by itself is another spec.
    every = sorted(set(counted.values()))
    places = every[:: len(every) // 50 + 1]
    assert len({with_changes(variant.spec, {place: 1}) for place in places}) == len(places)


@pytest.mark.parametrize(
    ("name", "layer", "place"),
    [
        ("lenet5-modern", "c1", ("c1",)),
        ("lenet-300-100", "hidden.1", ("hidden", 1)),
        ("alexnet", "conv5.0.conv", ("convolutions", 4)),
        ("vgg11", "stages.2.1.conv", ("stages", 2, 1, 0)),
        ("googlenet", "inception3.b.five.reduce.conv", ("stages", 0, 1, 3)),
        ("googlenet", "auxiliary_4a.conv.conv", ("auxiliary", 0)),
        ("googlenet", "auxiliary_4d.conv.conv", ("auxiliary", 0)),
        ("resnet50", "stages.1.0.layers.2.conv", ("stages", 1, 0, 2)),
        ("resnet50", "stages.1.0.shortcut.conv", ("stages", 1, 0, 2)),
        ("squeezenet", "stages.1.fire5.expand3x3.conv", ("stages", 1, 0, 2)),
        ("mobilenet", "stages.1.0.pointwise.conv", ("stages", 1, 0)),
        ("mobilenet", "stages.1.1.depthwise.conv", ("stages", 1, 0)),
        # Blocks that do not expand their input are as wide as it.
        ("efficientnet-b0", "stages.0.0.depthwise.conv", ("stages", 0, 3, 0, 0)),
        ("efficientnet-b0", "stages.2.1.project.conv", ("stages", 2, 2)),
    ],
)
def test_every_family_is_read_alike(name: str, layer: str, place: Place) -> None:
    variant = atlas.find(name)
    assert counted_layers(variant.network, variant.spec)[layer] == place


class Kind(IntEnum):
    PLAIN = 3


class Pair(NamedTuple):
    first: int
    second: int


@dataclass(frozen=True, kw_only=True)
class ChainSpec(Spec):
    pair: Pair
    more: tuple[tuple[int, ...], ...] = ((5,), (7, 8))
    slope: float = 2.0
    wide: bool = True
    kind: Kind = Kind.PLAIN
    nothing: int | None = None
    name: str = "chain"

    def scaled(self, width: float = 1.0, depth: float = 1.0, resolution: int | None = None) -> ChainSpec:
        return self


class Chain(nn.Module):
    def __init__(self, spec: ChainSpec) -> None:
        super().__init__()
        self.spec = spec
        first, second = spec.pair
        self.first = nn.Conv2d(spec.in_channels, first, 3)
        self.twice = nn.Conv2d(first, 2 * first, 3)
        self.second = nn.Conv2d(2 * first, second, 3)
        self.fc = nn.Linear(second, spec.more[1][0])
        self.classes = nn.Linear(spec.more[1][0], spec.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.twice(self.first(x))).mean((2, 3))
        outputs: Tensor = self.classes(self.fc(x))
        return outputs


def test_numbers_keep_their_place_until_something_is_computed_from_them() -> None:
    assert counted_layers(Chain, ChainSpec(pair=Pair(4, 6))) == {
        "first": ("pair", 0),
        "second": ("pair", 1),
        "fc": ("more", 1, 0),
    }


def test_only_whole_numbers_of_the_familys_own_change() -> None:
    spec = ChainSpec(num_classes=9, pair=Pair(4, 6))
    changed = with_numbers(spec, lambda place, number: 10 * number)
    assert changed == replace(spec, pair=Pair(40, 60), more=((50,), (70, 80)))
    assert isinstance(changed.pair, Pair)
    assert with_changes(spec, {("more", 1, 1): -3, ("pair", 0): 1}) == replace(
        spec, pair=Pair(5, 6), more=((5,), (7, 5))
    )


def test_only_convolutions_and_fully_connected_layers_have_output_channels() -> None:
    assert output_channels(nn.Conv2d(2, 3, 1)) == output_channels(nn.Linear(2, 3)) == 3
    assert output_channels(nn.BatchNorm2d(3)) is None
