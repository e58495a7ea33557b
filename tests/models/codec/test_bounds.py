"""What building a network takes, so that what a file may take can be bounded."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from convatlas.models.codec.records import compact

import convatlas as ca
from convatlas import atlas
from convatlas.compression.low_bits import low_bits_of
from convatlas.errors import UserError
from convatlas.measure.table import build_without_memory, cost_of, layer_calls
from convatlas.models.codec.bounds import (
    MOST_COUNT,
    MOST_OF_A_PIXEL,
    MOST_OUTPUTS,
    MOST_WEIGHTS,
    MOST_WORK,
    OPERATIONS,
    Bounded,
    check_numbers,
    described,
    work,
)
from convatlas.models.codec.bytestream import Damaged
from convatlas.networks.efficientnet import Stage
from convatlas.runs.run import Run

Change = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize("name", [variant.name for variant in atlas.variants()])
def test_no_network_of_the_atlas_takes_more_than_allowed(name: str) -> None:
    variant = atlas.find(name)
    num = len(build_without_memory(variant.network, variant.spec).state_dict())
    bounded = Bounded(10**9, MOST_WEIGHTS, MOST_OF_A_PIXEL * variant.spec.resolution**2)
    with bounded:
        called = layer_calls(build_without_memory(variant.network, variant.spec), variant.spec)
        build_without_memory(variant.network, variant.spec)
    assert 10**9 - bounded.left < OPERATIONS * (num + 1)
    assert sum(work(layer, output) for _, layer, output in called) < MOST_WORK
    assert sum(math.prod(output.shape[1:]) for _, _, output in called) < MOST_OUTPUTS


def test_numbers_beyond_networks_are_refused() -> None:
    check_numbers({"stages": [[1, 2.5], [MOST_COUNT]], "name": "x", "there": None, "is": True})
    for odd in (MOST_COUNT + 1, -1e9, float("nan"), float("inf")):
        with pytest.raises(Damaged, match="beyond what any network has"):
            check_numbers({"stages": [[1, odd]]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda values: values["preprocessing"].update(side=10**9), "no such images"),
        (lambda values: values["preprocessing"].update(side=0), "no such images"),
        (lambda values: values["preprocessing"].update(margin=-3), "preprocessing that no run has"),
        (lambda values: values["preprocessing"].update(margin=500), "mostly margin"),
        (lambda values: values["preprocessing"].update(ink=7.0), "ink spans no part"),
        (lambda values: values["preprocessing"].update(ink=0.01), "ink spans no part"),
        (lambda values: values["preprocessing"].update(deviation=[0.0]), "no such values"),
        (lambda values: values["preprocessing"].update(deviation=[1e300]), "no such values"),
        (lambda values: values["preprocessing"].update(mean=[-1e300]), "no such values"),
        (lambda values: values["preprocessing"].update(mean=[float("nan")]), "preprocessing that no run has"),
        (lambda values: values["preprocessing"].update(resolution=64), "not what its network reads"),
        (lambda values: values.update(results=None), "not finished"),
        (lambda values: values.update(classes=values["classes"][1:]), "more or fewer classes"),
        (lambda values: values.update(classes=[1] * 10), "classes that no run has"),
        (lambda values: values.update(classes="0123456789"), "classes that no run has"),
        (lambda values: values["classes"].__setitem__(3, "\x1b[2J"), "classes that no run has"),
        (lambda values: values["classes"].__setitem__(3, "\ud800"), "classes that no run has"),
        (lambda values: values["classes"].__setitem__(3, "one\ntwo"), "classes that no run has"),
        (lambda values: values.update(seed="x"), "seed that no run has"),
        (lambda values: values.update(seed=True), "seed that no run has"),
        (lambda values: values.update(seed=-1), "seed that no run has"),
        (lambda values: values.update(seed=2**63), "seed that no run has"),
        (lambda values: values.update(data=5), "data that no run has"),
        (lambda values: values.update(width=float("inf")), "width that no run has"),
        (lambda values: values.update(versions={"torch": 2}), "versions that no run has"),
        (lambda values: values["recipe"].update(epochs=1.5), "recipe that no run has"),
        (lambda values: values["recipe"]["augmentation"].update(flip=1), "recipe that no run has"),
        (lambda values: values["execution"].update(threads=None), "execution that no run has"),
        (lambda values: values["spec"].update(c1=6.0), "damaged|spec that no run has"),
        (lambda values: values["results"].update(params=None), "results that no run has"),
        (lambda values: values["results"].update(macs="x"), "results that no run has"),
        (lambda values: values["results"].update(macs=-1), "results that no run has"),
        (lambda values: values["results"].update(test_accuracy=float("nan")), "results that no run has"),
        (lambda values: values["results"].update(test_accuracy=1.5), "no part of the images"),
        (lambda values: values["results"].update(test_interval=[0.5]), "results that no run has"),
        (lambda values: values["results"].update(test_interval=[-0.5, 1]), "no part of the images"),
        (lambda values: values["results"].update(params=60_000), "results are of another network"),
        (lambda values: values["results"].update(macs=1), "results are of another network"),
        (lambda values: values.update(format=99), "newer convatlas"),
        (lambda values: values.update(variant="lenet6"), "no network 'lenet6'"),
        (lambda values: values.pop("spec"), "cannot be built"),
        (lambda values: values["spec"].update(c1=0), "damaged"),
    ],
)
def test_a_record_that_cannot_be_is_refused(change: Change, message: str, finished: Callable[..., Run]) -> None:
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


def test_limits_hold_however_large_a_file_is(finished: Callable[..., Run]) -> None:
    def complaint(name: str, change: Change) -> str:
        values = json.loads(compact(finished(name).record))
        change(values)
        with pytest.raises(Damaged) as told:
            described(json.dumps(values).encode(), 1000, 10**15)
        return str(told.value)

    def of(side: int, **spec: Any) -> Change:
        def change(values: dict[str, Any]) -> None:
            values["spec"] |= {"resolution": side, **spec}
            values["preprocessing"]["resolution"] = side

        return change

    assert "makes more of an image than fits" in complaint("resnet20-cifar", of(8000))
    assert complaint("lenet5", of(28, field=7000, c5=1))
    framed = of(4096, conv1=1, stages=[[1]] * 5)
    assert "images are too large" in complaint(
        "mobilenet", lambda values: (framed(values), values["preprocessing"].update(margin=4096))
    )
    assert "more weights" in complaint("lenet5-modern", of(28, c5=100_000, f6=3_000))
    # Small images, of which many are answered at once.
    assert "makes more of an image than fits" in complaint("vgg11", of(28, stages=[[[1400, 3]]] * 5))
    assert "computes more than any" in complaint("vgg11", of(1024, stages=[[[64, 3]] * 3] * 5))
    assert "makes more of an image than any" in complaint("mobilenet", of(4096, stages=[[4] * 70, [1], [1], [1], [1]]))
    # A window half as large as the map.
    modules = [[[1, 0, 0, 0, 0, 0]], [[1024, 0, 0, 0, 0, 0]], [[1, 0, 0, 0, 0, 0]]]
    found = complaint("googlenet", of(4096, stem=[1, 1, 1], stages=modules, supervised=False, pooled=False, pool4=128))
    assert "computes more than any" in found


@pytest.mark.parametrize("stages", [(), (Stage(3, 1, 4, ((8, 1), (8, 1))),)], ids=["none", "one"])
def test_a_network_that_halves_the_side_nowhere_opens(stages: tuple[Stage, ...], finished: Callable[..., Run]) -> None:
    run = finished("efficientnet-b0")
    spec = replace(run.record.spec, stages=stages)  # type: ignore[call-arg]
    cost = cost_of(run.variant.network, spec)
    results = replace(run.results, params=cost.params, macs=cost.macs)
    num = len(build_without_memory(run.variant.network, spec).state_dict())
    assert described(compact(replace(run.record, spec=spec, results=results)), num, 10**6)[0].spec == spec


def test_whatever_a_network_says_to_a_spec_is_the_files_fault(
    finished: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished("lenet5-modern")

    def failing(*_: object) -> None:
        raise StopIteration

    monkeypatch.setattr("convatlas.measure.cost_of", failing)
    with pytest.raises(UserError, match="is damaged or was not written by convatlas"):
        ca.load(run.folder)
    with pytest.raises(Damaged, match="damaged"):
        described(compact(run.record), 10, 10**6)


def test_few_bits_are_of_the_networks_own_layers(finished: Callable[..., Run]) -> None:
    run = finished("lenet5-modern")
    low_bits = low_bits_of(run.network, 4, {"c1": (0.0, 1.0)})
    num = len(run.network.state_dict()) + len(low_bits)

    def record(*layers: Any) -> bytes:
        return compact(replace(run.record, low_bits=layers))

    described(record(*low_bits), num, 10**6)
    first, *others = low_bits
    for layers in (others, (*low_bits, first), reversed(low_bits)):
        with pytest.raises(Damaged, match="its layers are not those that have few bits"):
            described(record(*layers), num, 10**6)
    for odd in ({"weight": 1}, {"weight": 9}, {"lowest": 0.5}, {"highest": None}):
        with pytest.raises(Damaged, match="bits that none can have"):
            described(record(replace(first, **odd), *others), num, 10**6)  # type: ignore[arg-type]
    with pytest.raises(Damaged, match="low_bits that no run has"):
        described(record(replace(first, weight=4.0), *others), num, 10**6)  # type: ignore[arg-type]
