"""convatlas experiment: what a person and a program see."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import experiments
from convatlas.cli.experiment import StatementLines
from convatlas.experiments import TOPICS
from convatlas.experiments.engine.arms import Arm
from convatlas.experiments.engine.budget import Setting
from convatlas.experiments.topics import vanishing
from convatlas.files.sealed_json import unsealed
from convatlas.training import Request


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains that are soon gone through, for two statements: one with a chart, one without."""
    monkeypatch.setattr(vanishing, "DEPTHS", (5, 10))
    statements = tuple(one for one in vanishing.TOPIC.statements if one.id in ("large", "chain-rule"))
    monkeypatch.setattr(experiments, "TOPICS", (replace(vanishing.TOPIC, statements=statements),))


def test_the_list_has_every_topic(convatlas: Callable, as_json: Callable) -> None:
    listed = as_json("experiment", "list")["topics"]
    assert [one["id"] for one in listed] == [topic.id for topic in TOPICS]
    shown = convatlas("experiment", "list").out
    assert all(topic.id in shown for topic in TOPICS)


@pytest.mark.usefixtures("quick")
def test_a_run_prints_states_and_leaves_results(convatlas: Callable, tmp_path: Path) -> None:
    out = tmp_path / "results"
    answer = convatlas("experiment", "run", "vanishing", "--out", out)
    assert answer.status == 0
    assert "vanishing: supported" in answer.out
    assert "counted figures that agree  1 of 1" in answer.out
    assert "vanishing, chain-rule: confirmed (" in answer.err
    again = convatlas("experiment", "run", "vanishing", "--out", out, "--json", "--quiet")
    assert again.err == ""
    (result,) = json.loads(again.out)["results"]
    assert (result["id"], result["verdict"]) == ("vanishing", "supported")
    assert result == unsealed(json.loads((out / "vanishing" / "quick" / "result.json").read_text()))
    answer = convatlas("experiment", "report", "--out", out)
    assert answer.out.split() == [str(tmp_path / "results.html"), str(tmp_path / "results.md")]


@pytest.mark.slow
def test_what_was_measured_earlier_is_not_told_again(quick: None, convatlas: Callable, tmp_path: Path) -> None:
    for told in (True, False):
        answer = convatlas("experiment", "run", "vanishing", "--out", tmp_path / "results")
        assert ("large: confirmed" in answer.err) == told


@pytest.mark.slow
def test_a_data_set_that_is_not_there_is_named_with_its_statements(
    convatlas: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def arms(setting: Setting) -> dict[str, Arm]:
        return {"it": Arm(request=lambda seed: Request(network="lenet5", data="nowhere/at-all", seed=seed))}

    first, second = (one for one in vanishing.TOPIC.statements if one.id in ("large", "chain-rule"))
    lacking = replace(vanishing.TOPIC, statements=(replace(first, arms=arms), second))
    monkeypatch.setattr(experiments, "TOPICS", (lacking,))
    answer = convatlas("experiment", "run", "vanishing", "--out", tmp_path / "results")
    assert answer.status == 2
    assert "vanishing, chain-rule: confirmed" in answer.err
    assert answer.err.splitlines()[-1] == (
        "convatlas: nowhere/at-all is not here: there is no folder nowhere/at-all; "
        "not measured without it: vanishing/large"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run",), "name topics, or give --all"),
        (("run", "vanishing", "--all"), "name topics, or give --all"),
        (("run", "vanishin"), "did you mean vanishing"),
        (("run", "vanishing", "--budget", "vast"), "there is no budget 'vast'; known are quick, standard, full"),
        (("run", "vanishing", "--seeds", "0"), "--seeds 0 measures nothing; it must be at least 1"),
        (("report", "--out", "nowhere"), "nowhere holds no results"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], says: str, convatlas: Callable) -> None:
    answer = convatlas("experiment", *words)
    assert answer.status == 2
    assert says in answer.err
    assert len(answer.err.splitlines()) <= 2


def test_what_a_statement_fails_with_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with StatementLines(quiet=False) as lines:
        lines.begin(vanishing.TOPIC, vanishing.TOPIC.statements[0])
        lines.watch.on_training_end()
    assert capsys.readouterr().err == f"vanishing, {vanishing.TOPIC.statements[0].id}:.\n"
