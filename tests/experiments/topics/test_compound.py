"""EfficientNet: scaling to equal cost, what is trained, and statistics of known answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from convatlas import atlas
from convatlas.draw import Bars, Lines
from convatlas.experiments import Budget, State
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import state_of
from convatlas.experiments.topics import compound
from convatlas.experiments.topics.compound import (
    AT_STANDARD,
    B0,
    BASE,
    COMPOUND,
    PAPER,
    RESNET,
    SINGLE,
    TIMES,
    TOPIC,
    ScalingBed,
    Triple,
    best,
)
from convatlas.networks.efficientnet import EfficientNetSpec
from convatlas.networks.resnet import ResNetSpec
from convatlas.runs.options import Validation
from convatlas.spec import Spec
from convatlas.training import Request
from convatlas.training.recipes import SMALL_IMAGES

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


def setting(folder: Path, budget: Budget) -> Setting:
    return Setting(budget=budget, seeds=(0, 1, 2), folder=folder)


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


def test_the_mean_step_of_phi_doubles_and_single_steps_may_not(standard: Setting) -> None:
    found = compound.doubling(standard)
    assert found.estimate.center == pytest.approx(1.9, abs=0.1)
    assert state("doubling", found) is State.CONFIRMED
    assert STATEMENTS["doubling"].role is Role.COUNT
    (chart,) = found.charts
    assert isinstance(chart, Bars | Lines)
    steps = chart.series[0].y
    assert np.prod(steps) ** (1 / 7) == pytest.approx(found.estimate.center)
    # From phi 0 to 1 every stage gets a unit more.
    assert max(steps) == steps[0] > 2.3
    assert chart.marks[0][1] == pytest.approx(1.2 * 1.1**2 * 1.15**2)


@pytest.mark.parametrize("triple", (SINGLE | COMPOUND).values(), ids=(SINGLE | COMPOUND).keys())
def test_a_triple_roughly_doubles_macs(triple: Triple) -> None:
    alpha, beta, gamma = triple
    assert alpha * beta**2 * gamma**2 == pytest.approx(2, rel=0.05)


# --- growth to equal cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bed", "times", "most", "compounds"),
    [
        # Resolution grows by whole maps: 48 px cost 2.7 % less than the network four times as deep.
        pytest.param(AT_STANDARD, TIMES, 0.03, (PAPER,), id="standard"),
        # B0's channels are multiples of 8, and its last maps grow by a pixel for each 32 of the image.
        pytest.param(B0, 2, 0.04, (PAPER,), id="efficientnet", marks=pytest.mark.slow),
        pytest.param(B0, 2, 0.04, COMPOUND, id="efficientnet, all", marks=pytest.mark.slow),
        pytest.param(RESNET, 2, 0.05, COMPOUND, id="resnet"),
    ],
)
def test_all_ways_to_grow_cost_about_the_same(
    bed: ScalingBed, times: int, most: float, compounds: Sequence[str]
) -> None:
    triples = [*SINGLE.values(), *(COMPOUND[name] for name in compounds)]
    costs = [bed.million_macs(bed.scaled(triple, times)) for triple in triples]
    assert max(costs) / min(costs) - 1 < most
    assert costs[0] / bed.million_macs(bed.base) == pytest.approx(times, rel=0.05)


def sizes(spec: Spec) -> tuple[int, int, int]:
    """Units, channels and pixels."""
    if isinstance(spec, EfficientNetSpec):
        return sum(len(stage.blocks) for stage in spec.stages), spec.stages[-1].out_channels, spec.resolution
    assert isinstance(spec, ResNetSpec)
    return sum(map(len, spec.stages)), spec.stages[-1][-1][-1], spec.resolution


@pytest.mark.parametrize(
    ("bed", "times"),
    [pytest.param(AT_STANDARD, TIMES, id="standard"), pytest.param(B0, 2, id="B0", marks=pytest.mark.slow)],
)
def test_one_dimension_grows_and_the_others_stay_or_all_three_grow(bed: ScalingBed, times: int) -> None:
    before = sizes(bed.base)
    for number, triple in enumerate(SINGLE.values()):
        after = sizes(bed.scaled(triple, times))
        assert [one > other for one, other in zip(after, before, strict=True)] == [
            place == number for place in range(3)
        ]
    assert all(one > other for one, other in zip(sizes(bed.scaled(COMPOUND[PAPER], times)), before, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMPOUND if name != PAPER])
def test_every_compound_way_of_b0_grows_all_three(name: str) -> None:
    after = sizes(B0.scaled(COMPOUND[name], 2))
    assert all(one > other for one, other in zip(after, sizes(B0.base), strict=True))


# --- what is asked ---------------------------------------------------------------------------------------------------


def requests(name: str, one: Setting, seed: int = 0) -> dict[str, Request]:
    return {arm: each.request(seed) for arm, each in arms_of(STATEMENTS[name], one).items()}


def test_at_standard_resnets_grow_from_24_px(standard: Setting) -> None:
    for name in ("compound", "compound-best"):
        found = requests(name, standard, 2)
        assert found.keys() == {*SINGLE, PAPER}
        for each in found.values():
            assert (each.network, each.data, each.seed) == ("resnet20-cifar", protocol.DATA, 2)
            assert (each.recipe, each.validation) == (protocol.recipe(), None)
        assert all(arm.rates == protocol.RATES for arm in arms_of(STATEMENTS[name], standard).values())
    assert sizes(AT_STANDARD.base) == (9, 32, 24)
    # No more than the 32 px that the images have.
    spec = found[PAPER].spec
    assert spec is not None
    assert 24 < spec.resolution <= 32


def test_full_scales_the_paper_s_own_b0(full: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    paper = atlas.find("efficientnet-b0").spec
    assert B0.base == replace(paper, resolution=68, num_classes=10)
    assert RESNET.base == replace(atlas.find("resnet20-cifar").spec, resolution=36, num_classes=10)
    # Growth is tested above.
    asked: list[tuple[str, Triple, int]] = []

    def grown(network: str, base: Spec, triple: Triple, times: int) -> Spec:
        asked.append((network, triple, times))
        return base

    monkeypatch.setattr(compound, "grown", grown)
    for name, network, times in (
        ("compound", "efficientnet-b0", {4}),
        ("saturation", "efficientnet-b0", {2, 4}),
        ("search-b0", "efficientnet-b0", {2}),
        ("search-resnet", "resnet20-cifar", {2}),
    ):
        asked.clear()
        for each in requests(name, full, 1).values():
            assert (each.network, each.data, each.seed) == (network, "cifar10", 1)
            assert (each.recipe, each.validation) == (SMALL_IMAGES, Validation())
        assert {times for _, _, times in asked} == times
        wanted = COMPOUND if "search" in name else {PAPER: COMPOUND[PAPER]}
        assert {triple for _, triple, _ in asked} == {*SINGLE.values(), *wanted.values()}


@pytest.mark.parametrize("name", ["saturation", "search-b0", "search-resnet"])
def test_bends_and_searches_wait_for_full(name: str, standard: Setting) -> None:
    assert not arms_of(STATEMENTS[name], standard)
    assert STATEMENTS[name].role is Role.PERIPHERAL


# --- statistics of known answers -------------------------------------------------------------------------------------

NUM_IMAGES = 2_000
LABELS = np.zeros(NUM_IMAGES, np.uint8)


def known(percents: Sequence[float], million_macs: float = 1.0) -> Any:
    """A trained network with these test errors in percent, one for each seed."""
    predictions = np.zeros((len(percents), NUM_IMAGES), np.uint8)
    for row, percent in zip(predictions, percents, strict=True):
        row[: round(NUM_IMAGES * percent / 100)] = 1
    run = SimpleNamespace(
        card=SimpleNamespace(macs=round(1e6 * million_macs), variant="resnet20-cifar"),
        record=SimpleNamespace(recipe=SimpleNamespace(epochs=10)),
        spec=SimpleNamespace(resolution=24),
    )
    return SimpleNamespace(
        runs=(run,) * len(percents),
        chosen=None,
        precision="float32",
        predictions=predictions,
        labels=LABELS,
        training_errors=[10.0] * len(percents),
    )


def around(percent: float) -> tuple[float, ...]:
    return percent, percent + 0.1, percent - 0.1


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, float]], None]:
    """Sets the mean test errors, in percent, to which training comes."""

    def given(errors: Mapping[str, float]) -> None:
        monkeypatch.setattr(
            Setting, "train_arms", lambda self, asked: {name: known(around(errors[name])) for name in asked}
        )

    return given


@pytest.mark.parametrize(
    ("of_paper", "gain_of_mean", "gain_of_best", "states"),
    [
        (18.0, 3.0, 1.0, (State.CONFIRMED, State.CONFIRMED)),
        # Better than most, and not as good as the best.
        (20.5, 0.5, -1.5, (State.CONFIRMED, State.CONTRADICTED)),
        (24.0, -3.0, -5.0, (State.CONTRADICTED, State.CONTRADICTED)),
    ],
)
def test_the_paper_s_triple_against_the_mean_and_against_the_best(
    of_paper: float,
    gain_of_mean: float,
    gain_of_best: float,
    states: tuple[State, State],
    standard: Setting,
    trained: Callable[[Mapping[str, float]], None],
) -> None:
    trained({"depth": 21.0, "width": 19.0, "resolution": 23.0, PAPER: of_paper})
    for name, value, wanted in zip(("compound", "compound-best"), (gain_of_mean, gain_of_best), states, strict=True):
        found = STATEMENTS[name].measure(standard)
        assert found.estimate.center == pytest.approx(value)
        assert state(name, found) is wanted
    chart = found.charts[0]
    assert isinstance(chart, Bars | Lines)
    assert chart.series[0].y == pytest.approx((21 - of_paper, 19 - of_paper, 23 - of_paper))


def test_saturation_is_the_mean_bend_of_three_dimensions(
    full: Setting, trained: Callable[[Mapping[str, float]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compound, "grown", lambda network, base, triple, times: base)
    errors = {BASE: 20.0}
    for name in (*SINGLE, PAPER):
        # Compound scaling, which does not level off, is not counted.
        errors |= {f"{name}, 2 times": 17.0, f"{name}, 4 times": 16.0 if name in SINGLE else 14.0}
    trained(errors)
    found = compound.saturation(full)
    assert found.estimate.center == pytest.approx(2.0)
    assert state("saturation", found) is State.CONFIRMED
    chart = found.charts[0]
    assert isinstance(chart, Lines)
    assert [len(one.y) for one in chart.series] == [3] * 4


def test_the_search_takes_the_lowest_loss_among_the_names() -> None:
    losses = {"depth": 0.5, "width": 0.4, "resolution": 0.6, "equal shares": 0.1}
    assert best(losses, ["depth", "width", "resolution"]) == "width"


def test_what_validation_chose_is_compared_on_the_test_images(full: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = dict.fromkeys(SINGLE | COMPOUND, 1.0) | {"depth": 0.5, "width": 0.4, "most width": 0.3}
    # Each network is known by the order in which it is asked for.
    names = iter(losses)
    tried: list[Request] = []
    chosen: list[str] = []

    def train_arms(self: Setting, arms: Mapping[str, Any]) -> dict[str, Any]:
        chosen.extend(arms)
        return {name: known(around(15.0 if name in COMPOUND else 16.0)) for name in arms}

    monkeypatch.setattr(compound, "grown", lambda network, base, triple, times: base)
    monkeypatch.setattr(compound, "val_loss", lambda run: losses[next(names)])
    monkeypatch.setattr(Setting, "train", lambda self, request: tried.append(request))
    monkeypatch.setattr(Setting, "train_all", lambda self, requests: None)
    monkeypatch.setattr(Setting, "train_arms", train_arms)
    found = STATEMENTS["search-resnet"].measure(full)
    assert [request.seed for request in tried] == [0] * len(losses)
    assert chosen == ["most width", "width"]
    assert found.estimate.center == pytest.approx(1.0)
    assert state("search-resnet", found) is State.CONFIRMED
