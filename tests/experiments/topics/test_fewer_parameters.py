"""SqueezeNet: counts, statistics of known times and results, and what is trained as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convatlas import atlas, measure
from convatlas.draw import Lines
from convatlas.experiments import Budget, Statement
from convatlas.experiments.engine import protocol
from convatlas.experiments.engine.answers import Classes
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import arms_of
from convatlas.experiments.engine.statement import Measurement, Role
from convatlas.experiments.engine.verdict import State, state_of
from convatlas.experiments.topics import fewer_parameters, on_chip
from convatlas.experiments.topics.fewer_parameters import (
    CASES,
    PAIR,
    TOPIC,
    speedups,
    time_pair,
)
from convatlas.experiments.topics.fire_designs import (
    BYPASSES,
    EARLY,
    FULL_RECIPE,
    LATE,
    SHARES,
    SQUEEZE_RATIOS,
    Design,
)
from convatlas.measure import Workload, cost_of
from convatlas.models.evaluation import Evaluation
from convatlas.networks.squeezenet import SPEC, SqueezeNet, SqueezeNetSpec, from_metaparameters
from convatlas.spec import Scale, Spec, Variant
from convatlas.training import Request, recipes
from convatlas.training.plan import scaled_spec

SEEDS = (0, 1, 2)


def setting(folder: Path, budget: Budget) -> Setting:
    return Setting(budget=budget, seeds=SEEDS, folder=folder)


def statement(name: str) -> Statement:
    return next(one for one in TOPIC.statements if one.id == name)


def state(one: Statement, found: Measurement) -> State:
    p_value = one.threshold.p_value(found.estimate)
    return state_of(found.estimate, one.threshold, no_effect=one.no_effect, p_value=p_value)


# --- counted -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("parameters", 60_965_224 / 1_248_424),
        ("filters", 9),
        ("sizes", 4 * 4_841_704 / 2**20),
        # Per module 6, 8, 4, 8, 16/3, 8, 6 and 8 times, weighed by the weights that they have.
        ("squeezing", 3_741_696 / 552_960),
        # 1,470 blocks of 36 * 1024 bits over 32 bits a parameter.
        ("embedded", 1470 * 36 * 1024 / (32 * 1_248_424)),
    ],
)
def test_counted_statements(name: str, value: float, tmp_path: Path) -> None:
    one = statement(name)
    found = one.measure(setting(tmp_path, Budget.QUICK))
    assert one.role is Role.COUNT
    assert state(one, found) is State.CONFIRMED
    assert found.estimate.center == pytest.approx(value, rel=1e-9)


def test_each_chip_is_listed_with_its_source(tmp_path: Path) -> None:
    figures = fewer_parameters.embedded(setting(tmp_path, Budget.QUICK)).figures
    for device in on_chip.DEVICES:
        assert any(device.name in name and device.source in name for name, _ in figures)


def test_the_folk_statement_names_the_macs() -> None:
    macs = {name: cost_of(atlas.find(name).network, atlas.find(name).spec).macs for name in PAIR}
    assert {name: round(each / 1e6) for name, each in macs.items()} == {"alexnet": 724, "squeezenet": 833}
    (folk,) = (one for one in TOPIC.statements if one.role is Role.FOLKLORE)
    assert "833 million, AlexNet's 724 million" in folk.text


# --- timed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Any]], None]:
    """Sets what processes return, in place of what they would measure."""

    def given(results: list[Any]) -> None:
        monkeypatch.setattr(fewer_parameters, "in_processes", lambda function, *args: results)

    return given


@pytest.mark.parametrize(
    ("alexnet", "expected"),
    [
        ((0.3, 0.26, 0.28), State.CONFIRMED),
        ((0.15, 0.2, 0.18), State.SMALLER),
        ((0.08, 0.09, 0.07), State.CONTRADICTED),
        ((0.09, 0.3, 0.2), State.INCONCLUSIVE),
    ],
)
def test_inference_of_one_image_decides_whether_it_is_faster(
    alexnet: tuple[float, ...], expected: State, tmp_path: Path, processes: Callable[[list[Any]], None]
) -> None:
    # In whatever else is timed, AlexNet takes ten times as long.
    processes(
        [
            {case.name: {"alexnet": 1.0, "squeezenet": 0.1} for case in CASES}
            | {"inference, one image": {"alexnet": time, "squeezenet": 0.1}}
            for time in alexnet
        ]
    )
    one = statement("three-times")
    found = one.measure(setting(tmp_path, Budget.QUICK))
    assert found.estimate.values == tuple(pytest.approx(time / 0.1) for time in alexnet)
    assert state(one, found) is expected
    assert dict(found.figures)["training step, 16 images, AlexNet over SqueezeNet"] == "10.00 (10.00 to 10.00)"
    assert dict(found.figures)["training step, 16 images, alexnet"] == "62.5 ms per image"


def test_both_networks_are_timed_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    called = []

    def recorded(variant: Variant, spec: Spec, batch_size: int) -> Workload:
        return Workload(lambda: called.append((variant.name, spec.resolution, batch_size)), "an engine")

    times = time_pair(replace(CASES[1], make=recorded, repeats=2))
    # One round to warm up.
    assert called == [("alexnet", 227, 16), ("squeezenet", 227, 16)] * 3
    assert list(times) == list(PAIR)
    assert min(times.values()) > 0
    assert speedups([{"alexnet": 6.0, "squeezenet": 2.0}]) == [3.0]


def test_a_step_on_two_machines_is_computing_and_sending(
    tmp_path: Path, processes: Callable[[list[Any]], None]
) -> None:
    processes([{"alexnet": time, "squeezenet": time} for time in (1.0, 2.0, 1.5)])
    one = statement("distributed")
    found = one.measure(setting(tmp_path, Budget.QUICK))
    # 32 bits a parameter at a billion bits a second.
    sent = (32 * 60_965_224 / 1e9, 32 * 1_248_424 / 1e9)
    assert found.estimate.values == tuple(
        pytest.approx((time + sent[0]) / (time + sent[1])) for time in (1.0, 2.0, 1.5)
    )
    assert state(one, found) is State.CONFIRMED
    # 4 images in 1.5 s: so many in the 1.95 s that AlexNet's gradients take.
    assert dict(found.figures)["images that alexnet computes while its gradients are sent at 1 Gbit/s"] == "5.2"
    assert dict(found.figures)["step of AlexNet over that of SqueezeNet, one machine"] == "1.00 (1.00 to 1.00)"
    # What is ahead on one machine already gains nothing by sending.
    processes([{"alexnet": 200.0, "squeezenet": 100.0} for _ in range(3)])
    assert state(one, one.measure(setting(tmp_path, Budget.QUICK))) is not State.CONFIRMED


def test_other_bytes_than_the_parameters_contradict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(function: object, specs: dict[str, Spec]) -> list[dict[str, int]]:
        return [{name: 2 * fewer_parameters.gradient_bytes(name) for name in specs}] * 2

    monkeypatch.setattr(fewer_parameters, "run_on_pair", twice)
    one = statement("traffic")
    found = one.measure(setting(tmp_path, Budget.QUICK))
    assert found.estimate.center == 1.0
    assert state(one, found) is State.CONTRADICTED


@pytest.mark.slow
def test_two_processes_send_four_bytes_a_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {name: atlas.find(name).spec.scaled(width=0.05) for name in PAIR}
    narrow = {name: 4 * cost_of(atlas.find(name).network, spec).params for name, spec in specs.items()}
    monkeypatch.setattr(fewer_parameters, "own_specs", lambda: specs)
    monkeypatch.setattr(fewer_parameters, "gradient_bytes", narrow.__getitem__)
    one = statement("traffic")
    assert state(one, one.measure(setting(tmp_path, Budget.QUICK))) is State.CONFIRMED


def test_googlenet_sends_its_heads_too() -> None:
    assert fewer_parameters.gradient_bytes("googlenet") == 4 * 13_378_280


# --- what is trained ---------------------------------------------------------------------------------------------


def requests_of(name: str, folder: Path, budget: Budget) -> dict[str, Request]:
    """What each arm asks for with seed 5."""
    return {arm: each.request(5) for arm, each in arms_of(statement(name), setting(folder, budget)).items()}


def spec_of(request: Request) -> Spec:
    return replace(scaled_spec(request, atlas.find(request.network), None), num_classes=10)


def test_both_networks_are_trained_alike(tmp_path: Path) -> None:
    asked = requests_of("accuracy", tmp_path, Budget.STANDARD)
    assert asked == {
        name: Request(
            network=name,
            data=protocol.DATA,
            recipe=protocol.recipe(),
            scale=Scale(width=0.5, resolution=32),
            seed=5,
            runtime=protocol.RUNTIME,
        )
        for name in PAIR
    }
    for arm in arms_of(statement("accuracy"), setting(tmp_path, Budget.STANDARD)).values():
        assert arm.rates == protocol.RATES


def test_late_pooling_is_squeezenet_itself_and_early_pooling_has_its_parameters(tmp_path: Path) -> None:
    asked = requests_of("late-pooling", tmp_path, Budget.STANDARD)
    # One training for both statements.
    assert asked[LATE] == requests_of("accuracy", tmp_path, Budget.STANDARD)["squeezenet"]
    assert replace(asked[EARLY], spec=None, scale=asked[LATE].scale) == asked[LATE]
    late, early = spec_of(asked[LATE]), spec_of(asked[EARLY])
    assert isinstance(late, SqueezeNetSpec)
    assert isinstance(early, SqueezeNetSpec)
    assert [len(stage) for stage in late.stages] == [3, 4, 1]
    assert [len(stage) for stage in early.stages] == [1, 1, 6]
    assert (late.resolution, early.resolution) == (32, 32)
    assert cost_of(SqueezeNet, late).params == cost_of(SqueezeNet, early).params
    assert cost_of(SqueezeNet, late).macs > cost_of(SqueezeNet, early).macs


def test_the_full_budget_trains_the_papers_networks(tmp_path: Path) -> None:
    plain = Request(network="squeezenet", data="cifar10", recipe=FULL_RECIPE, seed=5)
    assert requests_of("accuracy", tmp_path, Budget.FULL) == {
        name: replace(plain, network=name, scale=Scale(resolution=32)) for name in PAIR
    }
    assert requests_of("late-pooling", tmp_path, Budget.FULL) == {
        name: replace(plain, spec=design.spec()) for name, design in ((LATE, Design()), (EARLY, Design(early=True)))
    }
    assert requests_of("simple-bypass", tmp_path, Budget.FULL) == {
        name: replace(plain, spec=design.spec()) for name, design in BYPASSES.items()
    }
    assert Design().spec() == replace(SPEC, resolution=32, num_classes=10)
    # What "default" means for such images and networks.
    variant = atlas.find("squeezenet")
    layers = measure.layers_of(variant.network, Design().spec())
    assert sum(layer.macs > 0 for layer in layers) > recipes.DEEP
    assert replace(recipes.SMALL_IMAGES, lr=recipes.DEEP_LR) == FULL_RECIPE


def test_designs_are_points_of_the_papers_design_space() -> None:
    for designs in (SQUEEZE_RATIOS, SHARES):
        costs = [cost_of(SqueezeNet, design.spec()).params for design in designs.values()]
        assert costs == sorted(costs)
        assert len(set(costs)) == len(costs)
    simple, complex_ = (BYPASSES[name].spec() for name in ("simple bypass", "complex bypass"))
    assert cost_of(SqueezeNet, simple) == cost_of(SqueezeNet, Design().spec())
    assert cost_of(SqueezeNet, complex_).params > cost_of(SqueezeNet, simple).params
    # Section 5.2 varies it at half of the filters 3x3, section 5.3 these at half squeezed.
    assert {design.pct3x3 for design in SQUEEZE_RATIOS.values()} == {0.5}
    assert {design.sr for design in SHARES.values()} == {0.5}


def test_no_topic_rests_on_what_only_the_full_budget_trains(tmp_path: Path) -> None:
    central = [one for one in TOPIC.statements if one.role is Role.CENTRAL]
    assert [one.id for one in central] == ["accuracy", "late-pooling"]
    assert all(one.needs is Budget.STANDARD and one.priority == 1 for one in central)


# --- statistics of known results ---------------------------------------------------------------------------------


TINY = from_metaparameters(base_e=2, incr_e=0, conv1=2, stages=(1,), resolution=32)


@dataclass(frozen=True)
class KnownRun:
    """A run with this test loss, of a tiny network."""

    loss: float
    variant: Variant = field(default_factory=lambda: atlas.find("squeezenet"))
    spec: Spec = TINY

    def evaluate(self) -> Evaluation:
        return Evaluation(torch.eye(10), self.loss, torch.arange(10), 10)


@dataclass(frozen=True)
class KnownArm:
    """A trained network with these predictions and training errors."""

    predictions: Classes
    training_errors: list[float]
    runs: tuple[KnownRun, ...]
    chosen: None = None
    precision: str = "float32"
    labels: Classes = field(default_factory=lambda: np.zeros(10_000, np.uint8))


def known(percent: float, *, training_error: float = 20.0, losses: tuple[float, ...] = (1.0, 1.0, 1.0)) -> KnownArm:
    """It misreads so many test images, others with each seed."""
    generator = np.random.default_rng(round(100 * percent))
    wrong = generator.random((3, 10_000)) < percent / 100
    return KnownArm(wrong.astype(np.uint8), [training_error] * 3, tuple(map(KnownRun, losses)))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, KnownArm]], None]:
    """Sets what trainings come to, by the arms' names."""

    def given(arms: Mapping[str, KnownArm]) -> None:
        monkeypatch.setattr(Setting, "train_arms", lambda self, asked: {name: arms[name] for name in asked})

    return given


Given = Callable[[Mapping[str, KnownArm]], None]


@pytest.mark.parametrize(
    ("squeezenet", "expected"), [(23.5, State.CONFIRMED), (28.0, State.CONTRADICTED), (26.0, State.INCONCLUSIVE)]
)
def test_squeezenet_may_lose_one_point(squeezenet: float, expected: State, tmp_path: Path, trained: Given) -> None:
    trained({"alexnet": known(25.0), "squeezenet": known(squeezenet)})
    one = statement("accuracy")
    found = one.measure(setting(tmp_path, Budget.STANDARD))
    assert found.estimate.center == pytest.approx(squeezenet - 25.0, abs=0.6)
    assert (state(one, found), found.failed) == (expected, "")
    assert found.answers is not None
    trained({"alexnet": known(25.0, training_error=51), "squeezenet": known(25.0, training_error=60)})
    assert "51.0 %" in one.measure(setting(tmp_path, Budget.STANDARD)).failed


def test_late_pooling_is_better_where_early_pooling_errs_more(tmp_path: Path, trained: Given) -> None:
    one = statement("late-pooling")
    trained({LATE: known(25.0), EARLY: known(28.0)})
    assert state(one, one.measure(setting(tmp_path, Budget.STANDARD))) is State.CONFIRMED
    trained({LATE: known(28.0), EARLY: known(25.0)})
    assert state(one, one.measure(setting(tmp_path, Budget.STANDARD))) is State.CONTRADICTED


def test_designs_are_compared_by_their_test_loss(tmp_path: Path, trained: Given) -> None:
    at = {"squeeze ratio 0.125": 0.3, "squeeze ratio 0.5": 0.25, "squeeze ratio 0.75": 0.2, "squeeze ratio 1": 0.1}
    arms = {
        name: known(20.0, losses=(0.99 * loss, loss, 1.01 * loss))
        for name, loss in ({"squeeze ratio 0.25": 0.28} | at).items()
    }
    trained(arms)
    gain, end = statement("squeeze-gain"), statement("squeeze-end")
    found = gain.measure(setting(tmp_path, Budget.FULL))
    assert found.estimate.center == pytest.approx(1.5)
    assert state(gain, found) is State.CONFIRMED
    chart = found.charts[0]
    assert isinstance(chart, Lines)
    assert chart.series[0].x == (0.125, 0.25, 0.5, 0.75, 1)
    # Half as much loss beyond 0.75 is no flat curve.
    assert state(end, end.measure(setting(tmp_path, Budget.FULL))) is State.CONTRADICTED


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("share-gain", State.CONTRADICTED),
        ("share-end", State.CONFIRMED),
        ("simple-bypass", State.CONTRADICTED),
        ("complex-bypass", State.CONTRADICTED),
        ("simple-over-complex", State.CONTRADICTED),
    ],
)
def test_designs_without_a_gain_contradict_one(name: str, expected: State, tmp_path: Path, trained: Given) -> None:
    better = "50 % 3x3" if name.startswith("share") else "simple bypass"
    arms = {design: known(20.0, losses=(0.49, 0.5, 0.51)) for design in (SHARES | BYPASSES)}
    # A little worse than what they are said to be better than.
    for design in (better, "complex bypass"):
        if name != "share-end":
            arms[design] = known(20.0, losses=(0.59, 0.6, 0.61))
    if name == "simple-over-complex":
        arms["complex bypass"] = known(20.0, losses=(0.49, 0.5, 0.51))
    trained(arms)
    one = statement(name)
    assert state(one, one.measure(setting(tmp_path, Budget.FULL))) is expected
