"""What building a network takes, so that what a file may take can be bounded."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from convatlas import atlas
from convatlas.compression.deep.bounds import MOST_COUNT, OPERATIONS, Bounded, check_numbers, described
from convatlas.compression.deep.bytestream import Damaged
from convatlas.compression.deep.records import compact
from convatlas.measure.table import cost_of, weightless
from convatlas.runs import Run


@pytest.mark.parametrize("name", [variant.name for variant in atlas.variants()])
def test_no_network_of_the_atlas_takes_more_operations_than_allowed(name: str) -> None:
    variant = atlas.find(name)
    num = len(weightless(variant.network, variant.spec).state_dict())
    bounded = Bounded(10**9, 10**12)
    with bounded:
        cost_of(variant.network, variant.spec)
        weightless(variant.network, variant.spec)
    assert 10**9 - bounded.left < OPERATIONS * (num + 1)


def test_numbers_beyond_networks_are_refused() -> None:
    check_numbers({"stages": [[1, 2.5], [MOST_COUNT]], "name": "x", "there": None, "is": True})
    for odd in (MOST_COUNT + 1, -1e9, float("nan"), float("inf")):
        with pytest.raises(Damaged, match="beyond what any network has"):
            check_numbers({"stages": [[1, odd]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values["preprocessing"].update(side=10**9), "pictures have no such size"),
        (lambda values: values["preprocessing"].update(margin=-3), "pictures have no such size"),
        (lambda values: values["preprocessing"].update(margin=500), "mostly margin"),
        (lambda values: values["preprocessing"].update(ink=7.0), "ink spans no part"),
        (lambda values: values["preprocessing"].update(deviation=[0.0]), "not what its network reads"),
        (lambda values: values["preprocessing"].update(mean=[float("nan")]), "no numbers"),
        (lambda values: values["preprocessing"].update(resolution=64), "not what its network reads"),
        (lambda values: values.update(results=None), "not finished"),
        (lambda values: values.update(classes=values["classes"][1:]), "more or fewer classes"),
        (lambda values: values.update(classes=[1] * 10), "classes have no names"),
        (lambda values: values.update(classes="0123456789"), "classes have no names"),
        (lambda values: values.update(format=99), "newer convatlas"),
        (lambda values: values.update(variant="lenet6"), "no network 'lenet6'"),
        (lambda values: values.pop("spec"), "cannot be built"),
        (lambda values: values["spec"].update(c1=0), "damaged"),
    ],
)
def test_a_record_that_cannot_be_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, finished: Callable[..., Run]
) -> None:
    run = finished("lenet5-modern")
    values = json.loads(compact(run.record))
    num = len(run.network.state_dict())
    described(json.dumps(values).encode(), num, 10**6)
    change(values)
    with pytest.raises(Damaged, match=message):
        described(json.dumps(values).encode(), num, 10**6)


def test_a_network_must_fit_its_file(finished: Callable[..., Run]) -> None:
    run = finished("lenet5-modern")
    record, num = compact(run.record), len(run.network.state_dict())
    with pytest.raises(Damaged, match="has 11 tensors and its network 10"):
        described(record, num + 1, 10**6)
    with pytest.raises(Damaged, match="more weights than the file has room for"):
        described(record, num, 60_000)
