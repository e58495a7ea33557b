"""LeNet's zip codes: shifted images, networks of equal size, and figures from known errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from convatlas import atlas, measure
from convatlas.data import Split
from convatlas.experiments import Budget
from convatlas.experiments.engine.answers import Answers
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import Basis
from convatlas.experiments.topics import zip_codes
from convatlas.experiments.topics.zip_codes import (
    CONVOLUTIONAL,
    FULLY_CONNECTED,
    NUM_PASSES,
    SIDE,
    TOPIC,
    both_networks,
    equal_size,
    mean_errors,
    shifted_split,
)
from convatlas.recipe import Augmentation, Optimizer, Recipe

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def standard(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.STANDARD, seeds=(0, 1, 2, 3, 4), folder=tmp_path)


def test_a_shift_moves_every_pixel_and_background_moves_in() -> None:
    numbers = np.random.default_rng(0).integers(1, 256, (1, 1, SIDE, SIDE), np.uint8)
    split = Split(numbers, np.zeros(1, np.int64))
    image = split.images[:][0, 0]
    right = shifted_split(split, 3, 0).images[:][0, 0]
    assert (right[:, 3:] == image[:, :-3]).all()
    assert not right[:, :3].any()
    up = shifted_split(split, 0, -2).images[:][0, 0]
    assert (up[:-2] == image[2:]).all()
    assert not up[-2:].any()
    assert (shifted_split(split, 0, 0).images[:] == split.images[:]).all()


def test_both_networks_are_of_equal_size_within_one_hidden_unit() -> None:
    convolutional = atlas.find("lenet1989")
    wanted = measure.cost_of(convolutional.network, convolutional.spec).params
    found = measure.cost_of(atlas.find("lenet-300").network, equal_size()).params
    assert wanted == 9760
    assert 0 <= wanted - found < SIDE**2 + 1 + 10


def test_both_networks_are_trained_alike_and_see_no_shifts(standard: Setting) -> None:
    arms = both_networks(standard)
    assert arms[CONVOLUTIONAL].rates == arms[FULLY_CONNECTED].rates
    ours, theirs = (arms[name].request(3) for name in (CONVOLUTIONAL, FULLY_CONNECTED))
    assert ours.recipe == theirs.recipe
    assert isinstance(ours.recipe, Recipe)
    assert ours.recipe.augmentation == Augmentation()
    assert ours.spec is not None
    assert theirs.spec is not None
    assert ours.spec.resolution == theirs.spec.resolution == SIDE
    assert atlas.find(ours.network).objective == atlas.find(theirs.network).objective
    assert (ours.data, ours.seed, theirs.seed) == ("usps", 3, 3)


def test_the_network_of_1989_is_trained_as_its_paper_did(standard: Setting) -> None:
    arms = STATEMENTS["usps-1989"].arms
    assert arms is not None
    recipe = arms(standard)["lenet1989"].request(0).recipe
    assert isinstance(recipe, Recipe)
    assert (recipe.epochs, recipe.batch_size, recipe.optimizer) == (NUM_PASSES, 1, Optimizer.LEVENBERG_MARQUARDT)


@pytest.mark.parametrize("name", ["usps-1989", "usps-default"])
def test_an_error_is_that_of_the_test_images(
    name: str, standard: Setting, known_arm: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Setting, "train_arms", lambda setting, arms: {each: known_arm(5.0, 5.2, 4.8, 5.1, 4.9) for each in arms}
    )
    found = STATEMENTS[name].measure(standard)
    assert found.estimate.center == pytest.approx(5.0)
    assert found.failed == ""


def test_the_lead_is_that_of_the_convolutions(
    standard: Setting, known_arm: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = {CONVOLUTIONAL: (5.0, 5.1), FULLY_CONNECTED: (8.0, 7.9)}
    monkeypatch.setattr(Setting, "train_arms", lambda setting, arms: {name: known_arm(*errors[name]) for name in arms})
    found = STATEMENTS["unshifted"].measure(standard)
    assert found.estimate.values == pytest.approx((3.0, 2.8))
    assert found.estimate.basis is Basis.SEEDS


def test_copies_of_an_image_count_as_one() -> None:
    # Four shifts of two images, one seed; the first image is misread twice, the second never.
    labels = np.tile(np.array([1, 2], np.uint8), 4)
    predicted = np.array([[1, 2, 9, 2, 9, 2, 1, 2]], np.uint8)
    assert mean_errors(Answers(labels, {"net": predicted}), "net").tolist() == [[0.5, 0.0]]


@pytest.mark.usefixtures("trained_briefly")
def test_trained_networks_are_evaluated_on_shifted_digits(standard: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_codes, "DATA", "digits")
    request = both_networks(standard)[FULLY_CONNECTED].request(0)
    run = standard.train(request)
    labels = run.load_data().test.labels
    still, moved = (zip_codes.predicted((run,), shift)[0] != np.tile(labels, 4) for shift in (0, 4))
    assert still.mean() == pytest.approx(1 - run.test_accuracy)
    assert still.mean() + 0.2 < moved.mean()
