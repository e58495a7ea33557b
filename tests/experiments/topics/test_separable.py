"""MobileNet: what is trained, and statistics of known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convatlas import atlas
from convatlas.draw import Lines
from convatlas.experiments import Budget, State
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Statement
from convatlas.experiments.topics import separable
from convatlas.experiments.topics.equal_cost import macs
from convatlas.experiments.topics.separable import FULL_WIDTH, SEPARABLE, THINNED, TOPIC
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.training import Request
from convatlas.training.recipes import SMALL_IMAGES

StateReached = Callable[[Statement, Measurement], State]
STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


def setting(folder: Path, budget: Budget) -> Setting:
    return Setting(budget=budget, seeds=(0, 1, 2), folder=folder)


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return setting(tmp_path, Budget.QUICK)


@pytest.fixture
def standard(tmp_path: Path) -> Setting:
    return setting(tmp_path, Budget.STANDARD)


@pytest.fixture
def full(tmp_path: Path) -> Setting:
    return setting(tmp_path, Budget.FULL)


# --- what is asked ---------------------------------------------------------------------------------------------------


def requests(name: str, one: Setting) -> dict[str, Request]:
    return {arm: each.request(0) for arm, each in arms_of(STATEMENTS[name], one).items()}


def spec_of(request: Request) -> MobileNetSpec:
    assert isinstance(request.spec, MobileNetSpec)
    return request.spec


@pytest.mark.parametrize("name", ["full", "equal-macs", "alpha"])
def test_at_standard_networks_are_trained_for_8_epochs_with_the_best_of_several_rates(
    name: str, standard: Setting
) -> None:
    for arm in arms_of(STATEMENTS[name], standard).values():
        assert arm.rates == protocol.RATES
        request = arm.request(2)
        assert (request.data, request.seed, request.recipe) == (protocol.DATA, 2, protocol.recipe(8))
        # The small stem, at the images' own size.
        assert (spec_of(request).resolution, spec_of(request).num_skipped_downsamplings) == (32, 2)


def test_convolutions_are_compared_at_equal_width_and_at_equal_macs(standard: Setting, full: Setting) -> None:
    for one, conv1 in ((standard, 8), (full, 32)):
        wide, thin = requests("full", one), requests("equal-macs", one)
        assert [spec_of(wide[arm]).conv1 for arm in (SEPARABLE, FULL_WIDTH)] == [conv1, conv1]
        assert wide[SEPARABLE] == thin[SEPARABLE]
        assert (thin[THINNED].network, spec_of(thin[THINNED]).separable) == ("mobilenet-conv", False)
        costs = [macs(atlas.find(each.network), spec_of(each)) for each in thin.values()]
        assert max(costs) / min(costs) < 1.02
        assert macs(atlas.find("mobilenet-conv"), spec_of(wide[FULL_WIDTH])) / costs[0] == pytest.approx(8, rel=0.1)


def test_the_widths_of_each_budget(standard: Setting, full: Setting) -> None:
    assert [spec_of(each).conv1 for each in requests("alpha", standard).values()] == [4, 6, 8]
    assert [spec_of(each).conv1 for each in requests("alpha", full).values()] == [8, 16, 24, 32]


@pytest.mark.parametrize("name", ["full", "alpha", "thin", "rho-enlarged"])
def test_full_trains_with_the_default_recipe_on_cifar10_where_the_network_has_its_own_stem(
    name: str, full: Setting
) -> None:
    for arm in arms_of(STATEMENTS[name], full).values():
        assert not arm.rates
        request = arm.request(1)
        assert (request.data, request.seed, request.recipe) == ("cifar10", 1, SMALL_IMAGES)
        assert spec_of(request).num_skipped_downsamplings == 0
        assert name == "rho-enlarged" or spec_of(request).resolution == 64


def test_thin_and_shallow_are_table_5_s_and_wait_for_full(standard: Setting, full: Setting) -> None:
    found = requests("thin", full)
    assert [each.network for each in found.values()] == ["mobilenet", "mobilenet-shallow"]
    assert [spec_of(each).conv1 for each in found.values()] == [24, 32]
    assert [spec_of(each).resolution for each in requests("rho-enlarged", full).values()] == [64, 80, 96]
    for name in ("thin", "rho-enlarged"):
        assert not arms_of(STATEMENTS[name], standard)


# --- statistics of known answers -------------------------------------------------------------------------------------

NUM_IMAGES = 2_000
LABELS = np.zeros(NUM_IMAGES, np.uint8)


def known(percents: Sequence[float], million_macs: float = 1.0, training_error: float = 10.0) -> Any:
    """A trained network with these test errors in percent, one for each seed."""
    predictions = np.zeros((len(percents), NUM_IMAGES), np.uint8)
    for row, percent in zip(predictions, percents, strict=True):
        row[: round(NUM_IMAGES * percent / 100)] = 1
    run = SimpleNamespace(
        card=SimpleNamespace(macs=round(1e6 * million_macs)),
        record=SimpleNamespace(recipe=SimpleNamespace(epochs=8)),
    )
    return SimpleNamespace(
        runs=(run,) * len(percents),
        chosen=None,
        precision="float32",
        predictions=predictions,
        labels=LABELS,
        training_errors=[training_error] * len(percents),
    )


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Any]], None]:
    """Sets what training gives."""

    def given(arms: Mapping[str, Any]) -> None:
        monkeypatch.setattr(Setting, "train_arms", lambda self, asked: {name: arms[name] for name in asked})

    return given


@pytest.mark.parametrize(
    ("name", "errors", "value", "wanted"),
    [
        ("full", {SEPARABLE: (21, 21.2, 20.8), FULL_WIDTH: (20, 20.2, 19.8)}, 1.0, State.CONFIRMED),
        ("full", {SEPARABLE: (28, 28.2, 27.8), FULL_WIDTH: (20, 20.2, 19.8)}, 8.0, State.CONTRADICTED),
        # Better is no loss.
        ("full", {SEPARABLE: (18, 18.2, 17.8), FULL_WIDTH: (20, 20.2, 19.8)}, -2.0, State.CONFIRMED),
        ("equal-macs", {SEPARABLE: (20, 20.2, 19.8), THINNED: (25, 25.2, 24.8)}, 5.0, State.CONFIRMED),
        ("equal-macs", {SEPARABLE: (25, 25.2, 24.8), THINNED: (20, 20.2, 19.8)}, -5.0, State.CONTRADICTED),
    ],
)
def test_comparisons(
    name: str,
    errors: Mapping[str, Sequence[float]],
    value: float,
    wanted: State,
    standard: Setting,
    trained: Callable[[Mapping[str, Any]], None],
    state_reached: StateReached,
) -> None:
    trained({arm: known(each) for arm, each in errors.items()})
    found = STATEMENTS[name].measure(standard)
    assert found.estimate.center == pytest.approx(value)
    assert state_reached(STATEMENTS[name], found) is wanted
    assert not found.failed


def test_the_step_that_gains_least_decides(
    standard: Setting, trained: Callable[[Mapping[str, Any]], None], state_reached: StateReached
) -> None:
    errors = {"alpha 0.125": (30, 30.2, 29.8), "alpha 0.1875": (25, 25.2, 24.8), "alpha 0.25": (23, 23.2, 22.8)}
    arms = {name: known(each, macs) for (name, each), macs in zip(errors.items(), (1.0, 2.0, 4.0), strict=True)}
    trained(arms)
    found = separable.alpha(standard)
    assert found.estimate.center == pytest.approx(2.0)
    assert state_reached(STATEMENTS["alpha"], found) is State.CONFIRMED
    chart = found.charts[0]
    assert isinstance(chart, Lines)
    (line,) = chart.series
    assert line.x == (1.0, 2.0, 4.0)
    assert line.y == pytest.approx((70.0, 75.0, 77.0))
    trained(arms | {"alpha 0.25": known((27, 27.2, 26.8))})
    assert state_reached(STATEMENTS["alpha"], separable.alpha(standard)) is State.CONTRADICTED


def test_networks_that_have_not_learned_compare_nothing(
    standard: Setting, trained: Callable[[Mapping[str, Any]], None]
) -> None:
    trained({arm: known((50, 51, 52), training_error=60.0) for arm in (SEPARABLE, FULL_WIDTH)})
    assert "training error of 60.0 %" in STATEMENTS["full"].measure(standard).failed
