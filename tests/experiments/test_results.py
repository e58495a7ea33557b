"""The committed results are those of this code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convatlas.experiments import TOPICS, Topic, TopicResult, run
from convatlas.experiments.engine.ledger import FORMAT, read
from convatlas.experiments.engine.report import TopicReport, markdown

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "experiments"
COMMITTED = {topic.id: read(topic, RESULTS / topic.id) for topic in TOPICS}
# By their nominal duration: the measured one also depends on what else the machine did.
FASTEST = sorted(COMMITTED.values(), key=lambda result: result.topic.minutes)[:2]
SPREAD = 0.1
"""Relative difference that another machine may make to the mean of a random statistic."""


@pytest.mark.at_once("topic", TOPICS)
def test_every_statement_has_a_result_for_its_threshold(topic: Topic) -> None:
    assert tuple(one.statement for one in COMMITTED[topic.id].statements) == topic.statements
    values = json.loads((RESULTS / topic.id / "result.json").read_text())
    assert values["format"] == FORMAT
    assert values["title"] == topic.title
    texts = [(one["text"], one["statistic"]) for one in values["statements"]]
    assert texts == [(statement.text, statement.statistic) for statement in topic.statements]


def test_the_page_is_that_of_the_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    out = Path("docs/experiments")
    reports = [report for topic in TOPICS if (report := TopicReport.read(topic, out))]
    assert out.with_suffix(".md").read_text() == markdown(reports, out)
    page = out.with_suffix(".html").read_text()
    for topic in TOPICS:
        assert f'id="{topic.id}"' in page


@pytest.mark.slow
@pytest.mark.parametrize("before", FASTEST, ids=[result.topic.id for result in FASTEST])
def test_the_fastest_come_out_as_they_are_committed(before: TopicResult, tmp_path: Path) -> None:
    again = run(before.topic, before.budget, num_seeds=before.num_seeds, out=tmp_path)
    for old, new in zip(before.statements, again.statements, strict=True):
        assert new.verdict is old.verdict, old.statement.id
        if old.measurement is None or new.measurement is None:
            assert old.measurement is new.measurement
            continue
        assert [name for name, _ in new.measurement.figures] == [name for name, _ in old.measurement.figures]
        # Another processor rounds otherwise; what was counted stays.
        spread = 3 * (old.measurement.std or 0.0)
        assert new.measurement.mean == pytest.approx(old.measurement.mean, rel=SPREAD if spread else 1e-6, abs=spread)
