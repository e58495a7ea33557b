from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.experiments import Budget, Verdict
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.topics import small_filters
from convatlas.experiments.topics.small_filters import STACKS, TOPIC, stack
from convatlas.networks.vgg import VGGSpec

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
