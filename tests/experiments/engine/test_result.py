"""A topic's results: states, counts, fingerprints."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Budget, Setting
from convatlas.experiments.engine.estimate import Estimate, counted, repeated
from convatlas.experiments.engine.result import (
    StatementResult,
    TopicResult,
    current_conditions,
    fingerprint,
    measure,
    seeds_of,
    source_commit,
)
from convatlas.experiments.engine.statement import Measurement, Role, Statement, Topic
from convatlas.experiments.engine.verdict import State, TopicState, at_least, exactly
from convatlas.recipe import Recipe
from convatlas.training import Request
from convatlas.training.recipes import DEFAULT

HERE = current_conditions()


def arms_with(recipe: Recipe = DEFAULT, data: str = "digits", rates: tuple[float, ...] = ()) -> Callable:
    def arms(setting: Setting) -> Mapping[str, Arm]:
        return {
            "it": Arm(request=lambda seed: Request(network="lenet5", data=data, recipe=recipe, seed=seed), rates=rates)
        }

    return arms


def statement(name: str, **more: object) -> Statement:
    values: dict[str, object] = {
        "threshold": at_least(0.0),
        "measure": lambda setting: Measurement(estimate=counted(1.0)),
    }
    return Statement(id=name, text="t", statistic="s", **(values | more))  # type: ignore[arg-type]


def result_of(given: Mapping[Statement, Estimate | str], *others: Statement) -> TopicResult:
    """Each statement with its estimate, or the precondition that failed."""
    topic = Topic(
        id="e",
        title="t",
        summary="c",
        source="s",
        method="d",
        limitations="l",
        minutes_quick=1,
        minutes_full=1,
        statements=(*given, *others),
    )
    results = tuple(
        StatementResult(
            statement=one,
            measurement=Measurement(estimate=counted(9.0), failed=each)
            if isinstance(each, str)
            else Measurement(estimate=each),
            fingerprint="",
            seconds=1.5,
            conditions=HERE,
        )
        for one, each in given.items()
    )
    return TopicResult(
        topic=topic, budget=Budget.STANDARD, num_seeds=3, results=results, missing={one.id: "later" for one in others}
    )


CLEAR = repeated((3.0, 3.1, 2.9))
BARELY = repeated((1.3, 2.3, 2.4))
"""Its p-value is a little below 0.025."""


def test_learned_central_statements_are_tested_together() -> None:
    assert 0.01 < at_least(0.0).p_value(BARELY) < 0.025
    alone = result_of({statement("a", arms=arms_with()): BARELY})
    assert alone.states == {"a": State.CONFIRMED}
    # Also where the other was not run yet.
    waiting = result_of({statement("a", arms=arms_with()): BARELY}, statement("b", arms=arms_with()))
    assert waiting.states == {"a": State.INCONCLUSIVE, "b": State.NOT_RUN}
    both = result_of({statement("a", arms=arms_with()): BARELY, statement("b", arms=arms_with()): CLEAR})
    assert both.states == {"a": State.CONFIRMED, "b": State.CONFIRMED}


@pytest.mark.parametrize("more", [{"role": Role.PERIPHERAL, "arms": arms_with()}, {}])
def test_what_the_topic_does_not_rest_on_costs_nothing(more: dict[str, object]) -> None:
    result = result_of({statement("a", arms=arms_with()): BARELY, statement("b", **more): BARELY})
    assert set(result.states.values()) == {State.CONFIRMED}


def test_a_failed_precondition_is_invalid() -> None:
    result = result_of({statement("a", arms=arms_with()): "it has not learned"})
    assert result.states == {"a": State.INVALID}
    assert result.state is TopicState.UNDECIDED


def test_counts_stand_apart() -> None:
    result = result_of(
        {
            statement("a", role=Role.COUNT, threshold=exactly(2)): counted(2),
            statement("b", role=Role.COUNT, threshold=exactly(2)): counted(3),
            statement("c"): CLEAR,
        },
        statement("d", role=Role.COUNT),
    )
    assert result.counts == (1, 2)
    assert result.state is TopicState.SUPPORTED
    assert result.seconds == 4.5


def setting(budget: Budget = Budget.STANDARD, seeds: tuple[int, ...] = (0, 1, 2)) -> Setting:
    return Setting(budget=budget, seeds=seeds, folder=Path())


def test_a_fingerprint_is_of_what_is_asked() -> None:
    one = statement("a", arms=arms_with())
    before = fingerprint(one, setting())
    # Words, roles and code are not asked.
    same = replace(one, text="better said", role=Role.PERIPHERAL, measure=lambda setting: Measurement(estimate=CLEAR))
    assert fingerprint(same, setting()) == before
    others = [
        fingerprint(replace(one, version=2), setting()),
        fingerprint(replace(one, threshold=at_least(1.0)), setting()),
        fingerprint(replace(one, no_effect=-1.0), setting()),
        fingerprint(replace(one, max_training_error=5.0), setting()),
        fingerprint(replace(one, arms=arms_with(replace(DEFAULT, lr=1.0))), setting()),
        fingerprint(replace(one, arms=arms_with(data="usps")), setting()),
        fingerprint(replace(one, arms=arms_with(rates=(0.1,))), setting()),
        fingerprint(one, setting(Budget.FULL)),
        fingerprint(one, setting(seeds=(0,))),
    ]
    assert len({before, *others}) == 1 + len(others)


def test_a_result_knows_the_commit_of_its_source(tmp_path: Path) -> None:
    package = tmp_path / "src"
    package.mkdir()
    module = package / "__init__.py"
    module.write_text("")

    def git(*arguments: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tmp_path), *author, *arguments], check=True, capture_output=True)

    assert source_commit(package) == ""
    git("init")
    git("commit", "--allow-empty", "-m", "of somebody else")
    assert source_commit(package) == ""
    git("add", ".")
    git("commit", "-m", "the package")
    commit = source_commit(package)
    assert re.fullmatch("[0-9a-f]{7,}", commit)
    module.write_text("changed")
    assert source_commit(package) == f"{commit}-dirty"


def test_a_statement_may_have_seeds_of_its_own_at_standard() -> None:
    own = statement("a", num_seeds=5)
    assert seeds_of(own, Budget.STANDARD, 3) == (0, 1, 2, 3, 4)
    assert seeds_of(own, Budget.FULL, 3) == seeds_of(statement("b"), Budget.STANDARD, 3) == (0, 1, 2)


def test_a_bug_in_a_measurement_is_no_result() -> None:
    def broken(setting: Setting) -> Measurement:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(statement("a", measure=broken), setting())
