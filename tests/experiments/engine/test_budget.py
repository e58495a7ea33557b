"""Trainings that statements share."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from convatlas.errors import UserError
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.runs.options import Runtime
from convatlas.spec import Scale
from convatlas.training import Request

pytestmark = pytest.mark.usefixtures("trained_briefly")

QUICKLY = Runtime(autotune=False)


def test_a_larger_budget_allows_what_a_smaller_one_does() -> None:
    quick, standard, full = Budget
    assert [budget.allows(standard) for budget in Budget] == [False, True, True]
    assert quick.allows(quick)
    assert not standard.allows(full)


def test_each_network_is_trained_with_each_seed(tmp_path: Path) -> None:
    setting = Setting(budget=Budget.STANDARD, seeds=(3, 4), folder=tmp_path)

    def request(network: str, seed: int) -> Request:
        return Request(network=network, scale=Scale(width=0.25), epochs=1, seed=seed, runtime=QUICKLY)

    names = ("lenet1", "lenet5-modern")
    trained = setting.train_arms({name: Arm(request=partial(request, name)) for name in names})
    assert [[run.record.seed for run in arm.runs] for arm in trained.values()] == [[3, 4], [3, 4]]
    for name, arm in trained.items():
        assert {run.variant.name for run in arm.runs} == {name}
        wrong = (arm.predictions != arm.labels).mean(1)
        assert wrong.tolist() == pytest.approx([1 - run.test_accuracy for run in arm.runs])
        assert all(0 <= error <= 100 for error in arm.training_errors)


def test_the_same_training_is_done_once(tmp_path: Path) -> None:
    ended: list[str] = []
    setting = Setting(
        budget=Budget.QUICK, seeds=(0,), folder=tmp_path, on_training_end=lambda: ended.append("a training")
    )
    request = Request(network="lenet1", epochs=1, runtime=QUICKLY)
    first = setting.train(request)
    written = (first.folder / "weights.safetensors").stat().st_mtime_ns
    again = setting.train(Request(network="lenet1", epochs=1, runtime=QUICKLY))
    assert again.folder == first.folder
    assert (again.folder / "weights.safetensors").stat().st_mtime_ns == written
    setting.train_all([request])
    assert ended == ["a training"]
    assert setting.train(replace(request, seed=1)).folder != first.folder


def test_a_run_that_was_removed_is_trained_again(tmp_path: Path) -> None:
    setting = Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)
    request = Request(network="lenet1", epochs=1, runtime=QUICKLY)
    first = setting.train(request)
    accuracy = first.test_accuracy
    shutil.rmtree(first.folder)
    again = setting.train(request)
    assert again.folder == first.folder
    assert again.evaluate().accuracy == pytest.approx(accuracy)


def test_a_run_that_is_not_what_is_asked_for_today_is_not_taken(tmp_path: Path) -> None:
    setting = Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)
    request = Request(network="lenet1", epochs=1, runtime=QUICKLY)
    run = setting.train(request)
    replace(run, record=replace(run.record, recipe=replace(run.record.recipe, batch_size=7))).write()
    # A recipe by name may be another one by now; nothing that was asked for differs.
    assert setting.train(request).record.recipe.batch_size == 7
    replace(run, record=replace(run.record, seed=1)).write()
    for again in (lambda: setting.train(request), lambda: setting.train_all([request])):
        with pytest.raises(UserError, match=f"{run.folder} holds a run whose seed differs .* move that folder away"):
            again()
