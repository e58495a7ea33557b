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
    print_table,
    signal_exit,
)
from convatlas.errors import UserError

if TYPE_CHECKING:
    from convatlas.experiments import Part, PartResult, Result

experiment = typer.Typer(help="The claims that made the networks famous, re-run with a verdict.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="The folder of results.")]
FOLDER = Path("experiments")


@experiment.command("list")
def list_experiments(json: Json = False) -> None:
    """The claims, and about how long each takes."""
    from convatlas.experiments import EXPERIMENTS

    if json:
        print_json(
            {
                "experiments": [
                    {"id": one.id, "title": one.title, "claim": one.claim, "source": one.source, "minutes": one.minutes}
                    for one in EXPERIMENTS
                ]
            }
        )
        return
    print_table(
        (
            Column("id"),
            Column("claim", wrap=True),
            Column("parts", right=True),
            Column("quick", right=True),
            Column("full, GPU", right=True),
        ),
        [
            (one.id, one.title, str(len(one.parts)), *(duration(60 * minutes) for minutes in one.minutes))
            for one in EXPERIMENTS
        ],
    )


@experiment.command("run")
def run_experiments(
    ids: Annotated[list[str] | None, typer.Argument(help="Names from convatlas experiment list.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    budget: Annotated[str, typer.Option(help="quick: two cores, no network; full: the paper's setting.")] = "quick",
    seeds: Annotated[int, typer.Option(help="How often what chance decides is repeated.")] = 3,
    out: Folder = FOLDER,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Re-run claims; what is in the folder of results already is not run again."""
    from convatlas.experiments import BUDGETS, EXPERIMENTS, find, run
    from convatlas.experiments.engine.ledger import values
    from convatlas.training import Stopped

    if bool(ids) == everything:
        raise UserError("name experiments, or --all; convatlas experiment list shows them")
    if budget not in BUDGETS:
        raise UserError(f"there is no budget {budget!r}; choose {' or '.join(BUDGETS)}")
    chosen = EXPERIMENTS if everything else tuple(find(name) for name in ids or ())
    results = []
    for one in chosen:
        if not quiet:
            typer.secho(f"{one.id}: {one.title}", bold=True, err=True)
        begins, trained, ends = (ignore, nothing, ignore) if quiet else (tell_of, tell_training, tell)
        try:
            results.append(
                run(one, BUDGETS[budget], num_seeds=seeds, out=out, begins=begins, trained=trained, ends=ends)
            )
        except Stopped as stop:
            if not quiet:
                # Ends the line that the part at hand began.
                typer.echo(err=True)
            raise signal_exit(stop.signal, "what was measured is kept; the same command goes on") from stop
    if json:
        print_json({"results": [values(result) for result in results]})
        return
    for result in results:
        typer.echo()
        show(result)
    typer.echo(f"\nResults and charts are in {out}; a page of them:  convatlas experiment report --out {out}")


@experiment.command("report")
def report(out: Folder = FOLDER) -> None:
    """One page of all results: beside the folder, as HTML that needs nothing else, and as Markdown."""
    from convatlas.experiments import EXPERIMENTS
    from convatlas.experiments.engine.report import write_reports

    for path in write_reports(out, EXPERIMENTS):
        typer.echo(path)


def ignore(what: object) -> None:
    pass


def nothing() -> None:
    pass


def tell_of(part: Part) -> None:
    """The beginning of a line on standard error, for a part that may take minutes."""
    typer.echo(f"  {part.id}:", nl=False, err=True)


def tell_training() -> None:
    """A dot in it for each training that is done."""
    typer.echo(".", nl=False, err=True)


def tell(result: PartResult) -> None:
    """Its end."""
    typer.echo(f" {result.verdict} ({duration(result.seconds)})", err=True)


def show(result: Result) -> None:
    from convatlas.experiments.engine.report import describe

    print_heading(f"{result.experiment.id}: {result.describe}")
    print_table(
        (
            Column("part", wrap=True),
            Column("measured", right=True),
            Column("threshold", right=True),
            Column("verdict"),
        ),
        [(one.part.claim, describe(one), str(one.part.threshold), one.verdict) for one in result.parts],
    )
    for one in result.parts:
        if one.reason:
            typer.echo(f"{one.part.id}: {one.reason}")
    print_facts([("took", duration(result.seconds)), ("seeds", str(result.num_seeds))])
