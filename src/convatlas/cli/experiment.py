"""convatlas experiment list, run, report"""

from __future__ import annotations

from collections.abc import Sequence
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
    from convatlas.experiments import Statement, Topic, TopicResult, Watch

experiment = typer.Typer(
    help="Test what made the networks famous: statements, each with a state that measurements give it.",
    no_args_is_help=True,
)

Folder = Annotated[Path, typer.Option(help="Folder of the results.")]
FOLDER = Path("experiments")


@experiment.command("list")
def list_topics(json: Json = False) -> None:
    """List the topics, and about how long each budget takes."""
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
                        "minutes": {
                            "quick": topic.minutes_quick,
                            "standard": topic.minutes_standard,
                            "full": topic.minutes_full,
                        },
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
            Column("standard", right=True),
            Column("full, GPU", right=True),
        ),
        [
            (
                topic.id,
                topic.title,
                str(len(topic.statements)),
                *(
                    duration(60 * minutes)
                    for minutes in (topic.minutes_quick, topic.minutes_standard, topic.minutes_full)
                ),
            )
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
        str,
        typer.Option(
            help="quick: minutes, trains nothing; standard: hours on two cores, real images; full: the papers' "
            "settings, for a GPU."
        ),
    ] = "quick",
    num_seeds: Annotated[
        int,
        typer.Option("--seeds", help="Repetitions of everything random, where a statement has no number of its own."),
    ] = 3,
    out: Folder = FOLDER,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure the statements of topics. What the folder of results already has is not measured again."""
    from convatlas.experiments import TOPICS, Budget, find, run_all
    from convatlas.experiments.engine.ledger import to_json
    from convatlas.training import Stopped

    if bool(ids) == everything:
        raise UserError("name topics, or give --all; convatlas experiment list shows them")
    budgets = {str(one): one for one in Budget}
    if budget not in budgets:
        raise unknown("budget", budget, budgets)
    topics = TOPICS if everything else [find(name) for name in dict.fromkeys(ids or ())]
    try:
        with StatementLines(quiet) as lines:
            results = run_all(topics, budgets[budget], num_seeds=num_seeds, out=out, watch=lines.watch)
    except (Stopped, Signaled) as stop:
        raise signal_exit(stop.signal, "finished measurements are kept; the same command continues") from stop
    if json:
        print_json({"results": [to_json(result) for result in results]})
    else:
        for result in results:
            print_line()
            print_result(result)
        if any(result.results for result in results):
            print_line()
            print_line(
                f"Results and charts are in {out}; to make a page of them:  convatlas experiment report --out {out}"
            )
    if absent := absent_data(results):
        raise UserError(absent)


@experiment.command("report")
def report(out: Folder = FOLDER) -> None:
    """Write all results as one page, beside their folder: as HTML that needs no other file, and as Markdown."""
    from convatlas.experiments import QUOTED, TOPICS
    from convatlas.experiments.engine.report import write_reports

    for path in write_reports(out, TOPICS, QUOTED):
        print_line(path)


class StatementLines:
    """A line on standard error for each statement, which may take hours, with a dot for each training that ends."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._is_begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # What is said of a statement that failed, or was stopped, has a line of its own.
        if self._is_begun:
            self._print("", ends=True)

    @property
    def watch(self) -> Watch:
        """What prints the lines."""
        from convatlas.experiments import Watch

        return Watch(on_statement_begin=self.begin, on_training_end=lambda: self._print("."), on_statement_end=self.end)

    def begin(self, topic: Topic, statement: Statement) -> None:
        self._print(f"{topic.id}, {statement.id}:")
        self._is_begun = True

    def end(self, result: TopicResult, statement: Statement) -> None:
        # What an earlier run measured comes without a beginning.
        if not self._is_begun:
            return
        one, state = result.of(statement), result.states[statement.id]
        self._print(f" {state}" + (f" ({duration(one.seconds)})" if one else ""), ends=True)
        self._is_begun = False

    def _print(self, text: str, *, ends: bool = False) -> None:
        if not self._quiet:
            print_line(text, nl=ends, err=True)


def print_result(result: TopicResult) -> None:
    from convatlas.experiments.engine.report import DASH, found, numbers_of_seeds, tally, told, wanted

    print_heading(f"{result.topic.id}: {result.state}")
    print_table(
        (
            Column("statement", wrap=True),
            Column("here", right=True),
            Column("confirmed if", right=True),
            Column("state"),
        ),
        [(one.text, found(one, result.of(one)), wanted(one), result.states[one.id]) for one in result.topic.statements],
    )
    for one in result.topic.statements:
        if why := told(one, result):
            print_line(f"{one.id}: {why}")
    print_facts(
        [
            ("counted figures that agree", tally(result)),
            ("took", duration(result.seconds)),
            ("seeds", numbers_of_seeds(result) or DASH),
        ]
    )


def absent_data(results: Sequence[TopicResult]) -> str:
    """Which data sets are not here, and which statements they would serve; empty if none is missed."""
    served: dict[str, list[str]] = {}
    for result in results:
        for name, why in result.absent.items():
            served.setdefault(why, []).append(f"{result.topic.id}/{name}")
    return "; ".join(f"{why}; not measured without it: {', '.join(names)}" for why, names in served.items())
