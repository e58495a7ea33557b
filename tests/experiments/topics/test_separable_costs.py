"""What MobileNet costs: counts, and statistics of known times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas import atlas, measure
from convatlas.draw import Bars, Lines
from convatlas.experiments import Budget, State
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.statement import Measurement, Role, Statement
from convatlas.experiments.topics import separable_costs
from convatlas.experiments.topics.separable import TOPIC
from convatlas.experiments.topics.separable_costs import NETWORKS, LayerShape, Times, layer_shapes, mobilenet, speedup

StateReached = Callable[[Statement, Measurement], State]
STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0, 1, 2), folder=tmp_path)


# --- what is counted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("cost", 0), ("whole", 4_867_293_184 / 568_740_352), ("multipliers", 0), ("maps", 0)]
)
def test_counted_statements(name: str, value: float, quick: Setting, state_reached: StateReached) -> None:
    found = STATEMENTS[name].measure(quick)
    assert found.estimate.center == value
    assert state_reached(STATEMENTS[name], found) is State.CONFIRMED
    assert STATEMENTS[name].role is Role.COUNT


def test_a_filter_of_another_size_is_noticed(
    quick: Setting, monkeypatch: pytest.MonkeyPatch, state_reached: StateReached
) -> None:
    monkeypatch.setattr(separable_costs, "KERNEL", 5)
    for name in ("cost", "multipliers"):
        assert state_reached(STATEMENTS[name], STATEMENTS[name].measure(quick)) is State.CONTRADICTED


def test_maps_that_do_not_shrink_alike_are_noticed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 px leave 100, 50, 25, 13 and 7: rounded up.
    monkeypatch.setattr(separable_costs, "SIDES", (224, 200))
    found = separable_costs.maps(quick)
    assert found.estimate.center == pytest.approx(7 - 200 / 32)
    assert ("sides of the maps at 200 px", "100, 50, 25, 13, 7") in found.figures


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "of_full"), [("mobilenet", False), ("mobilenet-conv", True)])
def test_layer_shapes_are_those_of_the_network(name: str, of_full: bool) -> None:
    found = layer_shapes(mobilenet())
    assert found.total() == 13
    assert found[LayerShape(512, 512, 14, 1)] == 5
    counted = measure.layers_of(atlas.find(name).network, atlas.find(name).spec)
    assert sum(number * shape.macs(full=of_full) for shape, number in found.items()) == counted.part("stages").macs


def in_process(faster: float, share: float) -> Times:
    """What a process measures where the network is so many times faster, and each layer takes that share of time."""
    layers = {
        (shape, of_full): 1.0 if of_full else share for shape in layer_shapes(mobilenet()) for of_full in (False, True)
    }
    return Times(dict(zip(NETWORKS, (0.1, 0.1 * faster), strict=True)), layers, "engine")


def test_the_network_is_as_much_faster_as_in_the_median_of_processes() -> None:
    found = speedup([in_process(3.0, 0.5), in_process(4.0, 0.1), in_process(9.0, 0.2)])
    assert found.estimate.values == pytest.approx((3.0, 4.0, 9.0))
    assert found.estimate.center == pytest.approx(4.0)
    chart = found.charts[0]
    assert isinstance(chart, Bars | Lines)
    assert chart.series[1].y == pytest.approx((0.2,) * 9)
    assert chart.series[0].y[0] == pytest.approx(1 / 64 + 1 / 9)


@pytest.mark.parametrize(
    ("factors", "wanted"),
    [
        ((2.5, 3.0, 4.0), State.CONFIRMED),
        ((1.2, 1.5, 1.9), State.SMALLER),
        ((1.5, 2.0, 2.5), State.INCONCLUSIVE),
        ((0.7, 0.8, 0.9), State.CONTRADICTED),
    ],
)
def test_every_process_must_say_that_it_is_faster(
    factors: tuple[float, ...], wanted: State, state_reached: StateReached
) -> None:
    assert state_reached(STATEMENTS["time"], speedup([in_process(factor, 0.2) for factor in factors])) is wanted


def test_networks_and_layers_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Counter({LayerShape(8, 8, 8, 1): 1, LayerShape(8, 16, 8, 2): 2})
    monkeypatch.setattr(separable_costs, "layer_shapes", lambda spec: few)
    monkeypatch.setattr(separable_costs, "NETWORKS", ("mobilenet",))
    found = separable_costs.times(1)
    assert found.layers.keys() == {(shape, of_full) for shape in few for of_full in (False, True)}
    assert all(0 < time < found.networks["mobilenet"] for time in found.layers.values())
