"""All results as one page: HTML that needs no other file, and Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from convatlas.draw import render_chart
from convatlas.draw.pages import render_page, svg_uri
from convatlas.errors import UserError
from convatlas.experiments.engine.budget import Budget
from convatlas.experiments.engine.ledger import RESULT, read, result_folder, save_charts
from convatlas.experiments.engine.result import StatementResult, TopicResult
from convatlas.experiments.engine.statement import Statement, Topic
from convatlas.experiments.engine.verdict import Verdict
from convatlas.files import write
from convatlas.formatting import duration, plural

INTRODUCTION = (
    "Each topic is a group of statements. Every statement has a statistic and a threshold that were written down "
    "before it was measured. The topic takes the worst verdict among its statements that were tested. A statement is "
    "not testable at a budget if its measurement is inconclusive or needs more than the budget allows; the reason is "
    "given."
)


@dataclass(frozen=True, kw_only=True)
class TopicReport:
    """A topic's results at both budgets."""

    result: TopicResult
    """At the quick budget, or at the full budget where only that was run."""
    full: TopicResult | None
    """At the full budget, where both were run."""

    @classmethod
    def read(cls, topic: Topic, out: Path) -> Self | None:
        """None where neither budget was run."""
        folders = [result_folder(out, topic, budget) for budget in Budget]
        results = [read(topic, folder) for folder in folders if (folder / RESULT).exists()]
        if not results:
            return None
        first, *rest = results
        return cls(result=first, full=rest[0] if rest else None)

    @property
    def topic(self) -> Topic:
        return self.result.topic

    @property
    def results(self) -> tuple[TopicResult, ...]:
        return (self.result, self.full) if self.full else (self.result,)

    @property
    def without_full(self) -> bool:
        return self.full is None and self.result.budget is not Budget.FULL

    def at_full(self, statement: Statement) -> StatementResult | None:
        """A statement's result at the full budget, where both were run."""
        results = self.full.statements if self.full else ()
        return next((one for one in results if one.statement == statement), None)


def write_reports(out: str | Path, topics: tuple[Topic, ...]) -> tuple[Path, Path]:
    """Write `OUT.html` and `OUT.md` beside the folder of results. The Markdown shows the charts in that folder.

    The charts are drawn anew, so that they look as today's code draws them.

    Raises:
        UserError: there is no result in `out`, or a damaged one.
    """
    out = Path(out)
    reports = [report for topic in topics if (report := TopicReport.read(topic, out))]
    if not reports:
        raise UserError(f"{out} holds no results; convatlas experiment run --all --out {out} makes them")
    for report in reports:
        for result in report.results:
            for one in result.statements:
                save_charts(one, result_folder(out, report.topic, result.budget))
    paths = (out.with_name(f"{out.name}.html"), out.with_name(f"{out.name}.md"))
    values: dict[str, object] = {
        "introduction": INTRODUCTION,
        "reports": reports,
        "missing": [topic for topic in topics if topic.id not in {report.topic.id for report in reports}],
        "svg": lambda drawn: svg_uri(render_chart(drawn, "svg")),
        "format_measurement": format_measurement,
        "unbroken": unbroken,
        "summary": summarize(reports),
        "describe_conditions": describe_conditions,
    }
    write(paths[0], render_page("convatlas.experiments.engine", "report.html.jinja", values))
    write(paths[1], markdown(reports, out).encode())
    return paths


def format_measurement(result: StatementResult) -> str:
    """The mean with its standard deviation, or the single value; a dash where nothing was measured."""
    if result.measurement is None:
        return "–"
    mean, std = result.measurement.mean, result.measurement.std
    if std is None:
        return format_number(mean)
    return f"{format_number(mean)} ± {std:.2g} (n = {len(result.measurement.values)})"


def format_number(value: float) -> str:
    """Whole numbers in full, others to four digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def unbroken(text: str) -> str:
    """A number stays in one line with its unit, where that is short."""
    return re.sub(r"(?<=\d) (?=\S{1,2}\b|%)", "\N{NO-BREAK SPACE}", text)


def summarize(reports: list[TopicReport]) -> str:
    """How many topics and statements have which verdict."""
    summary = count_verdicts([report.result for report in reports])
    if full := [report.full for report in reports if report.full]:
        summary += f" At the full budget, {count_verdicts(full)}"
    if num_without := sum(report.without_full for report in reports):
        summary += f" The full budget was not run for {plural(num_without, 'topic')}."
    return summary


def count_verdicts(results: list[TopicResult]) -> str:
    of_topics = [result.verdict for result in results]
    of_statements = [one.verdict for result in results for one in result.statements]
    topics, statements = (
        ", ".join(f"{num} {verdict}" for verdict in Verdict if (num := verdicts.count(verdict)))
        for verdicts in (of_topics, of_statements)
    )
    return f"{plural(len(of_topics), 'topic')}: {topics}. {plural(len(of_statements), 'statement')}: {statements}."


def describe_conditions(result: TopicResult) -> str:
    """Budget, seeds, duration, day, machine and versions; the statements by name where they differ in these."""
    statements: dict[str, list[str]] = {}
    for one in result.statements:
        machine = ", ".join(f"{name} {value}" for name, value in one.conditions.machine.items() if value != "none")
        versions = one.conditions.versions
        where = f"{one.conditions.when}; {machine}; torch {versions['torch']}, convatlas {versions['convatlas']}"
        statements.setdefault(where, []).append(one.statement.id)
    groups = [where if len(statements) == 1 else f"{', '.join(ids)}: {where}" for where, ids in statements.items()]
    return (
        f"Budget {result.budget}, {plural(result.num_seeds, 'seed')}, {duration(result.seconds)} in all. "
        f"{'. '.join(groups)}."
    )


def markdown(reports: list[TopicReport], out: Path) -> str:
    """The page as Markdown."""
    lines = [
        "# What made these networks famous, tested",
        "",
        INTRODUCTION,
        "",
        f"`convatlas experiment run --all --out {out}` measures, `convatlas experiment report --out {out}` "
        "writes this page.",
        "",
        summarize(reports),
        "",
        "| topic | verdict | full budget |",
        "|---|---|---|",
    ]
    for report in reports:
        full = "not run" if report.without_full else report.full.headline if report.full else "this one"
        lines.append(f"| {report.topic.title} | {report.result.headline} | {full} |")
    for report in reports:
        lines += topic_lines(report, Path(out.name))
    return "\n".join(lines) + "\n"


def topic_lines(report: TopicReport, folder: Path) -> list[str]:
    """One topic's section; `folder` is that of the results, as the page links to it."""
    topic, result, full = report.topic, report.result, report.full
    lines = [
        "",
        f"## {topic.title}",
        "",
        f"**{result.verdict}**, {result.coverage} · `{topic.command}` · {describe_conditions(result)}",
        "",
    ]
    if full:
        lines += [
            f"Full budget: **{full.verdict}**, {full.coverage} · `{topic.command} --budget {full.budget}` · "
            f"{describe_conditions(full)}",
            "",
        ]
    if report.without_full:
        lines += ["The full budget was not run.", ""]
    lines += [
        f"Summary: {topic.summary}",
        "",
        f"Source: {topic.source}",
        "",
        f"Method: {topic.method}",
        "",
        "| statement | statistic | threshold | measured | verdict |" + (" full budget | verdict |" if full else ""),
        "|---|---|---|---:|---|" + ("---:|---|" if full else ""),
    ]
    for one in result.statements:
        statement = one.statement
        lines.append(
            f"| {statement.text} | {statement.statistic} | {statement.threshold} | {format_measurement(one)} "
            f"| {one.verdict} |"
        )
        if full:
            again = report.at_full(statement)
            lines[-1] += f" {format_measurement(again)} | {again.verdict} |" if again else " – | not run |"
    for one in result.statements:
        lines += details(one, one.statement.id, result_folder(folder, topic, result.budget))
        if full and (again := report.at_full(one.statement)):
            lines += details(again, f"{one.statement.id}, full budget", result_folder(folder, topic, full.budget))
    return [*lines, "", f"Limitations: {topic.limitations}"]


def details(result: StatementResult, name: str, folder: Path) -> list[str]:
    """What stands below the table: reason, note, charts, which are in the folder, and further figures."""
    measurement = result.measurement
    notes = [f"- {name}: {text}" for text in (result.reason, measurement.note if measurement else "") if text]
    lines = ["", *notes] if notes else []
    if measurement:
        for drawn in measurement.charts:
            lines += ["", f"![{drawn.alt_text}]({(folder / drawn.name).as_posix()}.svg)"]
        if measurement.figures:
            lines += [
                "",
                f"| {name} | |",
                "|---|---:|",
                *(f"| {what} | {value} |" for what, value in measurement.figures),
            ]
    return lines
