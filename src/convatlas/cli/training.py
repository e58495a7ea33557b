"""convatlas train, convatlas resume"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.console import (
    MACHINE,
    Depth,
    Device,
    Json,
    Phi,
    Quiet,
    Resolution,
    Width,
    count,
    duration,
    percent,
    print_facts,
    print_json,
    speaks,
    stopped_by,
)
from convatlas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from convatlas.runs import Run
    from convatlas.training import Progress

CHOICES = "Choices, on training images that are held out"
FINE_TUNING = "Fine-tuning"
DISTILLATION = "Distillation"

Data = Annotated[
    str,
    typer.Option(
        help="digits, mnist, usps, fashion-mnist, cifar10, a folder with a folder for each class, or hf:NAME."
    ),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write metrics for TensorBoard into the run folder.")]


def train(
    network: Annotated[str, typer.Argument(help="A name from convatlas list.")],
    data: Data = "digits",
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order, changes of images, and a folder's split.")] = 0,
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    recipe: Annotated[str, typer.Option(help="default, or paper for the paper's own.")] = "default",
    micro_batch: Annotated[
        int | None,
        typer.Option(help="Images computed at once, where a batch does not fit into memory.", rich_help_panel=MACHINE),
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Let each class weigh the same.")] = False,
    hold_out: Annotated[
        bool,
        typer.Option(
            "--hold-out",
            help="Hold out a tenth of the training images; the best epoch on it stays.",
            rich_help_panel=CHOICES,
        ),
    ] = False,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many epochs that did no better on what is held out.", rich_help_panel=CHOICES),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Begin from the weights of a run folder or file, under a new head.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze",
            help="With --from: train the head alone, on features computed once.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = False,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Learn the answers of this trained run too, of any family.", rich_help_panel=DISTILLATION),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="What softens the teacher's answers.", rich_help_panel=DISTILLATION)
    ] = 2.0,
    attention_weight: Annotated[
        float,
        typer.Option(help="Weight of where the teacher's layers respond, in addition.", rich_help_panel=DISTILLATION),
    ] = 0.0,
    device: Device = None,
    autotune: Annotated[
        bool,
        typer.Option(
            "--autotune/--no-autotune", help="Measure first which way of computing is fastest.", rich_help_panel=MACHINE
        ),
    ] = True,
    checkpoint_steps: Annotated[
        int | None,
        typer.Option(help="Write a checkpoint every so many steps, beside those by time.", rich_help_panel=MACHINE),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; a new one under runs/.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out images that cannot be used.")] = False,
    swept: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="Try each of these values, as lr=1e-3,3e-3,1e-2; again for another number.",
            rich_help_panel=CHOICES,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            help="The address of a database that several machines share for a sweep.", rich_help_panel=CHOICES
        ),
    ] = None,
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network on a data set or on your own images."""
    from convatlas.recipe import Distillation
    from convatlas.training import Request, train_as
    from convatlas.training.plan import name_for
    from convatlas.training.sweep import parsed, sweep

    distillation = None
    if teacher is not None:
        distillation = Distillation(teacher=str(teacher), temperature=temperature, attention_weight=attention_weight)
    request = Request(
        network=network,
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
        micro_batch=micro_batch,
        balance=balance,
        hold_out=hold_out,
        patience=patience,
        start=start,
        freeze=freeze,
        distillation=distillation,
        device=device,
        autotune=autotune,
        checkpoint_steps=checkpoint_steps,
        skip_bad=skip_bad,
    )
    if swept:
        grid = parsed(swept)
        folder = out or Path("runs") / f"sweep-{name_for(network, data)}"
        _run(
            lambda progress: sweep(request, grid, out=folder, study=study, progress=progress),
            quiet,
            json,
            tensorboard,
        )
    elif study is not None:
        raise UserError("--study is where a sweep keeps its trials; say what to vary with --sweep")
    else:
        _run(lambda progress: train_as(request, out, progress), quiet, json, tensorboard)


def find_lr(
    network: Annotated[str, typer.Argument(help="A name from convatlas list.")],
    data: Data = "digits",
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and changes of images.")] = 0,
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    out: Annotated[Path | None, typer.Option(help="Draw loss against rate into this SVG file.")] = None,
    json: Json = False,
) -> None:
    """Find a learning rate: a short training whose rate climbs until the loss does too."""
    from convatlas import draw
    from convatlas.files import write
    from convatlas.training import Request
    from convatlas.training.lr_finder import find_lr

    finding = find_lr(
        Request(
            network=network,
            data=data,
            batch_size=batch_size,
            seed=seed,
            width=width,
            depth=depth,
            resolution=resolution,
        )
    )
    if out is not None:
        write(out, draw.rates(f"{network} on {Path(data).name}", finding.rates, finding.losses, finding.suggestion))
    if json:
        print_json({"lr": finding.suggestion, "rates": finding.rates, "losses": finding.losses})
        return
    tried = f"{len(finding.rates)} steps from {finding.rates[0]:.0e} to {finding.rates[-1]:.0e}"
    facts = [("learning rate", f"{finding.suggestion:.1e}"), ("tried", tried)]
    print_facts([*facts, ("plot", str(out))] if out is not None else facts)


def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Go on with a run that was stopped or killed; its weights end as if it never had been."""
    from convatlas.training import resume

    _run(lambda progress: resume(run, progress=progress), quiet, json, tensorboard)


def _run(work: Callable[[Progress], Run], quiet: bool, json: bool, tensorboard: bool) -> None:
    from convatlas.cli.progress import progress_on
    from convatlas.training import Interrupted
    from convatlas.training.tensorboard import TensorBoardProgress

    progress = progress_on(quiet)
    if tensorboard and speaks():
        progress = TensorBoardProgress(progress)
    try:
        run = work(progress)
    except Interrupted as stop:
        if not speaks():
            raise typer.Exit(128 + stop.signal) from stop
        raise stopped_by(stop.signal, f"go on with: convatlas resume {stop.run.folder}") from stop
    if not speaks():
        return
    results, record = run.results, run.record
    if json:
        print_json({"run": str(run.folder), **asdict(results)})
        return
    low, high = results.test_interval
    right = results.test_images - results.test_errors
    trained = f"{count(results.train_images)} training images, {results.epochs} epochs"
    if results.best_epoch:
        trained += f", the best of them epoch {results.best_epoch}"
    if results.skipped_images:
        trained += f", {count(results.skipped_images)} damaged images left out"
    typer.echo()
    print_facts(
        [
            ("network", record.variant),
            ("data", f"{record.data}: {trained}"),
            ("test accuracy", f"{percent(results.test_accuracy)} ({count(right)} of {count(results.test_images)})"),
            ("95 % interval", f"{percent(low)} to {percent(high)}"),
            ("training time", duration(results.seconds)),
            ("parameters", count(results.params)),
            ("MACs", count(results.macs)),
            ("run folder", str(run.folder)),
        ]
    )
    typer.echo(f"\nTry an image of your own:  convatlas predict {run.folder} IMAGE")
