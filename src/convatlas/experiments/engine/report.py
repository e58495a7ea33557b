"""All results as one page: HTML that needs no other file, and Markdown."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Self

from convatlas.draw import render_chart
from convatlas.draw.pages import render_page, svg_uri
from convatlas.errors import UserError
from convatlas.experiments.engine.budget import Budget
from convatlas.experiments.engine.estimate import Basis, Estimate
from convatlas.experiments.engine.ledger import RESULT, read, result_folder, save_charts, topic_result
from convatlas.experiments.engine.result import StatementResult, TopicResult
from convatlas.experiments.engine.statement import Measurement, Quoted, Role, Statement, Topic
from convatlas.experiments.engine.verdict import MAX_P, State, TopicState
from convatlas.files import write
from convatlas.formatting import duration, plural

TITLE = "What made these networks famous, tested"
INTRODUCTION = (
    "Each topic is a group of statements. Every statement has a test bed, a figure and a threshold that were written "
    "down before it was measured. A topic's state rests on its central statements alone: figures that are counted from "
    "the networks, and what is said at the edge of a topic, do not change it. Of CIFAR-10, 10,000 images are held out "
    "to test: its first 1,000 test images and the last 9,000 of its training images, on which no network trains at the "
    "standard budget."
)
LEGEND = (
    (
        "confirmed",
        "the figure lies inside the threshold; where chance has a part, all of the interval does, and the test is "
        "adjusted for all central statements about trained networks of its topic (Holm 1979)",
    ),
    ("same direction, smaller", "there is an effect, and it is smaller than the threshold"),
    (
        "inconclusive",
        "the interval is too wide, by itself or for one of several tests; it says which effect could have been told",
    ),
    ("contradicted", "the whole interval, which is not adjusted, lies on the wrong side"),
    (
        "invalid",
        "a precondition failed: a network has not learned, or its best learning rate is at an end of those that were "
        "tried; no effect is shown",
    ),
    ("not run", "it says which budget measures it"),
    ("supported", "of a topic: all central statements are confirmed"),
    ("partly supported", "one or more are confirmed, none is contradicted"),
    ("disputed", "one or more are contradicted"),
    ("undecided", "none is confirmed or contradicted yet"),
)
ROLES = {Role.PERIPHERAL: "peripheral", Role.FOLKLORE: "folklore", Role.COUNT: "counted"}
DASH = "–"
LEARNING = ("training error", "learning rate", "computed in")
"""What the figures begin with that tell how networks learned, and not how they compare."""


@dataclass(frozen=True, kw_only=True)
class TopicReport:
    """A topic's results: those that are shown, and those of the full budget."""

    result: TopicResult
    """At the standard budget, and of the quick one what standard has not measured yet; of a topic that was never run,
    none."""
    full: TopicResult | None
    """At the full budget; None where it was not run."""

    @classmethod
    def read(cls, topic: Topic, out: Path) -> Self:
        """From the folder of results.

        Raises:
            UserError: a result is damaged.
        """
        found = {
            budget: read(topic, budget, out)
            for budget in Budget
            if (result_folder(out, topic, budget) / RESULT).exists()
        }
        quick, standard = (found.get(budget) for budget in (Budget.QUICK, Budget.STANDARD))
        shown = with_rest(standard, quick) if standard and quick else standard or quick
        return cls(result=shown or topic_result(topic, Budget.QUICK, 0, {}, {}), full=found.get(Budget.FULL))

    @property
    def topic(self) -> Topic:
        return self.result.topic

    @property
    def is_run(self) -> bool:
        """Whether there is any result, be it of what was asked before."""
        return bool(self.result.results or self.result.outdated or self.full)

    @property
    def results(self) -> tuple[TopicResult, ...]:
        return (self.result, self.full) if self.full else (self.result,)

    @property
    def measured(self) -> list[Statement]:
        """Central statements first, then counts, then what the topic's state does not rest on."""
        ordered = sorted(self.topic.statements, key=lambda one: list(Role).index(one.role))
        return [one for one in ordered if any(result.of(one) for result in self.results)]

    @property
    def waiting(self) -> list[Statement]:
        """Those that no budget has measured."""
        return [one for one in self.topic.statements if one not in self.measured]


def with_rest(standard: TopicResult, quick: TopicResult) -> TopicResult:
    """What standard has measured, and of quick the rest: what trains nothing is measured alike by both."""
    done = {one.statement.id: one for one in (*quick.results, *standard.results)}
    outdated = quick.outdated | standard.outdated
    return topic_result(standard.topic, standard.budget, standard.num_seeds, done, {}, outdated)


def write_reports(out: str | Path, topics: Sequence[Topic], quoted: Sequence[Quoted]) -> tuple[Path, Path]:
    """Write `OUT.html` and `OUT.md` beside the folder of results. The Markdown shows the charts in that folder.

    The charts are drawn anew, so that they look as today's code draws them.

    Raises:
        UserError: there is no result in `out`, or a damaged one.
    """
    out = Path(out)
    reports = [TopicReport.read(topic, out) for topic in topics]
    if not any(report.is_run for report in reports):
        raise UserError(f"{out} holds no results; convatlas experiment run --all --out {out} makes them")
    for report in reports:
        for result in report.results:
            for one in result.results:
                save_charts(one, result_folder(out, report.topic, result.budget))
    paths = (out.with_name(f"{out.name}.html"), out.with_name(f"{out.name}.md"))
    values: dict[str, object] = {
        "title": TITLE,
        "introduction": INTRODUCTION,
        "legend": LEGEND,
        "roles": ROLES,
        "summary": summarize(reports),
        "reports": reports,
        "quoted": quoted,
        "svg": lambda drawn: svg_uri(render_chart(drawn, "svg")),
        "found": found,
        "shown": shown,
        "describe_sample": describe_sample,
        "told": told,
        "wanted": wanted,
        "tally": tally,
        "tally_central": tally_central,
        "tally_waiting": tally_waiting,
        "unbroken": unbroken,
        "describe_conditions": describe_conditions,
    }
    write(paths[0], render_page("convatlas.experiments.engine", "report.html.jinja", values))
    write(paths[1], markdown(reports, quoted, out).encode())
    return paths


def found(statement: Statement, result: StatementResult | None) -> str:
    """The figure with its unit, and its interval or range; a dash where nothing was measured or nothing is valid."""
    if result is None or result.measurement.failed:
        return DASH
    estimate = result.measurement.estimate
    return with_unit(format_number(estimate.center), statement.unit) + format_ends(estimate)


def shown(measurement: Measurement) -> Measurement:
    """What is shown of a measurement: where a precondition failed, nothing that tells the effect."""
    if not measurement.failed:
        return measurement
    learning = tuple(row for row in measurement.figures if row[0].startswith(LEARNING))
    return replace(measurement, figures=learning, charts=(), note="")


def wanted(statement: Statement) -> str:
    """The threshold with its unit."""
    return with_unit(str(statement.threshold), statement.unit)


def with_unit(number: str, unit: str) -> str:
    """ "5 points", "at least 1 point"."""
    if number.split()[-1] == "1":
        unit = unit.removesuffix("s")
    return f"{number} {unit}" if unit else number


def format_ends(estimate: Estimate) -> str:
    """ " (1.2 to 3.4)", or nothing for a figure without chance."""
    if estimate.basis is Basis.COUNT:
        return ""
    if math.isinf(estimate.high):
        return " (one seed)"
    return f" ({format_number(estimate.low)} to {format_number(estimate.high)})"


def format_number(value: float) -> str:
    """Whole numbers and those above a thousand in full, others to three digits."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e15 or value == int(value) else f"{value:.3g}"


def describe_sample(result: StatementResult) -> str:
    """What the figure and its ends rest on, in words."""
    estimate, most = result.measurement.estimate, result.statement.max_training_error
    match estimate.basis:
        case Basis.COUNT:
            sample = "counted, no interval" if result.statement.is_learned else "counted, without chance"
        case Basis.TIMINGS:
            sample = f"median and range of {len(estimate.values)} processes"
        case Basis.SEEDS:
            images = f" x {plural(estimate.num_images, 'test image')}" if estimate.num_images else ""
            sample = f"mean and 95 % confidence interval, {plural(len(estimate.values), 'seed')}{images}"
    # Which precondition failed stands beside the state.
    if most is None or result.measurement.failed:
        return sample
    return f"{sample}; precondition, a training error of at most {most:g} % of the better network: met"


def told(statement: Statement, result: TopicResult) -> str:
    """Why a statement has its state, where that is not plain from its figure."""
    state, one = result.states[statement.id], result.of(statement)
    if one is None:
        return result.missing[statement.id]
    if state is State.INVALID:
        return one.measurement.failed
    estimate = one.measurement.estimate
    detectable = estimate.detectable(result.levels.get(statement.id, MAX_P))
    if state is State.INCONCLUSIVE and estimate.basis is Basis.SEEDS and math.isfinite(detectable):
        if estimate.is_ratio:
            return f"a ratio {format_number(detectable)} times away from the threshold could have been told"
        away = with_unit(format_number(detectable), statement.unit)
        edge = "the threshold" if math.inf in (-statement.threshold.low, statement.threshold.high) else "either edge"
        return f"{away} away from {edge} could have been told"
    return ""


def tally(result: TopicResult) -> str:
    """ "9 of 9", of the counted figures; a dash where there are none."""
    agree, num_counted = result.counts
    return f"{agree} of {num_counted}" if num_counted else DASH


def tally_central(result: TopicResult) -> str:
    """ "2 confirmed, 1 not run", of the central statements."""
    return tally_states([result.states[one.id] for one in result.topic.statements if one.role is Role.CENTRAL], State)


def tally_waiting(report: TopicReport) -> str:
    """How many statements were not measured, and what the budgets that measure them take."""
    minutes: dict[Budget, float] = {}
    for one in report.waiting:
        minutes[one.needs] = minutes.get(one.needs, 0.0) + one.minutes
    needs = [f"--budget {budget}" + (f", about {each:.0f} min" if each else "") for budget, each in minutes.items()]
    return f"{plural(len(report.waiting), 'statement')} not run yet: {'; '.join(needs)}"


def unbroken(text: str) -> str:
    """A number stays in one line with its unit, where that is short."""
    return re.sub(r"(?<=\d) (?=\S{1,2}\b|%)", "\N{NO-BREAK SPACE}", text)


def summarize(reports: Sequence[TopicReport]) -> str:
    """How many topics and central statements have which state."""
    of_topics = [report.result.state for report in reports]
    central = [
        report.result.states[one.id]
        for report in reports
        for one in report.topic.statements
        if one.role is Role.CENTRAL
    ]
    agree, num_counted = (sum(each) for each in zip(*(report.result.counts for report in reports), strict=True))
    return (
        f"{plural(len(reports), 'topic')}: {tally_states(of_topics, TopicState)}. "
        f"{plural(len(central), 'central statement')}: {tally_states(central, State)}. "
        f"{agree} of {num_counted} counted figures agree."
    )


def tally_states(states: Sequence[StrEnum], kind: type[StrEnum]) -> str:
    """ "3 confirmed, 1 not run", in the order of their kind."""
    return ", ".join(f"{num} {state}" for state in kind if (num := states.count(state)))


def describe_conditions(result: TopicResult) -> str:
    """Budget, seeds, duration, day, machine and versions; the statements by name where they differ in these."""
    statements: dict[str, list[str]] = {}
    for one in result.results:
        machine = ", ".join(f"{name} {value}" for name, value in one.conditions.machine.items() if value != "none")
        versions = one.conditions.versions
        commit = f" ({one.conditions.commit})" if one.conditions.commit else ""
        where = (
            f"{one.conditions.when}; {machine}; torch {versions['torch']}, convatlas {versions['convatlas']}{commit}"
        )
        statements.setdefault(where, []).append(one.statement.id)
    groups = [where if len(statements) == 1 else f"{', '.join(ids)}: {where}" for where, ids in statements.items()]
    numbers = numbers_of_seeds(result)
    seeds = f"{numbers} seed{'s' if numbers != '1' else ''}, " if numbers else ""
    return f"Budget {result.budget}, {seeds}{duration(result.seconds)} in all. {'. '.join(groups)}."


def numbers_of_seeds(result: TopicResult) -> str:
    """ "3", "3 or 5", of what has seeds; empty where nothing has."""
    estimates = [one.measurement.estimate for one in result.results]
    return " or ".join(map(str, sorted({len(one.values) for one in estimates if one.basis is Basis.SEEDS})))


def markdown(reports: Sequence[TopicReport], quoted: Sequence[Quoted], out: Path) -> str:
    """The page as Markdown."""
    shown = [report.result for report in reports]
    lines = [
        f"# {TITLE}",
        "",
        INTRODUCTION,
        "",
        summarize(reports),
        "",
        "| topic | state | central statements | counts that agree |",
        "|---|---|---|---|",
        *(f"| {one.topic.title} | {one.state} | {tally_central(one)} | {tally(one)} |" for one in shown),
        "",
        *(f"- *{name}*: {meaning}" for name, meaning in LEGEND),
        "",
        f"`convatlas experiment run --all --budget standard --out {out}` measures, `convatlas experiment report --out "
        f"{out}` writes this page.",
    ]
    for report in reports:
        lines += topic_lines(report, Path(out.name))
    lines += [
        "",
        "## Quoted, not measurable here",
        "",
        "| what is said | source | what a test would take |",
        "|---|---|---|",
        *(f"| {one.text} | {one.source} | {one.why} |" for one in quoted),
    ]
    return "\n".join(lines) + "\n"


def topic_lines(report: TopicReport, folder: Path) -> list[str]:
    """One topic's section; `folder` is that of the results, as the page links to it."""
    topic, result, full = report.topic, report.result, report.full
    lines = [
        "",
        f"## {topic.title}",
        "",
        f"**{result.state}** · {topic.summary}",
    ]
    if report.measured:
        lines += ["", "| statement | paper | here | confirmed if | state | test bed |", "|---|---|---:|---|---|---|"]
    for one in report.measured:
        why = told(one, result)
        state = f"{result.states[one.id]}; {why}" if why else str(result.states[one.id])
        lines.append(
            f"| {one.text}{in_role(one)} | {one.paper or DASH} | {found(one, result.of(one))} | {wanted(one)} "
            f"| {state} | {one.test_bed or DASH} |"
        )
    if report.waiting:
        lines += ["", f"<details><summary>{tally_waiting(report)}</summary>", ""]
        lines += ["| statement | paper | confirmed if | why not run | test bed |", "|---|---|---|---|---|"]
        lines += [
            f"| {one.text}{in_role(one)} | {one.paper or DASH} | {wanted(one)} | {told(one, result)} "
            f"| {one.test_bed or DASH} |"
            for one in report.waiting
        ]
        lines += ["", "</details>"]
    lines += ["", "<details><summary>Source, method, charts and all figures</summary>", ""]
    lines += [f"Source: {topic.source}", "", f"Method: {topic.method}", "", f"Limitations: {topic.limitations}", ""]
    if result.results:
        lines += [f"Measured: {describe_conditions(result)} `{topic.command(result.budget)}`", ""]
    if full:
        lines += [f"Full budget: **{full.state}**. {describe_conditions(full)}", ""]
    for statement in report.measured:
        for each in report.results:
            if measured := each.of(statement):
                name = statement.id if each is result else f"{statement.id}, full budget"
                lines += details(measured, name, result_folder(folder, topic, each.budget), each)
    return [*lines, "", "</details>"]


def in_role(statement: Statement) -> str:
    """ " *(counted)*"; nothing for a central statement."""
    return f" *({ROLES[statement.role]})*" if statement.role in ROLES else ""


def details(one: StatementResult, name: str, folder: Path, result: TopicResult) -> list[str]:
    """What is folded away: the figure, note, charts, which are in the folder, and further figures."""
    statement, measurement = one.statement, shown(one.measurement)
    lines = [
        "",
        f"**{name}**: {statement.statistic}: {found(statement, one)}; {describe_sample(one)}; confirmed if "
        f"{wanted(statement)}; {result.states[statement.id]}.",
    ]
    if measurement.note:
        lines += ["", measurement.note]
    for drawn in measurement.charts:
        lines += ["", f"![{drawn.alt_text}]({(folder / drawn.name).as_posix()}.svg)"]
    if measurement.figures:
        lines += ["", f"| {name} | |", "|---|---:|", *(f"| {what} | {value} |" for what, value in measurement.figures)]
    return lines
