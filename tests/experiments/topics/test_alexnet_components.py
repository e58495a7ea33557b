"""AlexNet's components: what is trained as data, the choice of rates by speed, and statistics of known results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.draw import Lines
from convatlas.experiments import Budget, Statement
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import State, state_of
from convatlas.experiments.engine.worker_pool import Job, Work, WorkerPool
from convatlas.experiments.topics import alexnet_components
from convatlas.experiments.topics.alexnet_components import (
    FIGURE_1,
    FOUR_LAYERS,
    FULL_RECIPE,
    MAX_EPOCHS,
    RATES,
    RELU,
    STATEMENTS,
    TANH,
    compare_speeds,
    epochs_to_target,
    fastest,
    gap_of,
    lost_without,
    next_rate,
    paper,
    try_rates,
    two_activations,
)
from convatlas.networks.alexnet import AlexNetSpec
from convatlas.recipe import Augmentation
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT


def setting(folder: Path, budget: Budget = Budget.STANDARD) -> Setting:
    return Setting(budget=budget, seeds=(0, 1, 2), folder=folder)


def statement(name: str) -> Statement:
    return next(one for one in STATEMENTS if one.id == name)


def state(one: Statement, found: Measurement) -> State:
    p_value = one.threshold.p_value(found.estimate)
    return state_of(found.estimate, one.threshold, no_effect=one.no_effect, p_value=p_value)


def requests_of(name: str, folder: Path, budget: Budget = Budget.STANDARD) -> dict[str, Request]:
    """What each arm asks for with seed 5."""
    return {arm: each.request(5) for arm, each in arms_of(statement(name), setting(folder, budget)).items()}


# --- what is trained ---------------------------------------------------------------------------------------------


def test_the_four_layers_of_figure_1_differ_in_their_activation_alone(tmp_path: Path) -> None:
    asked = requests_of("relu", tmp_path)
    assert {name: request.network for name, request in asked.items()} == {
        RELU: "alexnet-cifar",
        TANH: "alexnet-cifar-tanh",
    }
    assert replace(asked[TANH], network="alexnet-cifar") == asked[RELU]
    assert asked[RELU].stop_at_error == 0.25
    assert asked[RELU].data == protocol.DATA
    # No regularization of any kind.
    assert asked[RELU].recipe == FIGURE_1
    assert (FIGURE_1.augmentation, FIGURE_1.weight_decay, FIGURE_1.label_smoothing) == (Augmentation(), 0, 0)
    # The rate stays what it is, however long it takes.
    assert {FIGURE_1.lr_at(step, 1000) for step in range(1000)} == {FIGURE_1.lr}
    assert tuple(sorted(RATES)) == RATES


def test_dropout_is_tested_where_networks_overfit(tmp_path: Path) -> None:
    with_it, without_it = requests_of("dropout", tmp_path).values()
    assert isinstance(with_it.spec, AlexNetSpec)
    assert (with_it.spec.dropout, with_it.spec.resolution) == (0.5, 32)
    assert with_it.spec == atlas.find("alexnet").spec.at(Scale(width=0.25, resolution=32))
    assert without_it == replace(with_it, spec=replace(with_it.spec, dropout=0.0))
    assert with_it.data == "cifar10-held-out-10k"
    assert with_it.recipe == replace(protocol.recipe(60), augmentation=Augmentation())


def test_response_normalization_is_tested_with_four_layers(tmp_path: Path) -> None:
    with_it, without_it = requests_of("lrn", tmp_path).values()
    assert (with_it.network, without_it.network) == ("alexnet-cifar-lrn", "alexnet-cifar")
    assert replace(without_it, network=with_it.network) == with_it
    assert with_it.recipe == protocol.recipe(20)


@pytest.mark.parametrize("name", ["dropout", "lrn"])
def test_each_network_chooses_its_rate(name: str, tmp_path: Path) -> None:
    assert all(arm.rates == protocol.RATES for arm in arms_of(statement(name), setting(tmp_path)).values())
    assert not any(arm.rates for arm in arms_of(statement(name), setting(tmp_path, Budget.FULL)).values())


def test_the_full_budget_trains_alexnet_itself(tmp_path: Path) -> None:
    whole = Request(network="alexnet", spec=paper(), data="cifar10", recipe=FULL_RECIPE, seed=5)
    without = {
        "dropout": replace(paper(), dropout=0.0),
        "lrn": replace(paper(), lrn=False),
        "overlapping": replace(paper(), overlapping=False),
    }
    for name, spec in without.items():
        assert list(requests_of(name, tmp_path, Budget.FULL).values()) == [whole, replace(whole, spec=spec)]
    plain = replace(paper(), dropout=0.0, lrn=False)
    assert requests_of("relu", tmp_path, Budget.FULL) == {
        RELU: replace(whole, spec=plain, stop_at_error=0.25),
        TANH: replace(whole, spec=replace(plain, rectified=False), stop_at_error=0.25),
    }
    assert (
        replace(DEFAULT, lr=1e-3, epochs=60, epochs_of=None, batch_size=32, weight_decay=0, label_smoothing=0, ema=0)
        == FULL_RECIPE
    )


def test_the_topic_rests_on_what_the_standard_budget_has_time_for() -> None:
    central = {one.id for one in STATEMENTS if one.role is Role.CENTRAL}
    assert central == {"relu", "dropout"}
    assert {one.id for one in STATEMENTS if one.priority == 4 or one.needs is Budget.FULL} == {"lrn", "overlapping"}


# --- how fast a network learns -----------------------------------------------------------------------------------


def test_epochs_are_counted_until_the_error_crosses_the_target() -> None:
    # The second epoch's error is that of 1.5 epochs, the third's that of 2.5.
    assert epochs_to_target([80.0, 50.0, 0.0]) == pytest.approx(2.0)
    assert epochs_to_target([80.0, 25.0]) == pytest.approx(1.5)
    # Before the first step a network guesses.
    assert epochs_to_target([25.0]) == pytest.approx(0.5)
    assert epochs_to_target([0.0]) == pytest.approx(0.5 * 65 / 90)
    assert epochs_to_target([80.0, 30.0]) is None
    assert epochs_to_target([]) is None


def test_the_fastest_rate_is_chosen_and_the_range_goes_on_beyond_an_end() -> None:
    assert fastest({0.01: 9.0, 0.03: 4.0, 0.1: None}) == 0.03
    assert next_rate({0.01: 9.0, 0.03: 4.0, 0.1: None}) is None
    assert next_rate({0.01: 9.0, 0.03: 4.0, 0.1: 2.0}) == pytest.approx(0.32)
    assert next_rate({0.01: 1.0, 0.03: 4.0, 0.1: None}) == pytest.approx(0.0032)
    assert fastest({0.01: None, 0.03: None}) is None
    assert next_rate({0.01: None, 0.03: None}) is None


def errors_at(rate: float, best: float) -> list[float]:
    """A network that comes to 20 % in the sooner an epoch, the nearer its rate is to the best; far away never."""
    away = max(rate / best, best / rate)
    return [] if away > 15 else [90.0] * round(away) + [20.0]


def test_each_network_tries_the_same_rates_until_one_within_is_fastest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    best = {"alexnet-cifar": 0.03, "alexnet-cifar-tanh": 0.32}
    tried: list[tuple[str, float, int]] = []

    def train(self: Setting, requests: Iterable[Request]) -> list[Request | None]:
        asked = list(requests)
        tried.extend((each.network, each.lr or 0.0, each.seed) for each in asked)
        # Where there is no run, the training diverged.
        return [each if errors_at(each.lr or 0.0, best[each.network]) else None for each in asked]

    monkeypatch.setattr(Setting, "train_if_finite", train)
    monkeypatch.setattr(alexnet_components, "training_errors", lambda each: errors_at(each.lr, best[each.network]))
    found = try_rates(setting(tmp_path), two_activations(setting(tmp_path)), RATES)
    assert {name: fastest(each) for name, each in found.items()} == {RELU: 0.03, TANH: 0.32}
    assert set(found[RELU]) == set(RATES)
    # 0.32 lies beyond the last, and is known to be the best when 1 was slower.
    assert set(found[TANH]) == {*RATES, 0.32, 1.0}
    assert found[TANH][0.003] is None
    assert {seed for _, _, seed in tried} == {0}


TRIED = {0.01: 8.0, 0.03: 4.0, 0.1: None}


@pytest.mark.parametrize(
    ("times_slower", "expected"),
    [(3, State.CONFIRMED), (1.5, State.SMALLER), (0.5, State.CONTRADICTED)],
)
def test_several_times_is_twice_and_more(times_slower: float, expected: State) -> None:
    def curve(seconds: float) -> list[float]:
        """It crosses the target after so many epochs: a line of points at the middles of epochs."""
        middles = [epoch + 0.5 for epoch in range(round(seconds) + 2)]
        errors = [90 - 65 * middle / seconds for middle in middles]
        return errors[: next(i for i, error in enumerate(errors) if error <= 25) + 1]

    relu = [curve(4.0), curve(4.1), curve(3.9)]
    tanh = [curve(4.0 * times_slower), curve(4.05 * times_slower), curve(3.95 * times_slower)]
    found = compare_speeds(FOUR_LAYERS, {RELU: relu, TANH: tanh}, {RELU: TRIED, TANH: TRIED})
    assert found.estimate.center == pytest.approx(times_slower, rel=0.01)
    assert (state(statement("relu"), found), found.failed) == (expected, "")
    assert dict(found.figures)["epochs to 25 %, ReLU"] == "4.00"
    assert dict(found.figures)["epochs at each learning rate, tanh"] == "0.01: 8.0, 0.03: 4.0, 0.1: not"


def test_the_chart_puts_an_epochs_error_at_its_middle() -> None:
    errors = {RELU: [[60.0, 20.0], [50.0, 30.0, 20.0]], TANH: [[70.0, 24.0], [80.0, 22.0]]}
    (chart,) = compare_speeds(FOUR_LAYERS, errors, {RELU: TRIED, TANH: TRIED}).charts
    assert isinstance(chart, Lines)
    relu, tanh = chart.series
    assert chart.subtitle == f"{FOUR_LAYERS}; mean and standard deviation of 2 seeds"
    # As far as both seeds were trained.
    assert (relu.x, relu.y) == ((0.5, 1.5), (55.0, 25.0))
    assert (tanh.name, tanh.y) == (TANH, (75.0, 23.0))


def test_networks_that_do_not_come_to_the_target_say_nothing() -> None:
    reached = [[60.0, 20.0]] * 3
    stayed: list[list[float]] = [[60.0, 20.0], [80.0] * MAX_EPOCHS, [60.0, 20.0]]
    found = compare_speeds(FOUR_LAYERS, {RELU: reached, TANH: stayed}, {RELU: TRIED, TANH: TRIED})
    assert found.failed == "tanh: the training error stays above 25 %"
    found = compare_speeds(FOUR_LAYERS, {RELU: [[], [], []], TANH: reached}, {RELU: {0.01: None}, TANH: TRIED})
    assert found.failed == "ReLU: the training error stays above 25 %"
    assert not found.charts
    found = compare_speeds(FOUR_LAYERS, {RELU: reached, TANH: reached}, {RELU: TRIED, TANH: {0.01: 8.0, 0.03: 4.0}})
    assert "tanh: the fastest learning rate, 0.03, is at the end" in found.failed


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings wait for no process to start: they go on in this one."""

    def run(self: WorkerPool, jobs: Sequence[Job], on_training_end: object, *, work: Work) -> None:
        for request, folder in jobs:
            work(request, folder)

    monkeypatch.setattr(WorkerPool, "run", run)


@pytest.mark.usefixtures("trained_here")
def test_a_training_that_diverges_is_none(tmp_path: Path) -> None:
    # The smallest network; of an infinite rate no weight stays a number.
    request = Request(network="lenet1", epochs=1, batch_size=512, lr=1e-3, runtime=Runtime(autotune=False))
    found = setting(tmp_path).train_if_finite([replace(request, lr=1e30), request])
    assert found[0] is None
    assert found[1] is not None
    assert found[1].record.recipe.lr == 1e-3
    # Of what is finished nothing is trained anew.
    again = setting(tmp_path).train_if_finite([request])[0]
    assert again is not None
    assert again.folder == found[1].folder


# --- what a component gains --------------------------------------------------------------------------------------


def test_a_gain_is_the_rise_of_the_error_without_the_component(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = {}

    def compare(trained: object, weights: dict[str, float], max_training_error: float) -> str:
        compared.update(weights)
        return "compared"

    monkeypatch.setattr(Setting, "train_arms", lambda self, arms: arms)
    monkeypatch.setattr(alexnet_components, "compare", compare)
    for name in ("lrn", "overlapping"):
        compared.clear()
        one = statement(name)
        budget = one.needs
        assert one.measure(setting(tmp_path, budget)) == "compared"
        with_it, without_it = arms_of(one, setting(tmp_path, budget))
        assert compared == {without_it: 1.0, with_it: -1.0}
    assert lost_without("dropout") == dict(zip(reversed(requests_of("dropout", tmp_path)), (1.0, -1.0), strict=True))


@pytest.mark.usefixtures("trained_here")
def test_the_gap_is_what_the_test_error_lies_above_the_training_error(tmp_path: Path) -> None:
    request = Request(network="lenet1", epochs=1, batch_size=512, runtime=Runtime(autotune=False))
    run = setting(tmp_path).train(request)
    on_training, on_test = (run.evaluate(split) for split in (run.load_data().train, run.load_data().test))
    training_error = 100 * on_training.num_errors / on_training.num_images
    test_error = 100 * on_test.num_errors / on_test.num_images
    assert gap_of(run) == pytest.approx(test_error - training_error)
