"""MobileNet: counts, and statistics of known times and results."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas, measure
from convatlas.experiments import Budget, Verdict
from convatlas.experiments.engine.accuracy import accuracy_of
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.topics import separable
from convatlas.experiments.topics.separable import (
    TOPIC,
    Configuration,
    LayerShape,
    TrainedConfiguration,
    correlation,
    layer_shapes,
    time_over_macs,
)
from convatlas.networks.mobilenet import MobileNetSpec

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0, 1), folder=tmp_path)


@pytest.mark.parametrize(("name", "value"), [("cost", 0), ("whole", 4_867_293_184 / 568_740_352), ("multipliers", 0)])
def test_counted_statements(name: str, value: float, quick: Setting) -> None:
    result = run_statement(STATEMENTS[name], quick)
    assert result.verdict is Verdict.REPRODUCED
    assert result.measurement is not None
    assert result.measurement.values == (value,)


def test_a_filter_of_another_size_is_noticed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separable, "KERNEL", 5)
    for name in ("cost", "multipliers"):
        assert run_statement(STATEMENTS[name], quick).verdict is Verdict.NOT_REPRODUCED


# --- time --------------------------------------------------------------------------------------------------------


@pytest.fixture
def spec() -> MobileNetSpec:
    spec = atlas.find("mobilenet").spec
    assert isinstance(spec, MobileNetSpec)
    return spec


@pytest.mark.parametrize(("name", "full"), [("mobilenet", False), ("mobilenet-conv", True)])
def test_layer_shapes_are_those_of_the_network(name: str, full: bool, spec: MobileNetSpec) -> None:
    found = layer_shapes(spec)
    assert found.total() == 13
    assert found[LayerShape(512, 512, 14, 1)] == 5
    counted = measure.layers_of(atlas.find(name).network, spec if not full else replace(spec, separable=False))
    assert sum(number * shape.macs(full=full) for shape, number in found.items()) == counted.part("stages").macs


SHAPES = Counter({LayerShape(9, 9, 8, 1): 1, LayerShape(18, 18, 8, 2): 3})


@pytest.mark.parametrize("slower", [1.0, 3.0])
def test_times_in_proportion_to_macs_give_their_factor(slower: float) -> None:
    macs, full = ({shape: float(shape.macs(full=full)) for shape in SHAPES} for full in (False, True))
    found = time_over_macs(
        SHAPES,
        {shape: (slower * macs[shape], 2 * slower * macs[shape]) for shape in SHAPES},
        {shape: (full[shape], 2 * full[shape]) for shape in SHAPES},
    )
    assert found.values == pytest.approx((slower, slower))
    first = next(iter(SHAPES))
    assert found.charts[0].series[1].y[0] == pytest.approx(slower * macs[first] / full[first])  # type: ignore[union-attr]


def test_the_ratio_is_the_network_s_and_not_the_mean_of_its_layers() -> None:
    rare, often = SHAPES
    found = time_over_macs(SHAPES, {rare: (1.0,), often: (5.0,)}, {rare: (10.0,), often: (10.0,)})
    counted = (rare.macs(full=False) + 3 * often.macs(full=False)) / (rare.macs(full=True) + 3 * often.macs(full=True))
    assert found.values == pytest.approx(((1 + 3 * 5) / (4 * 10) / counted,))


def test_layers_are_timed(quick: Setting, spec: MobileNetSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    few = Counter({LayerShape(8, 8, 8, 1): 1, LayerShape(8, 16, 8, 2): 2})
    monkeypatch.setattr(separable, "layer_shapes", lambda spec: few)
    found = separable.time(quick)
    assert len(found.values) == separable.REPEATS
    assert all(value > 0 for value in found.values)


# --- what is trained ---------------------------------------------------------------------------------------------


def test_accuracy_that_rises_with_the_logarithm_of_macs_correlates() -> None:
    assert correlation([0.0, 1.0, 2.0], [90.0, 92.0, 94.0]) == pytest.approx(1)
    assert correlation([0.0, 1.0, 2.0], [94.0, 92.0, 90.0]) == pytest.approx(-1)
    assert correlation([0.0, 1.0, 2.0], [91.0, 91.0, 91.0]) == 0


ACCURACIES = {
    Configuration("mobilenet-conv"): (99.0, 98.0),
    Configuration("mobilenet-shallow"): (92.0, 90.0),
    Configuration(alpha=0.25): (80.0, 79.0),
    Configuration(alpha=0.5): (90.0, 89.0),
    Configuration(alpha=0.75): (95.0, 94.0),
    Configuration(): (98.0, 97.0),
    Configuration(alpha=0.5, side=80): (91.0, 90.0),
    Configuration(alpha=0.5, side=96): (93.0, 92.0),
}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("full", (1.0, 1.0)),
        ("thin", (3.0, 4.0)),
        ("alpha", (0.97, 0.97)),
        ("rho", (0.96, 0.96)),
    ],
)
def test_statistics_of_known_accuracies(
    name: str, values: tuple[float, ...], quick: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(setting: Setting, configurations: list[Configuration]) -> dict[Configuration, TrainedConfiguration]:
        # MACs as alpha and the side have them, about.
        return {
            configuration: TrainedConfiguration(
                configuration.alpha**2 * configuration.side**2, ACCURACIES[configuration], 100.0
            )
            for configuration in configurations
        }

    monkeypatch.setattr(separable, "trained", trained)
    result = run_statement(STATEMENTS[name], quick)
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx(values, abs=0.03)
    assert result.verdict is Verdict.REPRODUCED


def test_separable_layers_that_are_better_lose_nothing(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        Configuration("mobilenet-conv"): TrainedConfiguration(8.0, (97.0, 95.0), 99.0),
        Configuration(): TrainedConfiguration(1.0, (98.0, 97.0), 99.0),
    }
    monkeypatch.setattr(separable, "trained", lambda setting, configurations: given)
    assert run_statement(STATEMENTS["full"], quick).verdict is Verdict.REPRODUCED
    given[Configuration()] = TrainedConfiguration(1.0, (94.0, 92.0), 99.0)
    assert run_statement(STATEMENTS["full"], quick).verdict is Verdict.NOT_REPRODUCED


def test_thin_is_inconclusive_where_less_is_left_to_gain_than_the_threshold(
    quick: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        Configuration(alpha=0.75): TrainedConfiguration(1.9, (98.0, 98.5), 99.0),
        Configuration("mobilenet-shallow"): TrainedConfiguration(1.8, (99.0,) * 2, 99),
    }
    monkeypatch.setattr(separable, "trained", lambda setting, configurations: given)
    # One point is left, which would be enough.
    assert run_statement(STATEMENTS["thin"], quick).verdict is Verdict.NOT_REPRODUCED
    given[Configuration("mobilenet-shallow")] = TrainedConfiguration(1.8, (99.1, 99.0), 99.0)
    result = run_statement(STATEMENTS["thin"], quick)
    assert result.verdict is Verdict.NOT_TESTABLE
    assert "leaves 0.95 points to gain, fewer than the threshold of 1" in result.reason
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx((-1.1, -0.5))


def test_the_full_budget_trains_the_paper_s_widths(quick: Setting) -> None:
    request = Configuration(alpha=0.75).request(replace(quick, budget=Budget.FULL), 3)
    assert (request.network, request.data, request.scale.width, request.seed) == ("mobilenet", "cifar10", 0.75, 3)
    assert (request.epochs, request.lr) == (None, None)
    assert Configuration(alpha=0.75).request(quick, 3).scale.width == 0.75 * separable.QUICK_WIDTH


@pytest.mark.usefixtures("trained_briefly")
def test_a_configuration_is_trained_with_every_seed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separable, "QUICK_WIDTH", 1 / 16)
    monkeypatch.setattr(separable, "EPOCHS", 1)
    configuration = Configuration("mobilenet-shallow", side=33)
    (each,) = separable.trained(quick, [configuration]).values()
    assert len(each.test) == 2
    assert 0 < min(each.test) <= max(each.test) <= 100
    assert each.test == tuple(
        accuracy_of(quick.train(configuration.request(quick, seed)).score) for seed in quick.seeds
    )
    assert 0 < each.training <= 100
    assert len(list(quick.folder.iterdir())) == 2
