from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas, measure
from convatlas.experiments import Budget, Verdict
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.topics import small_filters
from convatlas.experiments.topics.small_filters import STACKS, TOPIC, stack
from convatlas.measure import Timing, Workload
from convatlas.networks.vgg import ConvSize, VGGSpec

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)


@pytest.mark.parametrize("name", ["convolutions", "fully-connected", "receptive-field", "parameters"])
def test_counted_statements_are_reproduced(name: str, quick: Setting) -> None:
    assert run_statement(STATEMENTS[name], quick).verdict is Verdict.REPRODUCED


def test_parameters_are_those_of_section_2_3_and_biases() -> None:
    c = small_filters.CHANNELS
    assert {name: stack(*size).params for name, size in STACKS.items()} == {
        "two 3x3": 2 * (9 * c * c + c),
        "one 5x5": 25 * c * c + c,
        "three 3x3": 3 * (9 * c * c + c),
        "one 7x7": 49 * c * c + c,
    }


def test_a_missing_convolution_is_noticed(quick: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STACKS, "three 3x3", (3, 2))
    assert run_statement(STATEMENTS["receptive-field"], quick).verdict is Verdict.NOT_REPRODUCED
    assert run_statement(STATEMENTS["parameters"], quick).verdict is Verdict.NOT_REPRODUCED


def test_the_full_budget_compares_the_paper_s_network_b(quick: Setting) -> None:
    full = replace(quick, budget=Budget.FULL)
    request = small_filters.request(full, *STACKS["two 3x3"], 0)
    paper = atlas.find("vgg13").spec
    assert isinstance(paper, VGGSpec)
    assert isinstance(request.spec, VGGSpec)
    assert (request.spec.stages, request.spec.fully) == (paper.stages, paper.fully)


def test_the_quick_budget_trains_two_narrow_stages_on_digits(quick: Setting) -> None:
    request = small_filters.request(quick, *STACKS["one 5x5"], 3)
    assert isinstance(request.spec, VGGSpec)
    assert request.spec.stages == tuple((ConvSize(width, 5),) for width in small_filters.QUICK_CHANNELS)
    assert (request.data, request.epochs, request.seed) == ("digits", small_filters.QUICK_EPOCHS, 3)


@pytest.mark.parametrize(
    ("name", "stacks", "single"), [("accuracy", "two 3x3", "one 5x5"), ("accuracy-7x7", "three 3x3", "one 7x7")]
)
def test_large_filters_are_compared_by_their_test_error(
    name: str, stacks: str, single: str, quick: Setting, trainings: Callable[..., None]
) -> None:
    two = replace(quick, seeds=(0, 1))
    trainings({stacks: [97.0, 96.0], single: [96.5, 95.5]})
    result = run_statement(STATEMENTS[name], two)
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx((0.5, 0.5))
    assert result.verdict is Verdict.REPRODUCED
    trainings({stacks: [96.0, 96.0], single: [97.0, 97.0]})
    assert run_statement(STATEMENTS[name], two).verdict is Verdict.NOT_REPRODUCED


@pytest.mark.parametrize(("vgg", "verdict"), [(4.0, Verdict.REPRODUCED), (2.0, Verdict.NOT_REPRODUCED)])
def test_a_step_of_vgg_is_compared_with_the_median_of_the_others_in_each_round(
    vgg: float, verdict: Verdict, quick: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = [name for name in small_filters.OF_EACH_FAMILY if name != "vgg16"]
    # From 0.4 to 1.6 s, the median 1.
    taken = {name: 1 + 0.2 * (place - 3) for place, name in enumerate(others)} | {"vgg16": vgg}
    timings = {name: Timing("an engine", (seconds, 2 * seconds)) for name, seconds in taken.items()}
    monkeypatch.setattr(small_filters, "training_step", lambda *given: Workload(lambda: None, "an engine"))
    monkeypatch.setattr(measure, "time_in_turn", lambda steps, repeats: {name: timings[name] for name in steps})
    result = run_statement(STATEMENTS["training-cost"], quick)
    assert result.verdict is verdict
    assert result.measurement is not None
    assert result.measurement.values == pytest.approx((vgg, vgg))
    assert result.measurement.note.endswith("slowest first: 1.")
    assert dict(result.measurement.figures)["engine"] == "an engine"
