"""Learning rates: the best one is chosen, and a range whose end wins goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.errors import UserError
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.rates import (
    EPOCHS,
    MAX_EXTENSIONS,
    TRIAL,
    ChosenRate,
    beyond,
    rates_from,
    read_accuracy,
    run_trial,
    trial_request,
)
from convatlas.runs.options import Runtime, Validation
from convatlas.spec import Scale
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT


def test_rates_are_1_3_and_10_times_the_base() -> None:
    assert rates_from(1e-3) == (1e-3, 3.2e-3, 1e-2)
    assert beyond(1e-3, -1) == pytest.approx(3.2e-4)


@given(accuracies=st.dictionaries(st.floats(1e-5, 1), st.floats(0, 1), min_size=1))
def test_the_best_rate_is_chosen_and_of_equal_ones_the_lowest(accuracies: dict[float, float]) -> None:
    chosen = ChosenRate.of(accuracies)
    best = max(accuracies.values())
    assert chosen.rate == min(rate for rate, accuracy in accuracies.items() if accuracy == best)
    ends = {min(accuracies), max(accuracies)}
    assert (chosen.beyond is None) == (chosen.rate not in ends)


def test_a_range_goes_on_where_its_end_wins() -> None:
    assert ChosenRate.of({0.1: 0.5, 0.32: 0.6, 1.0: 0.7}).beyond == 3.2
    assert ChosenRate.of({0.1: 0.8, 0.32: 0.6, 1.0: 0.7}).beyond == 0.032
    chosen = ChosenRate.of({1.0: 0.5, 0.1: 0.8})
    assert str(chosen) == "0.1 (validation accuracy after 2 epochs with 0.1: 80.0 %, 1: 50.0 %)"


def small(seed: int, lr: float = 0.01) -> Request:
    return Request(
        network="lenet5-modern",
        scale=Scale(width=0.25),
        recipe=DEFAULT,
        epochs=1,
        batch_size=4,
        lr=lr,
        seed=seed,
        runtime=Runtime(autotune=False),
    )


def test_a_trial_is_short_and_held_out() -> None:
    trial = trial_request(small(0), 0.3)
    assert (trial.lr, trial.epochs, trial.validation) == (0.3, EPOCHS, Validation())


@pytest.mark.slow
@pytest.mark.usefixtures("trained_briefly")
def test_each_network_gets_the_rate_that_is_best_for_it(tmp_path: Path) -> None:
    setting = Setting(budget=Budget.STANDARD, seeds=(0,), folder=tmp_path)
    # The range lies too low, so that its upper end wins; the other network is given its rate.
    arms = {"low": Arm(request=small, rates=(1e-5, 3.2e-3)), "given": Arm(request=small)}
    trained = setting.train_arms(arms)
    chosen = trained["low"].chosen
    assert chosen is not None
    assert len(chosen.trials) <= 2 + MAX_EXTENSIONS
    assert chosen.rate > 1e-3
    assert [run.record.recipe.lr for run in trained["low"].runs] == [chosen.rate]
    assert trained["given"].chosen is None
    assert [run.record.recipe.lr for run in trained["given"].runs] == [0.01]
    # What was tried is not tried again.
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob(TRIAL)}
    assert len(before) == len(chosen.trials)
    assert setting.choose_rates(arms)["low"] == chosen
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob(TRIAL)}


@pytest.mark.usefixtures("trained_briefly")
def test_a_rate_that_diverges_has_no_accuracy(tmp_path: Path) -> None:
    run_trial(trial_request(small(0), 1e30), tmp_path / "trial")
    assert read_accuracy(tmp_path / "trial") == 0.0


def test_a_damaged_trial_is_one_line(tmp_path: Path) -> None:
    for content in ("", json.dumps({"format": 1}), json.dumps({"format": 1, "accuracy": "high"})):
        (tmp_path / TRIAL).write_text(content)
        with pytest.raises(UserError, match="is damaged"):
            read_accuracy(tmp_path)
