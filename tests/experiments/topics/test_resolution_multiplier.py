"""The resolution multiplier: what is trained on folds, and statistics of known answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from convatlas.experiments import Budget, State, run
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import fingerprint
from convatlas.experiments.engine.statement import Measurement, Statement
from convatlas.experiments.topics import imagenette_folds
from convatlas.experiments.topics.resolution_multiplier import RHO_RECIPE, resolutions, rho
from convatlas.experiments.topics.separable import TOPIC
from convatlas.networks.mobilenet import MobileNetSpec
from convatlas.recipe import Recipe

StateReached = Callable[[Statement, Measurement], State]
STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def standard(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.STANDARD, seeds=(0, 1, 2), folder=tmp_path)


# --- what is asked ---------------------------------------------------------------------------------------------------


def test_resolutions_are_trained_on_folds_with_one_recipe(standard: Setting) -> None:
    for seed in range(imagenette_folds.NUM_FOLDS):
        requests = [arm.request(seed) for arm in resolutions(standard).values()]
        specs = [each.spec for each in requests if isinstance(each.spec, MobileNetSpec)]
        assert [spec.resolution for spec in specs] == [96, 128, 160]
        for each, spec in zip(requests, specs, strict=True):
            assert each.data == imagenette_folds.fold(standard.folder, seed)
            assert spec.conv1 == 8
            assert each.recipe == RHO_RECIPE
            assert isinstance(each.recipe, Recipe)
            assert each.recipe.epochs_for(867) == 150
            # Training images, which are smaller, have the paper's stem too.
            assert each.recipe.augmentation.side_for(spec.resolution) >= spec.small_below


def test_a_result_on_folds_is_found_again_wherever_it_lies(standard: Setting) -> None:
    statement = STATEMENTS["rho"]
    elsewhere = replace(standard, folder=Path("elsewhere"))
    assert fingerprint(statement, standard) == fingerprint(statement, elsewhere)
    assert fingerprint(statement, standard) != fingerprint(statement, replace(standard, seeds=(0, 1)))


def test_without_images_the_statement_is_left_out_and_says_what_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVATLAS_DATA", str(tmp_path / "data"))
    topic = replace(TOPIC, statements=(STATEMENTS["rho"],))
    result = run(topic, Budget.STANDARD, out=tmp_path / "out")
    assert not result.results
    assert "curl -L https://" in result.missing["rho"]
    assert result.absent == result.missing


# --- statistics of known answers -------------------------------------------------------------------------------------

FOLD_SIZES = (440, 430, 430)


def on_folds(wrong: Sequence[int], million_macs: float) -> Any:
    """A network that misreads so many images of each fold."""

    def run_on(size: int, num: int) -> Any:
        predictions = torch.zeros(size, dtype=torch.int64)
        predictions[:num] = 1
        labels = np.zeros(size, np.int64)
        return SimpleNamespace(
            card=SimpleNamespace(
                macs=round(1e6 * million_macs), provenance=SimpleNamespace(data_checksum=f"of {size} images")
            ),
            record=SimpleNamespace(recipe=SimpleNamespace(epochs=150)),
            test_accuracy=1 - num / size,
            evaluate=lambda: SimpleNamespace(predictions=predictions),
            load_data=lambda: SimpleNamespace(test=SimpleNamespace(labels=labels)),
        )

    runs = tuple(map(run_on, FOLD_SIZES, wrong))
    return SimpleNamespace(runs=runs, chosen=None, training_errors=[50.0] * len(runs))


def test_the_ends_of_the_resolutions_are_compared_over_folds(
    standard: Setting, monkeypatch: pytest.MonkeyPatch, state_reached: StateReached
) -> None:
    arms = {
        "96 px": on_folds((176, 172, 168), 7.5),
        "128 px": on_folds((400, 400, 400), 13.0),
        "160 px": on_folds((132, 129, 129), 21.0),
    }
    monkeypatch.setattr(Setting, "train_arms", lambda self, asked: arms)
    found = rho(standard)
    assert found.estimate.values == pytest.approx((10.0, 10.0, 100 * (168 - 129) / 430))
    # Each fold's own; both ends have the same, so that folds are compared within themselves.
    assert found.estimate.num_images == sum(FOLD_SIZES) // 3
    assert found.estimate.standard_error == pytest.approx(np.std(found.estimate.values, ddof=1) / 3**0.5)
    assert found.estimate.df == 2
    assert state_reached(STATEMENTS["rho"], found) is State.CONFIRMED
    assert ("checksum of the images, fold 0", "of 440 images") in found.figures
    assert found.answers is not None
    assert found.answers.errors("96 px").shape == (1, sum(FOLD_SIZES))
    assert found.answers.errors("160 px").sum() == 132 + 129 + 129
    swapped = {**arms, "96 px": arms["160 px"], "160 px": arms["96 px"]}
    monkeypatch.setattr(Setting, "train_arms", lambda self, asked: swapped)
    assert state_reached(STATEMENTS["rho"], rho(standard)) is State.CONTRADICTED
