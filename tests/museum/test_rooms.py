"""What a click on a diagram tells."""

from __future__ import annotations

from typing import Any

import pytest

import convatlas as ca
from convatlas.museum.exhibits import EXHIBITS
from convatlas.museum.rooms import NetworkRoom, room_data


def parts_of(name: str) -> dict[str, Any]:
    parts = room_data(NetworkRoom.of(next(one for one in EXHIBITS if one.name == name)))["parts"]
    assert isinstance(parts, dict)
    return parts


def test_a_layer_has_the_figures_of_the_layer_table() -> None:
    table = ca.measure.layers(ca.create("lenet5"))
    parts = parts_of("lenet5")
    assert list(parts) == [row.name for row in table]
    row = table["c3"]
    assert parts["c3"] == [
        *("ConnectedConv2d", (16, 10, 10), 1516, row.macs, 6400, row.receptive_field, row.stride),
        1,
    ]


@pytest.mark.parametrize(
    ("network", "module", "kind", "shape"),
    [
        # 1409.4842, Table 1; 1602.07360, Table 1; 1512.03385, Table 1.
        ("googlenet", "inception3.a", "Inception", (256, 28, 28)),
        ("googlenet", "inception5.b", "Inception", (1024, 7, 7)),
        ("squeezenet", "stages.0.fire2", "Fire", (128, 55, 55)),
        ("resnet34", "stages.3", "Sequential", (512, 7, 7)),
    ],
)
def test_a_module_gives_what_its_branches_give_together(
    network: str, module: str, kind: str, shape: tuple[int, ...]
) -> None:
    parts = parts_of(network)
    assert parts[module][:2] == [kind, shape]
    table = ca.measure.layers_of(ca.find(network).network, ca.find(network).spec).part(module)
    assert parts[module][2:4] == [table.params, table.macs]
    assert parts[module][7] == len(table)


def test_modules_come_before_what_is_in_them() -> None:
    names = list(parts_of("googlenet"))
    assert names.index("inception3") < names.index("inception3.a") < names.index("inception3.a.one.conv")
