"""convatlas train, convatlas resume"""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.console import (
    Depth,
    Json,
    Phi,
    Quiet,
    Resolution,
    Width,
    complain,
    count,
    duration,
    percent,
    print_facts,
    print_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from convatlas.runs import Run
    from convatlas.training import Progress


def train(
    network: Annotated[str, typer.Argument(help="A name from convatlas list.")],
    data: Annotated[
        str,
        typer.Option(help="digits, mnist, usps, fashion-mnist, cifar10, or a folder with a folder for each class."),
    ] = "digits",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pictures.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Pictures a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, changes of pictures, and a folder's split.")] = 0,
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    recipe: Annotated[str, typer.Option(help="default, or paper for the paper's own.")] = "default",
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; the fastest that is there.")] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; a new one under runs/.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be used.")] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network on a data set or on your own pictures."""
    from convatlas.training import train

    _run(
        lambda progress: train(
            network,
            data=data,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            width=width,
            depth=depth,
            resolution=resolution,
            phi=phi,
            recipe=recipe,
            device=device,
            out=out,
            skip_bad=skip_bad,
            progress=progress,
        ),
        quiet,
        json,
    )


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run that was stopped or killed; its weights end as if it never had been."""
    from convatlas.training import resume

    _run(lambda progress: resume(run, progress=progress), quiet, json)


def _run(work: Callable[[Progress], Run], quiet: bool, json: bool) -> None:
    from convatlas.cli.progress import progress_on
    from convatlas.training import Interrupted

    try:
        run = work(progress_on(quiet))
    except Interrupted as stop:
        name = "Ctrl-C" if stop.signal == signal.SIGINT else signal.Signals(stop.signal).name
        complain(f"stopped by {name}; go on with: convatlas resume {stop.run.folder}")
        raise typer.Exit(128 + stop.signal) from stop
    results, record = run.results, run.record
    if json:
        print_json({"run": str(run.folder), **asdict(results)})
        return
    low, high = results.test_interval
    right = results.test_pictures - results.test_errors
    trained = f"{count(results.train_pictures)} training pictures, {record.recipe.epochs} epochs"
    if results.left_out_pictures:
        trained += f", {count(results.left_out_pictures)} damaged pictures left out"
    typer.echo()
    print_facts(
        [
            ("network", record.variant),
            ("data", f"{record.data}: {trained}"),
            ("test accuracy", f"{percent(results.test_accuracy)} ({count(right)} of {count(results.test_pictures)})"),
            ("95 % interval", f"{percent(low)} to {percent(high)}"),
            ("training time", duration(results.seconds)),
            ("parameters", count(results.params)),
            ("MACs", count(results.macs)),
            ("run folder", str(run.folder)),
        ]
    )
    typer.echo(f"\nTry a picture of your own:  convatlas predict {run.folder} PICTURE")
