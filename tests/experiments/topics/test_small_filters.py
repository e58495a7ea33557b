"""VGG: counts, what is trained as data, and statistics of known results and times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convatlas import atlas, measure
from convatlas.draw import Bars
from convatlas.experiments import Budget, State, Statement
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.estimate import Basis
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import state_of
from convatlas.experiments.topics import small_filters
from convatlas.experiments.topics.small_filters import (
    DEEP,
    DEEP_RECIPE,
    FACTOR,
    LEARNED,
    RELIABLE,
    RELIABLE_EPOCHS,
    SHALLOW,
    STACKS,
    TOPIC,
    stack,
    windows,
)
from convatlas.experiments.topics.timed_steps import OF_EACH_FAMILY
from convatlas.measure import Workload
from convatlas.networks.vgg import A, B, ConvSize, D, VGGSpec
from convatlas.training import Request
from convatlas.training.recipes import DEEP_LR, SMALL_IMAGES

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}
COUNTED = ("convolutions", "fully-connected", "simple", "receptive-field", "parameters")


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


def built(request: Request) -> VGGSpec:
    """The spec of the network that is trained."""
    own = request.spec or atlas.find(request.network).spec
    assert isinstance(own, VGGSpec)
    return own.at(request.scale)


# --- counted ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COUNTED)
def test_counts_agree_with_the_paper(name: str, standard: Setting) -> None:
    assert STATEMENTS[name].role is Role.COUNT
    assert state(name, STATEMENTS[name].measure(standard)) is State.CONFIRMED


def test_parameters_are_those_of_section_2_3_and_biases() -> None:
    c = small_filters.CHANNELS
    assert {name: stack(*size).params for name, size in STACKS.items()} == {
        "two 3x3": 2 * (9 * c * c + c),
        "one 5x5": 25 * c * c + c,
        "three 3x3": 3 * (9 * c * c + c),
        "one 7x7": 49 * c * c + c,
    }


def test_the_paper_s_parameters_are_drawn_as_lines(standard: Setting) -> None:
    (chart,) = STATEMENTS["parameters"].measure(standard).charts
    assert isinstance(chart, Bars)
    (bars,) = chart.series
    assert [value for _, value in chart.marks] == pytest.approx([bars.y[2], bars.y[3]], rel=1e-3)


def test_a_missing_convolution_is_noticed(standard: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACKS, "three 3x3", (3, 2))
    for name in ("receptive-field", "parameters"):
        assert state(name, STATEMENTS[name].measure(standard)) is State.CONTRADICTED


def test_another_kind_of_filter_is_noticed() -> None:
    # C has convolutions of 1x1.
    assert len(windows("vgg16-1x1")) == 3
    assert (
        windows("vgg16")
        == windows("vgg19")
        == {
            "convolutions of 3x3, stride 1x1",
            "max pooling of 2x2, stride 2x2",
        }
    )


# --- trained ---------------------------------------------------------------------------------------------------------


def test_nothing_is_trained_at_quick(standard: Setting) -> None:
    quick = replace(standard, budget=Budget.QUICK)
    assert [one.id for one in TOPIC.statements if arms_of(one, quick)] == []
    learned = {one.id for one in TOPIC.statements if not quick.budget.allows(one.needs)}
    assert learned == {"depth", "accuracy", "accuracy-7x7", "reliable"}


@pytest.mark.parametrize("name", ["depth", "accuracy"])
def test_standard_trains_narrow_networks_with_batch_normalization_alike(name: str, standard: Setting) -> None:
    arms = arms_of(STATEMENTS[name], standard)
    assert all(arm.rates == protocol.RATES for arm in arms.values())
    for request in requests(STATEMENTS[name], standard).values():
        spec = built(request)
        assert (spec.resolution, spec.batch_norm, spec.feature_size) == (36, True, 2)
        assert (spec.fully, spec.stages[0][0].channels, spec.stages[-1][0].channels) == ((768, 768), 12, 96)
        assert (request.data, request.seed, request.runtime) == (protocol.DATA, 1, protocol.RUNTIME)
        assert request.recipe == protocol.recipe()


def test_depth_compares_a_and_d(standard: Setting, full: Setting) -> None:
    trained = {name: built(request) for name, request in requests(STATEMENTS["depth"], standard).items()}
    for name, column, num_layers in ((SHALLOW, A, 11), (DEEP, D, 16)):
        assert [len(stage) for stage in trained[name].stages] == [len(stage) for stage in column]
        assert name.endswith(f", {num_layers} layers")
        assert sum(map(len, column)) + 3 == num_layers
    assert {request.network for request in requests(STATEMENTS["depth"], full).values()} == {"vgg11", "vgg16"}


def test_large_filters_take_the_place_of_stacks(standard: Setting) -> None:
    five = built(requests(STATEMENTS["accuracy"], standard)["one 5x5"])
    assert five.stages == tuple((ConvSize(channels, 5),) for channels in (12, 24, 48, 96, 96))
    three = built(requests(STATEMENTS["accuracy"], standard)["two 3x3"])
    assert [len(stage) for stage in three.stages] == [2] * 5


def test_sevens_are_compared_at_full_alone(standard: Setting, full: Setting) -> None:
    assert arms_of(STATEMENTS["accuracy-7x7"], standard) == {}
    sevens = built(requests(STATEMENTS["accuracy-7x7"], full)["one 7x7"])
    assert sevens.stages == tuple((ConvSize(stage[-1].channels, 7),) for stage in B)


@pytest.mark.parametrize("name", ["depth", "accuracy", "accuracy-7x7", "reliable"])
def test_full_trains_the_paper_s_networks_at_one_rate(name: str, full: Setting) -> None:
    for arm in arms_of(STATEMENTS[name], full).values():
        request = arm.request(1)
        spec = built(request)
        assert (spec.resolution, spec.batch_norm, spec.fully) == (32, False, (4096, 4096))
        assert (request.data, request.recipe, request.epochs, arm.rates) == ("cifar10", DEEP_RECIPE, None, ())
    assert replace(SMALL_IMAGES, lr=DEEP_LR) == DEEP_RECIPE
    assert built(requests(STATEMENTS["accuracy"], full)["two 3x3"]).stages == B


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch, known_arm: Callable[..., Any]) -> Callable[..., None]:
    """Sets the results of trainings: test errors in percent, one for each seed, by what is trained."""

    def set_errors(errors: dict[str, tuple[float, ...]], training_errors: tuple[float, ...] = (20.0,)) -> None:
        arms = {name: known_arm(*each, training_errors=training_errors) for name, each in errors.items()}
        monkeypatch.setattr(Setting, "train_arms", lambda self, asked: {name: arms[name] for name in asked})

    return set_errors


@pytest.mark.parametrize(
    ("name", "better", "worse"),
    [
        ("depth", DEEP, SHALLOW),
        ("accuracy", "two 3x3", "one 5x5"),
        ("accuracy-7x7", "three 3x3", "one 7x7"),
    ],
)
def test_the_lead_is_the_difference_of_test_errors(
    name: str, better: str, worse: str, standard: Setting, given: Callable[..., None]
) -> None:
    measured = STATEMENTS[name].measure
    given({better: (20.0, 20.5, 21.0), worse: (24.0, 24.5, 25.0)})
    found = measured(standard)
    assert found.estimate.values == pytest.approx((4.0, 4.0, 4.0))
    assert state(name, found) is State.CONFIRMED
    given({better: (24.0, 24.5, 25.0), worse: (20.0, 20.5, 21.0)})
    assert state(name, measured(standard)) is State.CONTRADICTED
    given({better: (20.0, 20.0, 20.0), worse: (20.0, 20.1, 19.9)})
    assert state(name, measured(standard)) is State.INCONCLUSIVE
    given({better: (20.0, 20.0, 20.0), worse: (24.0, 24.0, 24.0)}, training_errors=(60.0,))
    assert "training error of 60.0 %" in measured(standard).failed


def test_reliability_is_that_of_the_network_without_normalization(standard: Setting) -> None:
    (request,) = requests(STATEMENTS["reliable"], standard).values()
    (arm,) = arms_of(STATEMENTS["reliable"], standard).values()
    assert [len(stage) for stage in built(request).stages] == [len(stage) for stage in D]
    assert not built(request).batch_norm
    # No rate is chosen: that would be another statement.
    assert arm.rates == ()
    assert request.recipe == replace(protocol.recipe(RELIABLE_EPOCHS), lr=DEEP_LR)
    assert STATEMENTS["reliable"].num_seeds == 5


@pytest.mark.parametrize(
    ("training_errors", "percent", "expected"),
    [
        ((50.0, 60.0, LEARNED, 55.0, 52.0), 100, State.CONFIRMED),
        ((50.0, 60.0, 90.0, 55.0, 52.0), 80, State.CONTRADICTED),
    ],
)
def test_a_training_that_stalls_is_counted(
    training_errors: tuple[float, ...], percent: float, expected: State, standard: Setting, given: Callable[..., None]
) -> None:
    five = replace(standard, seeds=(0, 1, 2, 3, 4))
    given({RELIABLE: (40.0,) * 5}, training_errors=training_errors)
    found = STATEMENTS["reliable"].measure(five)
    assert (found.estimate.basis, found.estimate.center) == (Basis.COUNT, percent)
    assert state("reliable", found) is expected
    rows = dict(found.figures)
    assert rows["trainings that succeeded"] == f"{percent // 20} of 5"
    assert rows["training error, seed 2"] == f"{training_errors[2]:.1f} %"


# --- timed -----------------------------------------------------------------------------------------------------------


def in_each_process(*of_vgg: float) -> list[dict[str, float]]:
    """Step times of each family: those of the others are from 0.4 to 1.6 s, the median is 1."""
    others = [name for name in OF_EACH_FAMILY if name != "vgg16"]
    return [{name: 1 + 0.2 * (place - 3) for place, name in enumerate(others)} | {"vgg16": one} for one in of_vgg]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ((6.0, 8.0, 7.0), State.CONFIRMED),
        ((4.9, 8.0, 7.0), State.INCONCLUSIVE),
        ((2.0, 3.0, 2.5), State.CONTRADICTED),
    ],
)
def test_vgg_is_compared_with_the_median_of_the_others_in_each_process(
    times: tuple[float, ...], expected: State, standard: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_filters, "in_processes", lambda function: in_each_process(*times))
    found = STATEMENTS["training-cost"].measure(standard)
    assert found.estimate.basis is Basis.TIMINGS
    assert found.estimate.values == pytest.approx(times)
    assert state("training-cost", found) is expected
    assert found.note.endswith("slowest first: 1.")
    (chart,) = found.charts
    assert isinstance(chart, Bars)
    assert chart.marks[0][1] == pytest.approx(FACTOR / small_filters.BATCH)
    assert dict(found.figures)["vgg16"].endswith(f"{measured_macs('vgg16') / 1e6:,.0f} million MACs")


def measured_macs(name: str) -> int:
    spec = replace(atlas.find(name).spec.scaled(resolution=224), num_classes=10)
    return measure.cost_of(atlas.find(name).network, spec).macs


@pytest.mark.slow
def test_each_family_is_timed_at_the_paper_s_side(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def noted(variant: object, spec: VGGSpec, batch_size: int) -> Workload:
        asked.append((spec.resolution, spec.num_classes, batch_size))
        return Workload(lambda: None, "an engine")

    monkeypatch.setattr(small_filters, "training_step", noted)
    assert set(small_filters.each_step_seconds()) == set(OF_EACH_FAMILY)
    assert set(asked) == {(224, 10, small_filters.BATCH)}
    assert len(asked) == len(OF_EACH_FAMILY)
