"""Depth and training error: the networks as data, statistics of known errors, curves of one short training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from convatlas import atlas
from convatlas.draw import Lines
from convatlas.experiments import Budget, State
from convatlas.experiments.engine.arms import Arm, TrainedArm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.ledger import topic_result
from convatlas.experiments.engine.rates import trial_request
from convatlas.experiments.engine.result import StatementResult, arms_of, measure
from convatlas.experiments.topics import degradation
from convatlas.experiments.topics.degradation import (
    DEEP,
    DEPTHS,
    LONG_EPOCHS,
    PLAIN,
    RESIDUAL,
    TOPIC,
    arm,
    arms,
    by_depth,
    curves,
    describe,
    growth,
    initial_gradients,
    name_of,
    published,
    rank_correlation,
)
from convatlas.networks.resnet import ResNetSpec, Shortcut
from convatlas.recipe import Optimizer
from convatlas.runs.options import Runtime
from convatlas.runs.run import read_metrics
from convatlas.spec import Scale
from convatlas.training import Request

SEEDS = (0, 1, 2)


def setting(folder: Path, budget: Budget = Budget.STANDARD) -> Setting:
    return Setting(budget=budget, seeds=SEEDS, folder=folder)


# --- the networks -----------------------------------------------------------------------------------------------------


def test_networks_of_a_depth_differ_in_their_shortcuts_alone() -> None:
    for depth in DEPTHS:
        plain, residual = (atlas.find(f"{kind}{depth}-cifar").spec for kind in ("plain", "resnet"))
        assert isinstance(plain, ResNetSpec)
        assert isinstance(residual, ResNetSpec)
        assert (plain.shortcut, residual.shortcut) == (Shortcut.NONE, Shortcut.A)
        assert replace(plain, shortcut=Shortcut.A) == residual
        assert sum(len(unit) for stage in plain.stages for unit in stage) + 2 == depth


def test_standard_has_the_paper_s_widths_and_optimizer_and_a_rate_for_each_network(tmp_path: Path) -> None:
    networks = arms(setting(tmp_path))
    assert list(networks) == ["plain-20", "ResNet-20", "plain-56", "ResNet-56"]
    for name, one in networks.items():
        request = one.request(2)
        assert request.network == f"{name.lower().replace('-', '')}-cifar"
        assert (request.data, request.epochs, request.seed) == ("cifar10-held-out", 10, 2)
        assert (request.spec, request.scale, request.lr) == (None, Scale(), None)
        assert request.recipe == atlas.find(request.network).recipe
        assert not isinstance(request.recipe, str)
        assert request.recipe.optimizer is Optimizer.SGD
        assert one.rates == (0.03, 0.095, 0.3)


def test_a_longer_training_has_the_same_rate(tmp_path: Path) -> None:
    short, long = (arm("plain56-cifar", setting(tmp_path), epochs) for epochs in (10, LONG_EPOCHS))
    assert long.request(0) == replace(short.request(0), epochs=20)
    assert trial_request(short.request(0), 0.1) == trial_request(long.request(0), 0.1)


@pytest.mark.parametrize("statement", [one for one in TOPIC.statements if one.is_learned], ids=lambda one: one.id)
def test_full_is_the_paper_s_own_training_at_four_depths(statement: object, tmp_path: Path) -> None:
    (own,) = (one for one in TOPIC.statements if one is statement)
    networks = arms_of(own, setting(tmp_path, Budget.FULL))
    assert len(networks) == 8
    recipe = atlas.find("plain56-cifar").recipe
    assert recipe is not None
    assert networks["plain-56"].request(1) == Request(network="plain56-cifar", data="cifar10", recipe=recipe, seed=1)
    assert all(one.rates == () for one in networks.values())


def test_all_statements_share_their_trainings(tmp_path: Path) -> None:
    standard = setting(tmp_path)
    asked = [
        [one.request(0) for one in arms_of(statement, standard).values()]
        for statement in TOPIC.statements
        if statement.id in ("plain", "residual", "test")
    ]
    assert asked[0] == asked[1] == asked[2]
    assert not any(arms_of(statement, standard) for statement in TOPIC.statements if statement.id == "order")


# --- statistics of known errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errors", "correlation"),
    [
        ((1.0, 2.0, 3.0, 90.0), 1.0),
        ((9.0, 8.0, 7.0, 6.0), -1.0),
        # One neighboring pair the wrong way round: 1 - 6 * 2 / (4 * 15).
        ((1.0, 3.0, 2.0, 4.0), 0.8),
        # Two that are equal share the rank 3.5.
        ((1.0, 2.0, 3.0, 3.0), 0.9**0.5),
        ((5.0, 5.0, 5.0, 5.0), 0.0),
    ],
)
def test_ranks_of_errors_against_depth(errors: tuple[float, ...], correlation: float) -> None:
    assert rank_correlation(errors) == round(correlation, 9)


@dataclass(frozen=True)
class Known:
    """A trained network, as far as its results: 1,000 images of class 0, of which it gets the first ones wrong."""

    training_errors: list[float]
    test_errors: tuple[float, ...] = (9.0, 9.5, 10.0)
    chosen: None = None
    precision: str = "float32"

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        return np.zeros(1000, np.uint8)

    @property
    def predictions(self) -> npt.NDArray[np.uint8]:
        return np.stack([np.arange(1000) < 10 * error for error in self.test_errors]).astype(np.uint8)


def around(center: float) -> list[float]:
    """One for each seed."""
    return [center - 0.1, center, center + 0.1]


def measured(
    name: str, known: Mapping[str, Known], folder: Path, monkeypatch: pytest.MonkeyPatch, budget: Budget
) -> tuple[StatementResult, State]:
    """A statement where its networks come to this; nothing is trained."""

    def trained(own: Setting, networks: Mapping[str, Arm]) -> dict[str, Known]:
        if any(one.request(0).epochs == LONG_EPOCHS for one in networks.values()):
            assert own.seeds == (0,)
            return {"plain-20": Known([15.0]), "plain-56": Known([17.5])}
        return {one: known[one] for one in networks}

    monkeypatch.setattr(Setting, "train_arms", trained)
    monkeypatch.setattr(degradation, "describe", lambda trained: "")
    monkeypatch.setattr(degradation, "curves", by_depth)
    (statement,) = (one for one in TOPIC.statements if one.id == name)
    own = setting(folder, budget)
    result = measure(statement, own)
    return result, topic_result(TOPIC, budget, len(SEEDS), {name: result}, {}).states[name]


def networks_with(plain: float, residual: float) -> dict[str, Known]:
    """With these training errors at 56 layers, and 20 % at 20."""
    return {
        "plain-20": Known(around(20.0)),
        "plain-56": Known(around(plain)),
        "ResNet-20": Known(around(20.0)),
        "ResNet-56": Known(around(residual)),
    }


@pytest.mark.parametrize(
    ("name", "plain", "residual", "center", "state"),
    [
        ("plain", 26.0, 50.0, 6.0, State.CONFIRMED),
        ("plain", 20.6, 50.0, 0.6, State.SMALLER),
        ("plain", 20.1, 50.0, 0.1, State.INCONCLUSIVE),
        ("plain", 14.0, 50.0, -6.0, State.CONTRADICTED),
        ("residual", 50.0, 18.0, -2.0, State.CONFIRMED),
        ("residual", 50.0, 21.0, 1.0, State.CONTRADICTED),
    ],
)
def test_a_rise_is_that_of_the_training_error(
    name: str,
    plain: float,
    residual: float,
    center: float,
    state: State,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = networks_with(plain, residual)
    result, found = measured(name, known, tmp_path, monkeypatch, Budget.STANDARD)
    assert result.measurement.estimate.center == pytest.approx(center)
    assert found is state


def test_one_longer_training_is_told_without_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = networks_with(26.0, 18.0)
    result, _ = measured("plain", known, tmp_path, monkeypatch, Budget.STANDARD)
    assert "difference is 2.5 points; with 10 epochs it is 6.0" in result.measurement.note
    assert ("training error, plain-56, 20 epochs, seed 0", "17.5 %") in result.measurement.figures
    at_full, _ = measured(
        "plain", known | {name_of(kind, depth): Known(around(20)) for kind in (PLAIN, RESIDUAL) for depth in (32, 44)},
        tmp_path, monkeypatch, Budget.FULL,
    )  # fmt: skip
    assert at_full.measurement.note == ""
    assert at_full.measurement.estimate.center == pytest.approx(6.0)


def test_networks_that_have_not_learned_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = networks_with(50.0, 18.0) | {"plain-20": Known(around(30.5))}
    result, state = measured("plain", known, tmp_path, monkeypatch, Budget.STANDARD)
    assert state is State.INVALID
    assert "30.5 %" in result.measurement.failed
    # Those of the other kind have.
    assert measured("residual", known, tmp_path, monkeypatch, Budget.STANDARD)[1] is State.CONFIRMED


@pytest.mark.parametrize(
    ("plain", "state"), [(25.0, State.CONFIRMED), (11.0, State.SMALLER), (7.0, State.CONTRADICTED)]
)
def test_the_deepest_networks_are_compared_on_test_images(
    plain: float, state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = networks_with(26.0, 18.0)
    known["plain-56"] = replace(known["plain-56"], test_errors=(plain, plain + 0.1, plain - 0.1))
    result, found = measured("test", known, tmp_path, monkeypatch, Budget.STANDARD)
    assert result.measurement.estimate.center == pytest.approx(plain - 9.5)
    assert result.measurement.estimate.num_images == 1000
    assert found is state
    (chart,) = result.measurement.charts
    assert isinstance(chart, Lines)
    assert [one.x for one in chart.series] == [(20.0, 56.0)] * 2
    assert result.measurement.answers is not None


@pytest.mark.parametrize(("errors", "state"), [((2, 4, 6, 8), State.CONFIRMED), ((8, 6, 4, 2), State.CONTRADICTED)])
def test_the_order_is_that_of_the_plain_networks(
    errors: tuple[float, ...], state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {name_of(RESIDUAL, depth): Known(around(50)) for depth in DEPTHS}
    known |= {name_of(PLAIN, depth): Known(around(error)) for depth, error in zip(DEPTHS, errors, strict=True)}
    assert measured("order", known, tmp_path, monkeypatch, Budget.FULL)[1] is state


def test_the_paper_s_errors_are_those_of_its_table() -> None:
    assert published(RESIDUAL, DEEP) == ("paper, ResNet-56, Table 6", 6.97)
    assert published(RESIDUAL, 20)[1] == 8.75


# --- measured on networks ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("few_digits")
def test_curves_and_subtitles_are_those_of_the_runs(tmp_path: Path) -> None:
    request = Request(
        network="resnet20-cifar", data="digits", scale=Scale(width=0.25), epochs=1, runtime=Runtime(autotune=False)
    )
    run = setting(tmp_path).train(request)
    found = {"plain-20": TrainedArm((run,), None), "ResNet-20": TrainedArm((run,), None)}
    (_, (plain,)), (words, (residual,)) = curves(found).panels
    assert (words, plain.name, residual.name, residual.x) == ("with shortcuts", "20 layers", "20 layers", (1.0,))
    (row,) = read_metrics(run)
    assert list(residual.y) == pytest.approx([100 * (1 - row["accuracy"])])
    assert describe(found) == curves(found).subtitle == "digits, 1 epoch, 1 seed"
    assert by_depth(found).series[1].y == residual.y


def test_gradients_before_training_are_those_of_every_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degradation, "DEEP", 20)
    monkeypatch.setattr(degradation, "IMAGES", 32)
    norms = initial_gradients(PLAIN, 0)
    assert len(norms) == 19
    assert initial_gradients(PLAIN, 0) == norms
    assert initial_gradients(PLAIN, 1) != norms
    # Batch normalization multiplies by about 1.2 a layer; shortcuts, by less.
    assert growth(norms) > growth(initial_gradients(RESIDUAL, 0)) > 0
    assert growth([1000.0, 50.0, 10.0]) == pytest.approx(2)


@pytest.mark.parametrize(("norms", "state"), [([5.0, 1.0], State.CONFIRMED), ([1e-9, 1.0], State.CONTRADICTED)])
def test_a_gradient_that_vanishes_would_be_noticed(
    norms: list[float], state: State, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degradation, "initial_gradients", lambda kind, seed: [norms[0] * (1 + seed / 100), norms[1]])
    assert measured("gradient", {}, tmp_path, monkeypatch, Budget.QUICK)[1] is state
