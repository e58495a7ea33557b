"""convatlas experiment list, run, report"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from convatlas.cli.completion import topic_names
from convatlas.cli.console import (
    Column,
    Json,
    Quiet,
    duration,
    print_facts,
    print_heading,
    print_json,
    print_line,
    print_table,
    signal_exit,
)
from convatlas.cli.signals import Signaled
from convatlas.errors import UserError, unknown

if TYPE_CHECKING:
    from convatlas.experiments import Statement, StatementResult, TopicResult

experiment = typer.Typer(
    help="Test what made the networks famous: statements with a verdict from measurements.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Option(help="Folder of the results.")]
FOLDER = Path("experiments")


@experiment.command("list")
def list_topics(json: Json = False) -> None:
    """List the topics, and about how long each takes."""
    from convatlas.experiments import TOPICS

    if json:
        print_json(
            {
                "topics": [
                    {
                        "id": topic.id,
                        "title": topic.title,
                        "summary": topic.summary,
                        "source": topic.source,
                        "minutes": topic.minutes,
                    }
                    for topic in TOPICS
                ]
            }
        )
        return
    print_table(
        (
            Column("id"),
            Column("topic", wrap=True),
            Column("statements", right=True),
            Column("quick", right=True),
            Column("full, GPU", right=True),
        ),
        [
            (topic.id, topic.title, str(len(topic.statements)), *(duration(60 * minutes) for minutes in topic.minutes))
            for topic in TOPICS
        ],
    )


@experiment.command("run")
def run_topics(
    ids: Annotated[
        list[str] | None,
        typer.Argument(help="Topics, as convatlas experiment list names them.", autocompletion=topic_names),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Run all topics.")] = False,
    budget: Annotated[
        str, typer.Option(help="quick: two cores, no network access; full: the paper's setting, for a GPU.")
    ] = "quick",
    num_seeds: Annotated[int, typer.Option("--seeds", help="Repetitions of everything random.")] = 3,
    out: Folder = FOLDER,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure the statements of topics. What the folder of results already has is not measured again."""
    from convatlas.experiments import TOPICS, Budget, find, run
    from convatlas.experiments.engine.ledger import to_json
    from convatlas.training import Stopped

    if bool(ids) == everything:
        raise UserError("name topics, or give --all; convatlas experiment list shows them")
    budgets = {str(one): one for one in Budget}
    if budget not in budgets:
        raise unknown("budget", budget, budgets)
    results = []
    for topic in TOPICS if everything else [find(name) for name in ids or ()]:
        if not quiet:
            print_line(f"{topic.id}: {topic.title}", bold=True, err=True)
        try:
            with StatementLines(quiet) as lines:
                results.append(
                    run(
                        topic,
                        budgets[budget],
                        num_seeds=num_seeds,
                        out=out,
                        on_statement_begin=lines.begin,
                        on_training_end=lines.add_dot,
                        on_statement_end=lines.end,
                    )
                )
        except (Stopped, Signaled) as stop:
            raise signal_exit(stop.signal, "finished measurements are kept; the same command continues") from stop
    if json:
        print_json({"results": [to_json(result) for result in results]})
        return
    for result in results:
        print_line()
        print_result(result)
    print_line()
    print_line(f"Results and charts are in {out}; to make a page of them:  convatlas experiment report --out {out}")


@experiment.command("report")
def report(out: Folder = FOLDER) -> None:
    """Write all results as one page, beside their folder: as HTML that needs no other file, and as Markdown."""
    from convatlas.experiments import TOPICS
    from convatlas.experiments.engine.report import write_reports

    for path in write_reports(out, TOPICS):
        print_line(path)


class StatementLines:
    """A line on standard error for each statement, which may take minutes, with a dot for each training that ends."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._is_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What is said of a statement that failed, or was stopped, has a line of its own.
        if self._is_begun:
            self._print("", ends=True)

    def begin(self, statement: Statement) -> None:
        self._print(f"  {statement.id}:")
        self._is_begun = True

    def add_dot(self) -> None:
        self._print(".")

    def end(self, result: StatementResult) -> None:
        self._print(f" {result.verdict} ({duration(result.seconds)})", ends=True)
        self._is_begun = False

    def _print(self, text: str, *, ends: bool = False) -> None:
        if not self._quiet:
            print_line(text, nl=ends, err=True)


def print_result(result: TopicResult) -> None:
    from convatlas.experiments.engine.report import format_measurement

    print_heading(f"{result.topic.id}: {result.headline}")
    print_table(
        (
            Column("statement", wrap=True),
            Column("measured", right=True),
            Column("threshold", right=True),
            Column("verdict"),
        ),
        [
            (one.statement.text, format_measurement(one), str(one.statement.threshold), one.verdict)
            for one in result.statements
        ],
    )
    for one in result.statements:
        if one.reason:
            print_line(f"{one.statement.id}: {one.reason}")
    print_facts([("took", duration(result.seconds)), ("seeds", str(result.num_seeds))])
