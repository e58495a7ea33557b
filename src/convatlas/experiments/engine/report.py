"""All results as one page: HTML that needs nothing beside itself, and Markdown."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from convatlas.draw import render_chart
from convatlas.draw.pages import render_page, svg_uri
from convatlas.errors import UserError
from convatlas.experiments.engine.experiment import Budget, Experiment, Part, PartResult, Result, Verdict
from convatlas.experiments.engine.ledger import RESULT, draw, folder_of, read
from convatlas.files import write
from convatlas.formatting import duration, plural

LONGER = "the longer run's result"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What there is to tell of an experiment."""

    result: Result
    """Of the quick budget, where that was run."""
    longer: Result | None
    """Of the full budget, beside it."""

    @classmethod
    def found(cls, experiment: Experiment, out: Path) -> Self | None:
        """None where neither budget was run."""
        folders = [folder_of(out, experiment, budget) for budget in Budget]
        results = [read(experiment, folder) for folder in folders if (folder / RESULT).exists()]
        if not results:
            return None
        first, *rest = results
        return cls(result=first, longer=rest[0] if rest else None)

    @property
    def experiment(self) -> Experiment:
        return self.result.experiment

    @property
    def results(self) -> tuple[Result, ...]:
        return (self.result, self.longer) if self.longer else (self.result,)

    @property
    def without_full(self) -> bool:
        return self.longer is None and self.result.budget is not Budget.FULL

    def again(self, part: Part) -> PartResult | None:
        """What the longer run says of a part."""
        return next((one for one in self.longer.parts if one.part == part), None) if self.longer else None


def write_reports(out: str | Path, experiments: tuple[Experiment, ...]) -> tuple[Path, Path]:
    """Write `OUT.html` and `OUT.md` beside the folder of results, whose charts the latter shows.

    The charts are drawn again, as what draws them is today.

    Raises:
        UserError: there is no result in it, or a damaged one.
    """
    out = Path(out)
    claims = [told for one in experiments if (told := Outcome.found(one, out))]
    if not claims:
        raise UserError(f"{out} holds no results; convatlas experiment run --all --out {out} makes them")
    for told in claims:
        for result in told.results:
            for part in result.parts:
                draw(part, folder_of(out, told.experiment, result.budget))
    paths = (out.with_name(f"{out.name}.html"), out.with_name(f"{out.name}.md"))
    values: dict[str, object] = {
        "claims": claims,
        "missing": [one for one in experiments if one.id not in {told.experiment.id for told in claims}],
        "svg": lambda drawn: svg_uri(render_chart(drawn, "svg")),
        "describe": describe,
        "unbroken": unbroken,
        "summary": summary(claims),
        "conditions": conditions,
    }
    write(paths[0], render_page("convatlas.experiments.engine", "report.html.jinja", values))
    write(paths[1], ("\n".join(markdown(claims, out)) + "\n").encode())
    return paths


def describe(one: PartResult) -> str:
    """What was measured: the mean with its deviation over seeds, or the single value."""
    if one.measured is None:
        return "–"
    mean, deviation = one.measured.mean, one.measured.deviation
    if deviation is None:
        return number(mean)
    return f"{number(mean)} ± {deviation:.2g} (n = {len(one.measured.values)})"


def number(value: float) -> str:
    """Whole numbers in full, others to four digits."""
    return f"{value:,.0f}" if value == int(value) and abs(value) < 1e15 else f"{value:.4g}"


def unbroken(words: str) -> str:
    """A number stays in one line with its unit, where that is short."""
    return re.sub(r"(?<=\d) (?=\S{1,2}\b|%)", "\N{NO-BREAK SPACE}", words)


def summary(claims: list[Outcome]) -> str:
    """How many claims and parts got which verdict."""
    told = counted([one.result for one in claims])
    longer = [one.longer for one in claims if one.longer]
    if longer:
        told += f" At the full budget, too: {counted(longer)}"
    if without := sum(one.without_full for one in claims):
        told += f" The full budget was not run for {plural(without, 'claim')}."
    return told


def counted(results: list[Result]) -> str:
    claims, parts = (
        ", ".join(f"{sum(one is verdict for one in given)} {verdict}" for verdict in Verdict)
        for given in (
            [result.verdict for result in results],
            [one.verdict for result in results for one in result.parts],
        )
    )
    num = sum(len(result.parts) for result in results)
    return f"{plural(len(results), 'claim')}: {claims}. Their {plural(num, 'part')}: {parts}."


def conditions(result: Result) -> str:
    """How it was measured; where parts were measured on several days or machines, which of them."""
    parts: dict[str, list[str]] = {}
    for one in result.parts:
        machine = ", ".join(f"{name} {value}" for name, value in one.conditions.machine.items() if value != "none")
        versions = one.conditions.versions
        where = f"{one.conditions.when}; {machine}; torch {versions['torch']}, convatlas {versions['convatlas']}"
        parts.setdefault(where, []).append(one.part.id)
    told = [where if len(parts) == 1 else f"{', '.join(ids)}: {where}" for where, ids in parts.items()]
    return (
        f"Budget {result.budget}, {plural(result.num_seeds, 'seed')}, {duration(result.seconds)} in all. "
        f"{'. '.join(told)}."
    )


def markdown(claims: list[Outcome], out: Path) -> list[str]:
    """The page, line by line."""
    lines = [
        "# The claims that made these networks famous, re-run",
        "",
        "Each claim has parts; every part has a statistic and a threshold that were written down before it was "
        "measured, and the claim takes the verdict of its worst part that was tested. `not testable at this budget`: "
        "the measurement could not tell, or takes more than the budget; the reason says which.",
        "",
        f"`convatlas experiment run --all --out {out}` measures, `convatlas experiment report --out {out}` "
        "writes this page.",
        "",
        summary(claims),
        "",
        "| claim | verdict | full budget |",
        "|---|---|---|",
    ]
    for told in claims:
        longer = "not run" if told.without_full else told.longer.describe if told.longer else "this one"
        lines.append(f"| {told.experiment.title} | {told.result.describe} | {longer} |")
    for told in claims:
        one = told.experiment
        lines += [
            "",
            f"## {one.title}",
            "",
            f"**{told.result.verdict}**, {told.result.tested} · `{one.command}` · {conditions(told.result)}",
            "",
        ]
        if told.longer:
            lines += [
                f"{LONGER.capitalize()}: **{told.longer.verdict}**, {told.longer.tested} · "
                f"`{one.command} --budget {told.longer.budget}` · {conditions(told.longer)}",
                "",
            ]
        if told.without_full:
            lines += ["The full budget was not run.", ""]
        lines += [
            f"Claim: {one.claim}",
            "",
            f"Source: {one.source}",
            "",
            f"What was done: {one.done}",
            "",
            "| part | statistic | threshold | measured | verdict |" + (f" {LONGER} | verdict |" if told.longer else ""),
            "|---|---|---|---:|---|" + ("---:|---|" if told.longer else ""),
        ]
        for given in told.result.parts:
            lines.append(
                f"| {given.part.claim} | {given.part.statistic} | {given.part.threshold} | {describe(given)} "
                f"| {given.verdict} |"
            )
            if told.longer:
                again = told.again(given.part)
                lines[-1] += f" {describe(again)} | {again.verdict} |" if again else " – | not run |"
        for given in told.result.parts:
            lines += outcome(given, given.part.id, folder_of(Path(out.name), one, told.result.budget))
            if told.longer and (again := told.again(given.part)):
                lines += outcome(
                    again, f"{given.part.id}, {LONGER}", folder_of(Path(out.name), one, told.longer.budget)
                )
        lines += ["", f"Limits: {one.limits}"]
    return lines


def outcome(given: PartResult, name: str, folder: Path) -> list[str]:
    """What is worth reading beside a part's number; its charts are in the folder."""
    measured = given.measured
    notes = [f"- {name}: {words}" for words in (given.reason, measured.note if measured else "") if words]
    lines = ["", *notes] if notes else []
    if measured:
        for drawn in measured.charts:
            lines += ["", f"![{drawn.alt_text}]({(folder / drawn.name).as_posix()}.svg)"]
        if measured.figures:
            lines += ["", f"| {name} | |", "|---|---:|", *(f"| {what} | {value} |" for what, value in measured.figures)]
    return lines
