"""The page of experiments: every statement with its figure and state, from a folder of results."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convatlas.draw import Chart, render_chart
from convatlas.errors import UserError
from convatlas.experiments import QUOTED, TOPICS
from convatlas.experiments.engine import report
from convatlas.experiments.engine.budget import Budget
from convatlas.experiments.engine.ledger import topic_result
from convatlas.experiments.engine.report import TopicReport

TONES = {
    "confirmed": "yes",
    "supported": "yes",
    "contradicted": "no",
    "disputed": "no",
    "same direction, smaller": "partly",
    "partly supported": "partly",
}
"""How states are colored."""


@dataclass(frozen=True, kw_only=True)
class ResultsPage:
    """What the page of experiments shows."""

    values: dict[str, object]
    """For its template."""
    charts: dict[str, bytes]
    """Files, by their paths."""


def results_page(folder: Path | None) -> ResultsPage:
    """
    Args:
        folder: of results; None: without results.

    Raises:
        UserError: it holds no results, or a damaged one.
    """
    if folder is None:
        reports = [TopicReport(result=topic_result(topic, Budget.QUICK, 0, {}, {}), full=None) for topic in TOPICS]
    else:
        reports = [TopicReport.read(topic, folder) for topic in TOPICS]
        if not any(one.is_run for one in reports):
            raise UserError(f"{folder} holds no results; convatlas experiment run --all --out {folder} makes them")
    charts = {
        chart_path(one.topic.id, result.budget, chart, file_format): render_chart(chart, file_format)
        for one in reports
        for result in one.results
        for measured in result.results
        for chart in measured.measurement.charts
        for file_format in ("svg", "pdf")
    }
    return ResultsPage(
        values={
            "reports": reports,
            "is_run": folder is not None,
            "introduction": report.INTRODUCTION,
            "summary": report.summarize(reports),
            "legend": report.LEGEND,
            "roles": report.ROLES,
            "tones": TONES,
            "quoted": QUOTED,
            "chart_path": chart_path,
            "found": report.found,
            "told": report.told,
            "wanted": report.wanted,
            "tally_central": report.tally_central,
            "tally_waiting": report.tally_waiting,
            "unbroken": report.unbroken,
            "describe_sample": report.describe_sample,
            "describe_conditions": report.describe_conditions,
        },
        charts=charts,
    )


def chart_path(topic: str, budget: str, chart: Chart, file_format: str = "svg") -> str:
    """The path of a chart's file."""
    return f"charts/{topic}-{budget}-{chart.name}.{file_format}"
