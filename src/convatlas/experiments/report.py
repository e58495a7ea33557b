"""All results as one page: HTML that needs nothing beside itself, and Markdown."""

from __future__ import annotations

from pathlib import Path

from convatlas.draw import chart
from convatlas.draw.pages import page, svg
from convatlas.errors import UserError
from convatlas.experiments.experiment import Experiment, PartResult, Result, Verdict
from convatlas.experiments.ledger import RESULT, read
from convatlas.files import write
from convatlas.wording import duration, plural


def write_reports(out: str | Path, experiments: tuple[Experiment, ...]) -> tuple[Path, Path]:
    """Write `OUT.html` and `OUT.md` beside the folder of results, whose charts the latter shows.

    Raises:
        UserError: there is no result in it, or a damaged one.
    """
    out = Path(out)
    results = [read(one, out / one.id) for one in experiments if (out / one.id / RESULT).exists()]
    if not results:
        raise UserError(f"{out} holds no results; convatlas experiment run --all --out {out} makes them")
    paths = (out.with_name(f"{out.name}.html"), out.with_name(f"{out.name}.md"))
    values: dict[str, object] = {
        "results": results,
        "missing": [one for one in experiments if one.id not in {result.experiment.id for result in results}],
        "svg": lambda drawn: svg(chart(drawn, "svg")),
        "worded": worded,
        "summary": summary(results),
        "conditions": conditions,
    }
    write(paths[0], page("convatlas.experiments", "report.html.jinja", values))
    write(paths[1], ("\n".join(markdown(results, out.name)) + "\n").encode())
    return paths


def worded(one: PartResult) -> str:
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


def summary(results: list[Result]) -> str:
    """How many claims and parts got which verdict."""
    claims, parts = (
        ", ".join(f"{sum(one is verdict for one in given)} {verdict}" for verdict in Verdict)
        for given in (
            [result.verdict for result in results],
            [one.verdict for result in results for one in result.parts],
        )
    )
    return f"{plural(len(results), 'claim')}: {claims}. Their {sum(len(r.parts) for r in results)} parts: {parts}."


def conditions(result: Result) -> str:
    """How it was measured."""
    machine = ", ".join(f"{name} {value}" for name, value in result.machine.items() if value != "none")
    return (
        f"Budget {result.budget}, {plural(result.num_seeds, 'seed')}, {duration(result.seconds)} in all, "
        f"{result.when}; {machine}; torch {result.versions['torch']}, convatlas {result.versions['convatlas']}."
    )


def markdown(results: list[Result], folder: str) -> list[str]:
    """The page, line by line."""
    lines = [
        "# The claims that made these networks famous, re-run",
        "",
        "Each claim has parts; every part has a statistic and a threshold that were written down before it was "
        "measured, and the claim takes the verdict of its worst part that was tested. `not testable at this budget`: "
        "the measurement could not tell, or takes more than the budget; the reason says which.",
        "",
        f"`convatlas experiment run --all --out {folder}` measures, `convatlas experiment report --out {folder}` "
        "writes this page.",
        "",
        summary(results),
    ]
    for result in results:
        one = result.experiment
        lines += [
            "",
            f"## {one.title}",
            "",
            f"**{result.verdict}**, {result.tested} · `{one.command}` · {conditions(result)}",
            "",
            f"Claim: {one.claim}",
            "",
            f"Source: {one.source}",
            "",
            f"What was done: {one.done}",
            "",
            "| part | statistic | threshold | measured | verdict |",
            "|---|---|---|---:|---|",
            *(
                f"| {given.part.claim} | {given.part.statistic} | {given.part.threshold} | {worded(given)} "
                f"| {given.verdict} |"
                for given in result.parts
            ),
        ]
        for given in result.parts:
            notes = [f"- {given.part.id}: {given.reason}"] if given.reason else []
            if given.measured and given.measured.note:
                notes.append(f"- {given.part.id}: {given.measured.note}")
            lines += ["", *notes] if notes else []
            if given.measured:
                for drawn in given.measured.charts:
                    lines += ["", f"![{drawn.alternative}]({folder}/{one.id}/{drawn.name}.svg)"]
                if given.measured.figures:
                    lines += ["", f"| {given.part.id} | |", "|---|---:|"]
                    lines += [f"| {name} | {value} |" for name, value in given.measured.figures]
        lines += ["", f"Limits: {one.limits}"]
    return lines
