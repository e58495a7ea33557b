"""SqueezeNet: counts, and statistics of known times and results."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from convatlas import atlas, measure
from convatlas.experiments import Budget
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.engine.verdict import Measurement, Verdict
from convatlas.experiments.topics import fewer_parameters, fire_designs
from convatlas.experiments.topics.fewer_parameters import PAIR, TOPIC
from convatlas.experiments.topics.fire_designs import BYPASSES, ONLY_FULL, SHARES, SQUEEZE_RATIOS, Design
from convatlas.measure import Timing, Workload, cost_of
from convatlas.models.card import Score
from convatlas.models.evaluation import Evaluation
from convatlas.networks.squeezenet import SqueezeNet, from_metaparameters
from convatlas.runs.options import Runtime
from convatlas.spec import Spec
from convatlas.training import Request


def setting(folder: Path, budget: Budget = Budget.QUICK) -> Setting:
    return Setting(budget=budget, seeds=(0, 1), folder=folder)


def measured(name: str, folder: Path) -> tuple[Verdict, Measurement]:
    statement = next(statement for statement in TOPIC.statements if statement.id == name)
    result = run_statement(statement, setting(folder))
    assert result.measurement is not None
    return result.verdict, result.measurement


@pytest.mark.parametrize(
    ("name", "value"),
    [("parameters", 60_965_224 / 1_248_424), ("filters", 9), ("sizes", 4 * 4_841_704 / 2**20)],
)
def test_counted_statements(name: str, value: float, tmp_path: Path) -> None:
    verdict, found = measured(name, tmp_path)
    assert verdict is Verdict.REPRODUCED
    assert found.values == (pytest.approx(value, rel=1e-9),)


def timed(durations: dict[str, tuple[float, ...]]) -> Callable[..., dict[str, Timing]]:
    """In place of the timer: these durations in seconds, whatever the workloads do."""
    return lambda workloads, repeats: {name: Timing("an engine", durations[name]) for name in workloads}


@pytest.mark.parametrize(
    ("alexnet", "verdict"), [((0.3, 0.6), Verdict.REPRODUCED), ((0.1, 0.2), Verdict.NOT_REPRODUCED)]
)
def test_times_are_compared_round_by_round(
    alexnet: tuple[float, ...], verdict: Verdict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "time_in_turn", timed({"alexnet": alexnet, "squeezenet": (0.1, 0.2)}))
    actual, found = measured("forward-1", tmp_path)
    assert actual is verdict
    assert found.values == tuple(pytest.approx(a / s) for a, s in zip(alexnet, (0.1, 0.2), strict=True))
    assert dict(found.figures)["engine"] == "an engine"


def test_a_step_on_two_machines_is_computing_and_sending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_step(*given: object) -> Workload:
        return Workload(lambda: None, "an engine")

    taken = dict.fromkeys(fewer_parameters.OF_EACH_FAMILY, (1.0, 2.0))
    monkeypatch.setattr(fewer_parameters, "training_step", no_step)
    monkeypatch.setattr(measure, "time_in_turn", timed(taken))
    _, found = measured("distributed", tmp_path)
    # 32 bits a parameter at a billion bits a second.
    sent = (32 * 60_965_224 / 1e9, 32 * 1_248_424 / 1e9)
    assert found.values == tuple(pytest.approx((time + sent[0]) / (time + sent[1])) for time in (1.0, 2.0))
    # 4 images in 1.5 s: so many in the 1.95 s that AlexNet's gradients take.
    assert dict(found.figures)["images that alexnet computes while its gradients are sent at 1 Gbit/s"] == "5.2"


def test_other_bytes_than_the_parameters_are_not_reproduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(function: object, specs: dict[str, Spec]) -> list[dict[str, int]]:
        return [{name: 2 * fewer_parameters.gradient_bytes(name) for name in specs}] * 2

    monkeypatch.setattr(fewer_parameters, "run_on_pair", twice)
    verdict, found = measured("traffic", tmp_path)
    assert (verdict, found.values) == (Verdict.NOT_REPRODUCED, (1.0,))


def test_two_processes_send_four_bytes_a_parameter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = {name: atlas.find(name).spec.scaled(width=0.05) for name in PAIR}
    narrow = {name: 4 * cost_of(atlas.find(name).network, spec).params for name, spec in specs.items()}
    monkeypatch.setattr(fewer_parameters, "own_specs", lambda: specs)
    monkeypatch.setattr(fewer_parameters, "gradient_bytes", narrow.__getitem__)
    verdict, found = measured("traffic", tmp_path)
    assert (verdict, found.values) == (Verdict.REPRODUCED, (0.0,))


def test_googlenet_sends_its_heads_too() -> None:
    assert fewer_parameters.gradient_bytes("googlenet") == 4 * 13_378_280


@dataclass(frozen=True)
class PerfectRun:
    """A run with an accuracy of 1 and this loss."""

    loss: float

    @property
    def score(self) -> Score:
        return self.evaluate().score

    def evaluate(self) -> Evaluation:
        return Evaluation(torch.eye(10), self.loss, torch.arange(10))


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str], float]], None]:
    """Sets the losses of trainings, by the name of the design: that value with one seed, and twice with the other."""

    def given(value: Callable[[str], float]) -> None:
        monkeypatch.setattr(
            Setting,
            "train_seeds",
            lambda self, wanted: {name: [PerfectRun(value(name)), PerfectRun(2 * value(name))] for name in wanted},
        )

    return given


def test_one_design_is_compared_with_another_seed_by_seed(
    tmp_path: Path, losses: Callable[[Callable[[str], float]], None]
) -> None:
    ratios = {"squeeze ratio 0.125": 0.3, "squeeze ratio 0.5": 0.25, "squeeze ratio 0.75": 0.2, "squeeze ratio 1": 0.1}
    losses(ratios.__getitem__)
    verdict, found = measured("squeeze-gain", tmp_path)
    assert (verdict, found.values) == (Verdict.REPRODUCED, (pytest.approx(1.5), pytest.approx(1.5)))
    chart = found.charts[0]
    assert chart.series[0].x == (0.125, 0.5, 0.75, 1)
    assert chart.series[0].y == tuple(pytest.approx(1.5 * loss) for loss in ratios.values())
    # Half as much loss beyond 0.75 is no flat curve.
    verdict, found = measured("squeeze-end", tmp_path)
    assert (verdict, found.values) == (Verdict.NOT_REPRODUCED, (pytest.approx(2), pytest.approx(2)))


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("share-gain", Verdict.NOT_REPRODUCED),
        ("share-end", Verdict.REPRODUCED),
        ("late-pooling", Verdict.NOT_REPRODUCED),
        ("simple-bypass", Verdict.NOT_REPRODUCED),
        ("complex-bypass", Verdict.NOT_REPRODUCED),
        ("simple-over-complex", Verdict.NOT_REPRODUCED),
    ],
)
def test_equal_designs_show_no_gain(
    name: str, verdict: Verdict, tmp_path: Path, losses: Callable[[Callable[[str], float]], None]
) -> None:
    losses(lambda design: 0.5)
    assert measured(name, tmp_path)[0] is verdict


@pytest.mark.parametrize("budget", Budget)
def test_designs_are_points_of_the_papers_design_space(budget: Budget, tmp_path: Path) -> None:
    here = setting(tmp_path, budget)
    plain, early = Design().spec(here), Design(early=True).spec(here)
    assert cost_of(SqueezeNet, plain).params == cost_of(SqueezeNet, early).params
    assert cost_of(SqueezeNet, plain).macs > cost_of(SqueezeNet, early).macs
    for designs in (SQUEEZE_RATIOS, SHARES):
        costs = [cost_of(SqueezeNet, design.spec(here)).params for design in designs.values()]
        assert costs == sorted(costs)
        assert len(set(costs)) == len(costs)
    simple, complex_ = (BYPASSES[name].spec(here) for name in ("simple bypass", "complex bypass"))
    assert cost_of(SqueezeNet, simple) == cost_of(SqueezeNet, plain)
    assert cost_of(SqueezeNet, complex_).params > cost_of(SqueezeNet, plain).params
    # What the full budget adds lies between what both budgets compare.
    assert (SQUEEZE_RATIOS | SHARES).keys() > ONLY_FULL
    # Section 5.2 varies it at half of the filters 3x3, section 5.3 these at half squeezed.
    assert {design.pct3x3 for design in SQUEEZE_RATIOS.values()} == {0.5}
    assert {design.sr for design in SHARES.values()} == {0.5}


def test_the_full_budget_trains_the_papers_network(tmp_path: Path) -> None:
    assert Design().spec(setting(tmp_path, Budget.FULL)) == replace(from_metaparameters(resolution=32), num_classes=10)


@pytest.mark.usefixtures("trained_briefly")
def test_designs_are_compared_by_their_test_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def smallest(setting: Setting, design: Design, seed: int) -> Request:
        spec = from_metaparameters(base_e=2, incr_e=0, conv1=2, stages=(1, 1), resolution=28)
        return Request(network="squeezenet", spec=spec, seed=seed, epochs=1, runtime=Runtime(autotune=False))

    monkeypatch.setattr(fire_designs, "request", smallest)
    here = replace(setting(tmp_path), seeds=(3,))
    designs = {"one": Design(), "other": Design(early=True)}
    # The same network by two names.
    found = fire_designs.compared(here, designs=designs, worse="one", better="other")
    assert found.values == (1.0,)
    loss = here.train(smallest(here, Design(), 3)).evaluate().loss
    # It has hardly learned.
    assert loss == pytest.approx(math.log(10), rel=0.2)
    assert "hardly learned" in found.inconclusive
    assert f"test loss {loss:.3g}" in dict(found.figures)["one"]
