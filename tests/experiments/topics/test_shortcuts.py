"""Why shortcuts help: measurements on two networks after one epoch, statistics of known results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from convatlas import atlas
from convatlas.draw import Lines
from convatlas.experiments import Budget, State
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.ledger import topic_result
from convatlas.experiments.engine.result import StatementResult, arms_of, measure
from convatlas.experiments.topics import degradation, loss_surfaces, shortcuts
from convatlas.experiments.topics.degradation import PLAIN_DEEP, PLAIN_SHALLOW, RESIDUAL_DEEP, RESIDUAL_SHALLOW
from convatlas.experiments.topics.shortcuts import (
    TOPIC,
    Removal,
    answers_of,
    lesions,
    mean_response,
    mean_scale,
    responses_of,
    units_of,
)
from convatlas.networks.resnet import ResidualUnit
from convatlas.runs.run import Run
from convatlas.training import Request

SEEDS = (0, 1, 2)
BLOCKS = 7
"""Of 20 layers, those that keep the shape: 3, 2 and 2."""


def setting(folder: Path, budget: Budget = Budget.STANDARD) -> Setting:
    return Setting(budget=budget, seeds=SEEDS, folder=folder)


# --- measured on networks ---------------------------------------------------------------------------------------------


def test_the_mean_response_leaves_out_the_first_layer(run: Run) -> None:
    norms = [layer for layer in run.network.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in norms[1:]:
        nn.init.constant_(layer.weight, -0.5)
    assert mean_scale(run) == 0.5
    for layer in norms[1:]:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert mean_response(run) == mean_scale(run) == 0
    assert responses_of(run)[0] > 0
    assert len(responses_of(run)) == 19


def test_each_block_that_keeps_the_shape_is_removed_once(run: Run) -> None:
    removed = [
        [isinstance(unit, nn.Identity) for stage in range(3) for unit in units_of(network, stage)]
        for network in lesions(run.network)
    ]
    assert [row.index(True) for row in removed] == [0, 1, 2, 4, 5, 7, 8]
    assert all(row.count(True) == 1 for row in removed)
    assert not any(isinstance(unit, nn.Identity) for unit in units_of(run.network, 0))


@pytest.mark.parametrize(("network", "number"), [("plain20-cifar", 7), ("resnet56-cifar", 25)])
def test_the_number_of_blocks_is_odd(network: str, number: int) -> None:
    assert len(list(lesions(atlas.create(network, width=0.25)))) == number


def test_removing_a_residual_block_with_a_zero_branch_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shortcuts, "NUM_TEST_IMAGES", 40)
    for unit in run.network.modules():
        if isinstance(unit, ResidualUnit):
            last = [layer for layer in unit.layers.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
    test = run.load_data().test
    found = Removal.of(run)
    assert found.labels.tolist() == test.labels[:40].tolist()
    assert found.whole.tolist() == run.evaluate(test.take(np.arange(40))).predictions.tolist()
    assert found.without.tolist() == [found.whole.tolist()] * BLOCKS


# --- the trainings ----------------------------------------------------------------------------------------------------


def test_trainings_are_those_of_the_topic_on_depth(tmp_path: Path) -> None:
    for budget in (Budget.STANDARD, Budget.FULL):
        own = setting(tmp_path, budget)
        wanted = {name: one.request(1) for name, one in degradation.arms(own).items()}
        for statement in TOPIC.statements:
            if statement.is_learned and statement.id != "options":
                assert {name: one.request(1) for name, one in arms_of(statement, own).items()} == wanted


def test_options_are_trained_as_in_the_paper_and_only_at_full(tmp_path: Path) -> None:
    (options,) = (one for one in TOPIC.statements if one.id == "options")
    assert arms_of(options, setting(tmp_path)) == {}
    networks = arms_of(options, setting(tmp_path, Budget.FULL))
    assert [one.request(0).network for one in networks.values()] == [
        "resnet20-cifar", "resnet20-cifar-b", "resnet20-cifar-c",
    ]  # fmt: skip
    for one in networks.values():
        request = one.request(3)
        recipe = atlas.find(request.network).recipe
        assert recipe is not None
        assert request == Request(network=request.network, data="cifar10", recipe=recipe, seed=3)


# --- states for known results -----------------------------------------------------------------------------------------

NUM_IMAGES = 1000


@dataclass(frozen=True)
class Known:
    """A trained network, as far as its results; a run is its name."""

    name: str
    training_error: float = 10.0
    test_error: float = 10.0
    chosen: None = None
    precision: str = "float32"

    @property
    def runs(self) -> tuple[str, ...]:
        return (self.name,) * len(SEEDS)

    @property
    def training_errors(self) -> list[float]:
        return [self.training_error] * len(SEEDS)

    @property
    def labels(self) -> np.ndarray:
        return np.zeros(NUM_IMAGES, np.uint8)

    @property
    def predictions(self) -> np.ndarray:
        # The images on which they err differ, as with other seeds.
        return np.stack([np.roll(predicted(self.test_error), 7 * seed) for seed in SEEDS])


def predicted(error: float) -> np.ndarray:
    """Of class 0, with this error in percent."""
    return (np.arange(NUM_IMAGES) < NUM_IMAGES * error / 100).astype(np.uint8)


def removal_with(whole: float, without: tuple[float, ...]) -> Removal:
    """With these errors in percent."""
    return Removal(np.zeros(NUM_IMAGES, np.uint8), predicted(whole), np.stack([predicted(each) for each in without]))


ALL = (PLAIN_SHALLOW, RESIDUAL_SHALLOW, PLAIN_DEEP, RESIDUAL_DEEP, *shortcuts.OPTIONS)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, Known]:
    """What trainings come to, for a test to change; nothing is trained."""
    found = {name: Known(name) for name in ALL}

    def trained(own: Setting, networks: Mapping[str, Arm]) -> dict[str, Known]:
        return {name: found[name] for name in networks}

    monkeypatch.setattr(Setting, "train_arms", trained)
    for module in (shortcuts, loss_surfaces):
        monkeypatch.setattr(module, "describe", lambda trained: "")
    flat = np.ones((len(loss_surfaces.PLACES),) * 2)
    monkeypatch.setattr(loss_surfaces, "loss_surface", lambda run: flat)
    monkeypatch.setattr(shortcuts, "mean_scale", lambda run: 1.0)
    return found


def measured(name: str, folder: Path, budget: Budget = Budget.STANDARD) -> tuple[StatementResult, State]:
    (statement,) = (one for one in TOPIC.statements if one.id == name)
    result = measure(statement, setting(folder, budget))
    return result, topic_result(TOPIC, budget, len(SEEDS), {name: result}, {}).states[name]


def test_the_median_block_counts_for_each_seed_by_itself() -> None:
    one = removal_with(10.0, (90.0, 12.0, 30.0))
    assert one.errors == pytest.approx([90.0, 12.0, 30.0])
    assert one.median.tolist() == predicted(30.0).tolist()
    answers = answers_of({"net": [one, removal_with(8.0, (20.0, 9.0, 50.0))]})
    assert (100 * answers.errors("net without its median block").mean(1)).tolist() == pytest.approx([30.0, 20.0])
    assert (100 * answers.errors("net").mean(1)).tolist() == pytest.approx([10.0, 8.0])


@pytest.mark.parametrize(
    ("name", "plain", "residual", "center", "state"),
    [
        # Whole, the plain network errs by 20 %, those with shortcuts by 10 %.
        ("removal-residual", 90.0, 13.0, 3.0, State.CONFIRMED),
        ("removal-residual", 90.0, 50.0, 40.0, State.CONTRADICTED),
        ("removal-plain", 85.0, 13.0, 65.0, State.CONFIRMED),
        ("removal-plain", 45.0, 13.0, 25.0, State.SMALLER),
        ("removal", 85.0, 13.0, 62.0, State.CONFIRMED),
        ("removal", 35.0, 13.0, 12.0, State.SMALLER),
        ("removal", 22.0, 30.0, -18.0, State.CONTRADICTED),
    ],
)
def test_removals_are_compared_by_how_much_the_error_rises(
    name: str,
    plain: float,
    residual: float,
    center: float,
    state: State,
    known: dict[str, Known],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {
        PLAIN_SHALLOW: removal_with(20.0, (20.0, plain, 95.0)),
        RESIDUAL_SHALLOW: removal_with(10.0, (10.0, residual, 95.0)),
        RESIDUAL_DEEP: removal_with(10.0, (10.0, residual, 95.0)),
    }
    monkeypatch.setattr(Removal, "of", found.__getitem__)
    result, reached = measured(name, tmp_path)
    assert result.measurement.estimate.center == pytest.approx(center)
    assert result.measurement.estimate.num_images == NUM_IMAGES
    assert reached is state
    assert result.measurement.answers is not None
    chart = result.measurement.charts[0]
    assert isinstance(chart, Lines)
    assert "chance" in dict(chart.marks)


def test_removals_of_a_network_that_has_not_learned_say_nothing(
    known: dict[str, Known], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Removal, "of", lambda run: removal_with(10.0, (10.0, 12.0, 14.0)))
    known[RESIDUAL_DEEP] = replace(known[RESIDUAL_DEEP], training_error=31.0)
    assert measured("removal-residual", tmp_path)[1] is State.INVALID
    assert measured("removal-plain", tmp_path)[1] is not State.INVALID


@pytest.mark.parametrize(
    ("name", "found", "center", "state"),
    [
        ("responses", {PLAIN_SHALLOW: 1.0, RESIDUAL_SHALLOW: 0.5}, 0.5, State.CONFIRMED),
        ("responses", {PLAIN_SHALLOW: 1.0, RESIDUAL_SHALLOW: 1.2}, 1.2, State.CONTRADICTED),
        ("deeper", {RESIDUAL_SHALLOW: 0.5, RESIDUAL_DEEP: 0.25}, 0.5, State.CONFIRMED),
        ("deeper", {RESIDUAL_SHALLOW: 0.5, RESIDUAL_DEEP: 0.6}, 1.2, State.CONTRADICTED),
    ],
)
def test_responses_are_compared_by_their_ratio(
    name: str,
    found: dict[str, float],
    center: float,
    state: State,
    known: dict[str, Known],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shortcuts, "responses_of", lambda run: [100.0, found.get(run, 1.0), found.get(run, 1.0)])
    result, reached = measured(name, tmp_path)
    assert result.measurement.estimate.center == pytest.approx(center)
    assert result.measurement.estimate.is_ratio
    assert reached is state


@pytest.mark.parametrize(("plain", "state"), [(100.0, State.CONFIRMED), (1.0, State.CONTRADICTED)])
def test_gradients_are_compared_by_powers_of_ten(
    plain: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def norms(kind: str, seed: int) -> list[float]:
        # Whether it grows or shrinks, it changes.
        return [plain * (1 + seed / 50) if kind == "plain" else 0.1, 5.0, 1.0]

    monkeypatch.setattr(shortcuts, "initial_gradients", norms)
    result, reached = measured("gradient", tmp_path, Budget.QUICK)
    assert result.measurement.estimate.center == pytest.approx(math.log10(plain) - 1, abs=0.02)
    assert reached is state


@pytest.mark.parametrize(("a", "state"), [(7.0, State.CONFIRMED), (14.0, State.CONTRADICTED)])
def test_options_are_compared_by_their_test_errors(
    a: float, state: State, known: dict[str, Known], tmp_path: Path
) -> None:
    known["option A"] = replace(known["option A"], test_error=a)
    result, reached = measured("options", tmp_path, Budget.FULL)
    assert result.measurement.estimate.center == pytest.approx(a - 10.0)
    assert reached is state
