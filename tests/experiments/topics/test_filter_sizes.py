"""Inception: counts, what is trained as data, and statistics of known results and gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convatlas import atlas, measure
from convatlas.draw import Bars
from convatlas.experiments import Budget, State, Statement
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import state_of
from convatlas.experiments.topics import filter_sizes
from convatlas.experiments.topics.equal_cost import macs
from convatlas.experiments.topics.filter_sizes import (
    EQUAL,
    MODULE,
    TOPIC,
    WITH,
    WITHOUT,
    gradient_ratio,
    single_size,
    sizes,
)
from convatlas.networks.googlenet import GoogLeNet, GoogLeNetSpec
from convatlas.training import Request
from convatlas.training.recipes import DEEP_LR, SMALL_IMAGES

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}
KEPT = {"1x1 alone": "n1x1", "3x3 alone": "n3x3", "5x5 alone": "n5x5", "pooling alone": "pool_proj"}


@pytest.fixture
def standard(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.STANDARD, seeds=(0, 1, 2), folder=tmp_path)


@pytest.fixture
def full(standard: Setting) -> Setting:
    return replace(standard, budget=Budget.FULL)


def state(name: str, found: Measurement) -> State:
    statement = STATEMENTS[name]
    p_value = statement.threshold.p_value(found.estimate)
    return state_of(found.estimate, statement.threshold, no_effect=statement.no_effect, p_value=p_value)


def requests(statement: Statement, setting: Setting) -> dict[str, Request]:
    """What trains each network with seed 1."""
    return {name: arm.request(1) for name, arm in arms_of(statement, setting).items()}


def spec_of(network: str) -> GoogLeNetSpec:
    spec = atlas.find(network).spec
    assert isinstance(spec, GoogLeNetSpec)
    return spec


# --- counted ---------------------------------------------------------------------------------------------------------


def test_naive_modules_are_counted(standard: Setting) -> None:
    found = STATEMENTS["naive"].measure(standard)
    assert STATEMENTS["naive"].role is Role.COUNT
    assert state("naive", found) is State.CONFIRMED
    assert len(found.figures) == 2


# --- one size against all --------------------------------------------------------------------------------------------


def test_nothing_is_trained_at_quick(standard: Setting) -> None:
    quick = replace(standard, budget=Budget.QUICK)
    assert [one.id for one in TOPIC.statements if arms_of(one, quick)] == []
    assert [one.id for one in TOPIC.statements if quick.budget.allows(one.needs)] == ["naive", "gradient"]


@pytest.mark.parametrize("name", KEPT)
def test_a_single_size_has_no_other_filters(name: str) -> None:
    single = single_size(spec_of("googlenet"))[name]
    for stage in single.stages:
        for module in stage:
            assert {one for one in KEPT.values() if getattr(module, one)} == {KEPT[name]}
    assert single.pooled == (name == "pooling alone")


@pytest.mark.parametrize("budget", [Budget.STANDARD, Budget.FULL])
def test_all_are_equal_in_macs(budget: Budget, standard: Setting) -> None:
    setting = replace(standard, budget=budget)
    variant = atlas.find(filter_sizes.network(setting))
    costs = {name: macs(variant, spec) for name, spec in sizes(setting).items()}
    assert costs == {name: pytest.approx(costs[MODULE], rel=0.02) for name in costs}


def test_standard_trains_a_quarter_of_the_width_with_batch_normalization(standard: Setting) -> None:
    arms = arms_of(STATEMENTS["all-sizes"], standard)
    assert list(arms) == [MODULE, "3x3 alone", "5x5 alone"]
    assert all(arm.rates == protocol.RATES for arm in arms.values())
    for request in requests(STATEMENTS["all-sizes"], standard).values():
        assert isinstance(request.spec, GoogLeNetSpec)
        assert (request.network, request.data, request.seed) == ("googlenet-bn", protocol.DATA, 1)
        assert (request.recipe, request.runtime) == (protocol.recipe(), protocol.RUNTIME)
        assert (request.spec.resolution, request.spec.batch_norm, request.spec.supervised) == (32, True, False)
    module = requests(STATEMENTS["all-sizes"], standard)[MODULE].spec
    assert module == replace(
        spec_of("googlenet-bn").scaled(width=0.25, resolution=32), num_classes=10, supervised=False
    )


def test_full_trains_the_paper_s_network_and_every_branch_alone(full: Setting) -> None:
    arms = arms_of(STATEMENTS["all-sizes"], full)
    assert list(arms) == [MODULE, *KEPT]
    paper = replace(spec_of("googlenet").scaled(resolution=64), num_classes=10, supervised=False)
    assert arms[MODULE].request(0).spec == paper
    for arm in arms.values():
        request = arm.request(1)
        assert (request.network, request.data, request.epochs, arm.rates) == ("googlenet", "cifar10", None, ())
        assert request.recipe == replace(SMALL_IMAGES, lr=DEEP_LR)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, known_arm: Callable[..., Any]) -> Callable[..., None]:
    """Sets the results of trainings: test errors in percent, one for each seed, by what is trained."""

    def set_errors(errors: dict[str, tuple[float, ...]], training_errors: tuple[float, ...] = (20.0,)) -> None:
        arms = {name: known_arm(*each, training_errors=training_errors) for name, each in errors.items()}
        monkeypatch.setattr(Setting, "train_arms", lambda self, asked: {name: arms[name] for name in asked})

    return set_errors


@pytest.mark.parametrize(
    ("three", "five", "decides", "expected"),
    [
        (20.5, 24.0, "3x3 alone", State.CONFIRMED),
        (24.0, 19.8, "5x5 alone", State.CONFIRMED),
        # Inferior to one of both.
        (15.0, 24.0, "3x3 alone", State.CONTRADICTED),
        (24.0, 15.0, "5x5 alone", State.CONTRADICTED),
    ],
)
def test_the_better_rival_decides(
    three: float, five: float, decides: str, expected: State, standard: Setting, given: Callable[..., None]
) -> None:
    given({MODULE: (20.0,) * 3, "3x3 alone": (three,) * 3, "5x5 alone": (five,) * 3})
    found = STATEMENTS["all-sizes"].measure(standard)
    assert found.note == f"{decides} decides."
    assert found.estimate.center == pytest.approx(min(three, five) - 20.0)
    assert state("all-sizes", found) is expected
    rows = dict(found.figures)
    assert rows["5x5 alone minus the module"].startswith(f"{five - 20.0:.2f} points (")
    assert rows["MACs, the module"].endswith("million")


def test_an_uncertain_rival_decides_before_a_better_one(standard: Setting, given: Callable[..., None]) -> None:
    given({MODULE: (20.0,) * 3, "3x3 alone": (20.0,) * 3, "5x5 alone": (16.0, 20.6, 25.0)})
    found = STATEMENTS["all-sizes"].measure(standard)
    assert found.note == "5x5 alone decides."
    assert state("all-sizes", found) is State.INCONCLUSIVE


def test_networks_that_have_not_learned_are_not_compared(standard: Setting, given: Callable[..., None]) -> None:
    given(dict.fromkeys((MODULE, "3x3 alone", "5x5 alone"), (60.0,) * 3), training_errors=(55.0,))
    assert "training error of 55.0 %" in STATEMENTS["all-sizes"].measure(standard).failed


def test_branches_besides_are_shown_at_full_and_decide_nothing(full: Setting, given: Callable[..., None]) -> None:
    given({MODULE: (20.0,) * 3} | {name: (20.0 if name[0] in "35" else 5.0,) * 3 for name in KEPT})
    found = STATEMENTS["all-sizes"].measure(full)
    assert found.estimate.center == 0
    (chart,) = found.charts
    assert isinstance(chart, Bars)
    assert chart.labels == (MODULE, *KEPT)
    assert "cifar" in chart.subtitle.lower()
    assert "test error, 1x1 alone" in dict(found.figures)


# --- auxiliary classifiers -------------------------------------------------------------------------------------------


def small_spec() -> GoogLeNetSpec:
    return replace(spec_of("googlenet").scaled(width=0.125, resolution=40), in_channels=1, num_classes=10)


def test_the_ratio_is_that_of_gradients_that_add_up_to_the_training_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_spec()
    images, labels = filter_sizes.digits(spec.resolution)
    targets = nn.functional.one_hot(labels, 10).float()
    # Without dropout both passes are of the same network.
    monkeypatch.setattr(nn.functional, "dropout", lambda x, *given: x)
    torch.manual_seed(7)
    network = GoogLeNet(spec).train()

    def norm(loss: Callable[[tuple[Tensor, ...]], Tensor]) -> float:
        return dict(measure.gradient_norms(network, loss, images))["conv1.conv"]

    objective = atlas.find("googlenet").objective
    main = norm(lambda outputs: objective.losses(outputs[0], targets).mean())
    auxiliary = norm(
        lambda outputs: (objective.losses(outputs, targets) - objective.losses(outputs[0], targets)).mean()
    )
    assert gradient_ratio(spec, 7) == pytest.approx(auxiliary / main, rel=1e-4)


def test_auxiliary_losses_without_a_gradient_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = GoogLeNet.__init__

    def cut_off(self: GoogLeNet, spec: GoogLeNetSpec) -> None:
        made(self, spec)
        nn.init.zeros_(self.auxiliary_4a.fc2.weight)
        nn.init.zeros_(self.auxiliary_4d.fc2.weight)

    monkeypatch.setattr(GoogLeNet, "__init__", cut_off)
    assert gradient_ratio(small_spec(), 0) == 0


def test_digits_have_mean_0_and_standard_deviation_1() -> None:
    images, labels = filter_sizes.digits(40)
    assert images.shape == (filter_sizes.IMAGES, 1, 40, 40)
    assert labels.shape == (filter_sizes.IMAGES,)
    assert float(images.mean()) == pytest.approx(0, abs=1e-5)
    assert float(images.std()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ((EQUAL + 0.1, EQUAL + 0.11, EQUAL + 0.12), State.CONFIRMED),
        ((0.2, 0.21, 0.22), State.SMALLER),
        ((0.3, 0.4, 0.6), State.INCONCLUSIVE),
    ],
)
def test_a_gradient_as_strong_as_the_main_one_is_asked_for(
    ratios: tuple[float, ...], expected: State, standard: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def known(spec: GoogLeNetSpec, seed: int) -> float:
        asked.append(spec)
        return ratios[seed]

    monkeypatch.setattr(filter_sizes, "gradient_ratio", known)
    found = STATEMENTS["gradient"].measure(standard)
    assert found.estimate.values == ratios
    assert state("gradient", found) is expected
    # The paper's own network, for gray images of ten classes.
    assert {replace(spec, in_channels=3, num_classes=1000) for spec in asked} == {spec_of("googlenet")}


def test_training_with_auxiliary_classifiers_is_left_to_full(standard: Setting, full: Setting) -> None:
    assert arms_of(STATEMENTS["auxiliary"], standard) == {}
    both = requests(STATEMENTS["auxiliary"], full)
    specs = {name: request.spec for name, request in both.items()}
    paper = replace(spec_of("googlenet").scaled(resolution=64), num_classes=10)
    assert specs == {WITH: paper, WITHOUT: replace(paper, supervised=False)}


def test_auxiliary_classifiers_are_compared_by_test_error(full: Setting, given: Callable[..., None]) -> None:
    given({WITH: (20.0, 20.1, 19.9), WITHOUT: (23.0, 23.1, 22.9)})
    found = STATEMENTS["auxiliary"].measure(full)
    assert found.estimate.values == pytest.approx((3.0, 3.0, 3.0))
    assert state("auxiliary", found) is State.CONFIRMED
