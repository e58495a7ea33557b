"""MobileNet: counts, statistics of known times and answers, and what is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convatlas import atlas, measure
from convatlas.experiments import Budget, State, run
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of, fingerprint
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import state_of
from convatlas.experiments.topics import imagenette_folds, separable
from convatlas.experiments.topics.equal_cost import macs
from convatlas.experiments.topics.separable import (
    FULL_WIDTH,
    NETWORKS,
    RHO_RECIPE,
    SEPARABLE,
    THINNED,
    TOPIC,
    LayerShape,
    Times,
    layer_shapes,
    mobilenet,
    speedup,
)
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.recipe import Recipe
from convatlas.training import Request
from convatlas.training.recipes import SMALL_IMAGES

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


def state(name: str, found: Measurement) -> State:
    statement = STATEMENTS[name]
    p_value = statement.threshold.p_value(found.estimate)
    return state_of(found.estimate, statement.threshold, no_effect=statement.no_effect, p_value=p_value)


# --- what is counted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"), [("cost", 0), ("whole", 4_867_293_184 / 568_740_352), ("multipliers", 0), ("maps", 0)]
)
def test_counted_statements(name: str, value: float, quick: Setting) -> None:
    found = STATEMENTS[name].measure(quick)
    assert found.estimate.center == value
    assert state(name, found) is State.CONFIRMED
    assert STATEMENTS[name].role is Role.COUNT


def test_a_filter_of_another_size_is_noticed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(separable, "KERNEL", 5)
    for name in ("cost", "multipliers"):
        assert state(name, STATEMENTS[name].measure(quick)) is State.CONTRADICTED


def test_maps_that_do_not_shrink_alike_are_noticed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    # 200 px leave 100, 50, 25, 13 and 7: rounded up.
    monkeypatch.setattr(separable, "SIDES", (224, 200))
    found = separable.maps(quick)
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
    assert found.charts[0].series[1].y == pytest.approx((0.2,) * 9)  # type: ignore[union-attr]
    assert found.charts[0].series[0].y[0] == pytest.approx(1 / 64 + 1 / 9)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("factors", "wanted"),
    [
        ((2.5, 3.0, 4.0), State.CONFIRMED),
        ((1.2, 1.5, 1.9), State.SMALLER),
        ((1.5, 2.0, 2.5), State.INCONCLUSIVE),
        ((0.7, 0.8, 0.9), State.CONTRADICTED),
    ],
)
def test_every_process_must_say_that_it_is_faster(factors: tuple[float, ...], wanted: State) -> None:
    assert state("time", speedup([in_process(factor, 0.2) for factor in factors])) is wanted


def test_networks_and_layers_are_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Counter({LayerShape(8, 8, 8, 1): 1, LayerShape(8, 16, 8, 2): 2})
    monkeypatch.setattr(separable, "layer_shapes", lambda spec: few)
    monkeypatch.setattr(separable, "NETWORKS", ("mobilenet",))
    found = separable.times(1)
    assert found.layers.keys() == {(shape, of_full) for shape in few for of_full in (False, True)}
    assert all(0 < time < found.networks["mobilenet"] for time in found.layers.values())


# --- what is asked ---------------------------------------------------------------------------------------------------


def requests(name: str, one: Setting, seed: int = 0) -> dict[str, Request]:
    return {arm: each.request(seed) for arm, each in arms_of(STATEMENTS[name], one).items()}


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


def test_resolutions_are_trained_on_folds_with_one_recipe(standard: Setting) -> None:
    for seed in range(imagenette_folds.NUM_FOLDS):
        found = requests("rho", standard, seed)
        assert [spec_of(each).resolution for each in found.values()] == [96, 128, 160]
        for each in found.values():
            assert each.data == imagenette_folds.fold(standard.folder, seed)
            assert spec_of(each).conv1 == 8
            assert each.recipe == RHO_RECIPE
            assert isinstance(each.recipe, Recipe)
            assert each.recipe.epochs_for(867) == 150
            # Training images, which are smaller, have the paper's stem too.
            assert each.recipe.augmentation.side_for(spec_of(each).resolution) >= spec_of(each).small_below


def test_a_result_on_folds_is_found_again_wherever_it_lies(standard: Setting) -> None:
    rho = STATEMENTS["rho"]
    elsewhere = replace(standard, folder=Path("elsewhere"))
    assert fingerprint(rho, standard) == fingerprint(rho, elsewhere)
    assert fingerprint(rho, standard) != fingerprint(rho, replace(standard, seeds=(0, 1)))


def test_without_images_the_statement_is_left_out_and_says_what_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "data"))
    topic = replace(TOPIC, statements=(STATEMENTS["rho"],))
    result = run(topic, Budget.STANDARD, out=tmp_path / "out")
    assert not result.results
    assert "unpack the folders train and val" in result.missing["rho"]
    assert result.absent == result.missing


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
) -> None:
    trained({arm: known(each) for arm, each in errors.items()})
    found = STATEMENTS[name].measure(standard)
    assert found.estimate.center == pytest.approx(value)
    assert state(name, found) is wanted
    assert not found.failed


def test_the_step_that_gains_least_decides(standard: Setting, trained: Callable[[Mapping[str, Any]], None]) -> None:
    errors = {"alpha 0.125": (30, 30.2, 29.8), "alpha 0.1875": (25, 25.2, 24.8), "alpha 0.25": (23, 23.2, 22.8)}
    arms = {name: known(each, macs) for (name, each), macs in zip(errors.items(), (1.0, 2.0, 4.0), strict=True)}
    trained(arms)
    found = separable.alpha(standard)
    assert found.estimate.center == pytest.approx(2.0)
    assert state("alpha", found) is State.CONFIRMED
    (line,) = found.charts[0].series  # type: ignore[union-attr]
    assert line.x == (1.0, 2.0, 4.0)
    assert line.y == pytest.approx((70.0, 75.0, 77.0))
    trained(arms | {"alpha 0.25": known((27, 27.2, 26.8))})
    assert state("alpha", separable.alpha(standard)) is State.CONTRADICTED


def test_networks_that_have_not_learned_compare_nothing(
    standard: Setting, trained: Callable[[Mapping[str, Any]], None]
) -> None:
    trained({arm: known((50, 51, 52), training_error=60.0) for arm in (SEPARABLE, FULL_WIDTH)})
    assert "training error of 60.0 %" in STATEMENTS["full"].measure(standard).failed


FOLD_SIZES = (440, 430, 430)


def on_folds(wrong: Sequence[int], million_macs: float) -> Any:
    """A network that misreads so many images of each fold."""

    def run_on(size: int, num: int) -> Any:
        predictions = torch.zeros(size, dtype=torch.int64)
        predictions[:num] = 1
        labels = np.zeros(size, np.int64)
        return SimpleNamespace(
            card=SimpleNamespace(macs=round(1e6 * million_macs)),
            record=SimpleNamespace(recipe=SimpleNamespace(epochs=150)),
            test_accuracy=1 - num / size,
            evaluate=lambda: SimpleNamespace(predictions=predictions),
            load_data=lambda: SimpleNamespace(test=SimpleNamespace(labels=labels)),
        )

    runs = tuple(map(run_on, FOLD_SIZES, wrong))
    return SimpleNamespace(runs=runs, chosen=None, training_errors=[50.0] * len(runs))


def test_the_ends_of_the_resolutions_are_compared_over_folds(
    standard: Setting, trained: Callable[[Mapping[str, Any]], None]
) -> None:
    arms = {
        "96 px": on_folds((176, 172, 168), 7.5),
        "128 px": on_folds((400, 400, 400), 13.0),
        "160 px": on_folds((132, 129, 129), 21.0),
    }
    trained(arms)
    found = separable.rho(standard)
    assert found.estimate.values == pytest.approx((10.0, 10.0, 100 * (168 - 129) / 430))
    assert found.estimate.num_images == sum(FOLD_SIZES)
    assert found.estimate.df == pytest.approx(2, abs=2)
    assert state("rho", found) is State.CONFIRMED
    assert found.answers is not None
    assert found.answers.errors("96 px").shape == (1, sum(FOLD_SIZES))
    assert found.answers.errors("160 px").sum() == 132 + 129 + 129
    trained({**arms, "96 px": arms["160 px"], "160 px": arms["96 px"]})
    assert state("rho", separable.rho(standard)) is State.CONTRADICTED
