from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import atlas
from convatlas.experiments import Budget, Verdict
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.engine.result import run_statement
from convatlas.experiments.topics.equal_cost import macs
from convatlas.experiments.topics.filter_sizes import TOPIC, at_equal_cost, paper, single_size
from convatlas.networks.googlenet import GoogLeNetSpec

STATEMENTS = {statement.id: statement for statement in TOPIC.statements}


@pytest.fixture
def quick(tmp_path: Path) -> Setting:
    return Setting(budget=Budget.QUICK, seeds=(0,), folder=tmp_path)


def test_naive_modules_are_counted(quick: Setting) -> None:
    result = run_statement(STATEMENTS["naive"], quick)
    assert result.verdict is Verdict.REPRODUCED
    assert result.measurement is not None
    assert len(result.measurement.figures) == 2


@pytest.mark.parametrize("name", ["1x1 alone", "3x3 alone", "5x5 alone", "pooling alone"])
def test_each_size_alone_costs_about_as_much_as_the_module(name: str, quick: Setting) -> None:
    variant, module = atlas.find("googlenet"), replace(paper(quick), supervised=False)
    full = variant.spec.scaled(resolution=module.resolution)
    assert isinstance(full, GoogLeNetSpec)
    single = single_size(replace(full, supervised=False))[name]
    kept = {"1x1 alone": "n1x1", "3x3 alone": "n3x3", "5x5 alone": "n5x5", "pooling alone": "pool_proj"}[name]
    for stage in single.stages:
        for sizes in stage:
            filters = {one for one in ("n1x1", "n3x3", "n5x5", "pool_proj") if getattr(sizes, one)}
            assert filters == {kept}
    assert single.pooled == (name == "pooling alone")
    assert macs(variant, at_equal_cost(single, module)) == pytest.approx(macs(variant, module), rel=0.1)
