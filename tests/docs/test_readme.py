"""The first page says what is so, and no more than that."""

from pathlib import Path

import convatlas as ca
from convatlas import experiments, measure
from convatlas.experiments.engine.report import TopicReport, found, wanted

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 150


def test_its_counts_are_those_of_the_ledger() -> None:
    checks = [check for one in measure.check_variants(ca.variants()) for check in one.checks]
    counts = measure.count_verdicts(checks)
    text = " ".join(README.split())
    assert (
        f"Of {len(checks)} figures that the papers print, {counts['holds']} hold in the built networks, "
        f"{counts['erratum']} are errata by what the papers themselves print, "
        f"{counts['not reproduced by our reading']} are not reproduced by our reading of what they leave open, "
        f"and {counts['not tested here']} take a training run"
    ) in text
    assert f"{len(checks)} claims with verdicts" in text
    assert f"; {len(ca.variants())} networks of these eight families" in text
    assert "eleven topics of [experiments](docs/experiments.md)" in text
    assert len(experiments.TOPICS) == 11


def test_each_finding_is_that_of_the_committed_result() -> None:
    after = README[README.index("<!-- claims: ") :]
    rows = [line.strip("| ").split(" | ") for line in after.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 8
    for text, paper, here, threshold, state, topic in rows:
        report = TopicReport.read(experiments.find(topic.strip("`")), ROOT / "docs" / "experiments")
        (statement,) = [one for one in report.topic.statements if one.text == text]
        result = report.result
        expected = (statement.paper or "–", found(statement, result.of(statement)), wanted(statement))
        assert (paper, here, threshold) == expected
        assert state == result.states[statement.id]
    assert {"confirmed", "contradicted"} <= {row[4] for row in rows}
