"""The committed results are those of this code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from convatlas.experiments import EXPERIMENTS, Experiment, Result, run
from convatlas.experiments.engine.ledger import asked, read

RESULTS = Path(__file__).parents[2] / "docs" / "experiments"
BEFORE = {one.id: read(one, RESULTS / one.id) for one in EXPERIMENTS}
# By what they are expected to take: what they took was also a matter of what else the machine did.
FASTEST = sorted(BEFORE.values(), key=lambda result: result.experiment.minutes)[:2]
SPREAD = 0.1
"""Relative difference that another machine may make to a mean that chance decides."""


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=[one.id for one in EXPERIMENTS])
def test_every_part_was_run_as_it_is_asked_today(experiment: Experiment) -> None:
    told = json.loads((RESULTS / experiment.id / "result.json").read_text())
    assert [part.id for part in experiment.parts] == [one["id"] for one in told["parts"]]
    for part, one in zip(experiment.parts, told["parts"], strict=True):
        assert asked(part).items() <= one.items()


def test_the_report_is_that_of_the_results() -> None:
    page, text = RESULTS.with_suffix(".html").read_text(), RESULTS.with_suffix(".md").read_text()
    for one in EXPERIMENTS:
        assert f'id="{one.id}"' in page
        assert f"## {one.title}" in text
        assert f"**{BEFORE[one.id].verdict}**" in text.split(f"## {one.title}")[1]


def test_the_readme_has_the_verdicts() -> None:
    readme = (RESULTS.parents[1] / "README.md").read_text()
    for one in EXPERIMENTS:
        assert f"| {one.title} | {BEFORE[one.id].describe} |" in readme


@pytest.mark.parametrize("before", FASTEST, ids=[result.experiment.id for result in FASTEST])
def test_the_fastest_come_out_as_they_are_committed(before: Result, tmp_path: Path) -> None:
    again = run(before.experiment, before.budget, num_seeds=before.num_seeds, out=tmp_path)
    for old, new in zip(before.parts, again.parts, strict=True):
        assert new.verdict is old.verdict, old.part.id
        if old.measured is None or new.measured is None:
            assert old.measured is new.measured
            continue
        # Another processor rounds otherwise; what was counted stays.
        spread = 3 * (old.measured.deviation or 0.0)
        assert new.measured.mean == pytest.approx(old.measured.mean, rel=SPREAD if spread else 1e-6, abs=spread)
