"""convatlas experiment list, run, report"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    ids: Annotated[list[str] | None, typer.Argument(help="Topics, as convatlas experiment list names them.")] = None,
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
        begin, training_end, end = (ignore, nothing, ignore) if quiet else (show_begin, show_training, show_end)
        try:
            results.append(
                run(
                    topic,
                    budgets[budget],
                    num_seeds=num_seeds,
                    out=out,
                    on_statement_begin=begin,
                    on_training_end=training_end,
                    on_statement_end=end,
                )
            )
        except (Stopped, Signaled) as stop:
            if not quiet:
                # Ends the line that the statement at hand began.
                print_line(err=True)
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


def ignore(what: object) -> None:
    pass


def nothing() -> None:
    pass


def show_begin(statement: Statement) -> None:
    """Begin a line on standard error: the statement may take minutes."""
    print_line(f"  {statement.id}:", nl=False, err=True)


def show_training() -> None:
    """Add a dot to the line for each training that ends."""
    print_line(".", nl=False, err=True)


def show_end(result: StatementResult) -> None:
    """End the line."""
    print_line(f" {result.verdict} ({duration(result.seconds)})", err=True)


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
