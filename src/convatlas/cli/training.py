"""convatlas train, convatlas resume"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from convatlas.cli.console import (
    MACHINE,
    Autotune,
    Depth,
    Device,
    Json,
    Network,
    Phi,
    Quiet,
    Width,
    count,
    duration,
    percent,
    print_facts,
    print_json,
    print_line,
    signal_exit,
)
from convatlas.cli.signals import Signaled
from convatlas.errors import UserError
from convatlas.formatting import plural
from convatlas.runs.options import ClassWeights, Distillation, InitFrom, Runtime, Validation
from convatlas.spec import Scale
from convatlas.torchrun import Worker

if TYPE_CHECKING:
    from convatlas.runs.run import Run
    from convatlas.training import Progress

P = ParamSpec("P")

VALIDATION = "Validation and sweeps"
FINE_TUNING = "Fine-tuning"
DISTILLATION = "Distillation"

Data = Annotated[
    str,
    typer.Option(
        help="digits, mnist, usps, fashion-mnist, cifar10, cifar10-held-out, a folder with one subfolder per class, "
        "or hf:NAME."
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(help="CSV table in the data's folder, with columns file and label; by default folders are classes."),
]
GroupBy = Annotated[
    str | None,
    typer.Option(
        help="Column of --labels, such as the patient: images with the same value stay on one side of a split."
    ),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Images per optimizer step, over all processes; by default the recipe's.")
]
Seed = Annotated[
    int, typer.Option(help="Seed of the initial weights, shuffling, augmentation, and the split of an image folder.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Skip damaged and unsupported image files instead of failing.")
]
TrainingResolution = Annotated[
    int | None,
    typer.Option(help="Side of the square input in pixels; by default that of the images, within the network's range."),
]
TensorBoard = Annotated[bool, typer.Option("--tensorboard", help="Write event files for TensorBoard.")]


def together(verb: Callable[P, None]) -> Callable[P, None]:
    """A verb that the processes of torchrun carry out together: on each machine, one prints the error of all.

    With any other verb each process does its own work, and prints its own results and errors.
    """

    @wraps(verb)
    def carried_out(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            verb(*args, **kwargs)
        except UserError as error:
            if Worker.from_env().local_rank:
                raise typer.Exit(2) from error
            raise

    return carried_out


@together
def train(
    network: Network,
    data: Data = "digits",
    labels: Labels = None,
    group_by: GroupBy = None,
    recipe: Annotated[str, typer.Option(help="default, or paper for the recipe of the network's paper.")] = "default",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images; by default the recipe's.")
    ] = None,
    batch_size: BatchSize = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate; by default the recipe's.")] = None,
    seed: Seed = 0,
    class_weights: Annotated[
        str | None, typer.Option(help="balanced: every class counts the same in the loss.")
    ] = None,
    skip_bad: SkipBad = False,
    out: Annotated[Path | None, typer.Option(help="The run folder; a new one below runs/ by default.")] = None,
    width: Width = Scale.width,
    depth: Depth = Scale.depth,
    resolution: TrainingResolution = Scale.resolution,
    phi: Phi = Scale.phi,
    val_split: Annotated[
        float | None,
        typer.Option(
            help="Fraction of the training images to hold out, such as 0.1; the weights of the best epoch are kept.",
            rich_help_panel=VALIDATION,
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Early stopping: epochs without better validation accuracy.", rich_help_panel=VALIDATION),
    ] = Validation.patience,
    swept: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            help="Grid search over an option's values, such as lr=1e-3,3e-3,1e-2; repeatable, for several options.",
            rich_help_panel=VALIDATION,
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Database for the workers of one sweep, such as postgresql+psycopg://USER@HOST/NAME.",
            rich_help_panel=VALIDATION,
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Fine-tune with a new head, from a library's published weights of the network, as torchvision, from a "
            "run, a model, a file of weights, or hf:OWNER/NAME on the hub.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    freeze: Annotated[
        bool,
        typer.Option(
            "--freeze",
            help="With --from: freeze the backbone and train the head alone (linear probing), on cached features.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = InitFrom.freeze,
    resize: Annotated[
        str | None,
        typer.Option(
            help="How images become squares: crop, squash or letterbox. By default what loses least of these images "
            "with --from, else a crop.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            help="Teacher: a run, a model, published weights or hf:OWNER/NAME, of any architecture.",
            rich_help_panel=DISTILLATION,
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="Softmax temperature of teacher and student.", rich_help_panel=DISTILLATION)
    ] = Distillation.temperature,
    distill_weight: Annotated[
        float,
        typer.Option(
            help="Weight of the distillation loss, above 0 and at most 1; the labels get the rest.",
            rich_help_panel=DISTILLATION,
        ),
    ] = Distillation.distill_weight,
    attention_weight: Annotated[
        float, typer.Option(help="Weight of an additional attention transfer loss.", rich_help_panel=DISTILLATION)
    ] = Distillation.attention_weight,
    device: Device = Runtime.device,
    autotune: Autotune = Runtime.autotune,
    micro_batch: Annotated[
        int | None,
        typer.Option(
            help="Gradient accumulation: images per micro-batch, if memory is short.", rich_help_panel=MACHINE
        ),
    ] = Runtime.micro_batch,
    checkpoint_steps: Annotated[
        int | None,
        typer.Option(
            help="Steps between checkpoints, in addition to those every few seconds.", rich_help_panel=MACHINE
        ),
    ] = Runtime.checkpoint_steps,
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train a network on a data set or on your own images."""
    from convatlas.training import Request, Stopped, train_request
    from convatlas.training.plan import default_run_name
    from convatlas.training.sweep import parsed, sweep

    if freeze and init_from is None:
        raise UserError("`freeze` trains the head of a trained network; name its weights with `init_from`")
    validation = None
    if val_split is not None or patience is not None:
        validation = Validation(val_split=Validation.val_split if val_split is None else val_split, patience=patience)
    distillation = None
    if teacher is not None:
        distillation = Distillation(
            teacher=str(teacher),
            temperature=temperature,
            distill_weight=distill_weight,
            attention_weight=attention_weight,
        )
    request = Request(
        network=network,
        data=data,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr,
        seed=seed,
        scale=Scale(width=width, depth=depth, resolution=resolution, phi=phi),
        class_weights=parsed_class_weights(class_weights),
        validation=validation,
        init_from=None if init_from is None else InitFrom(path=init_from, freeze=freeze),
        distillation=distillation,
        runtime=Runtime(device=device, autotune=autotune, micro_batch=micro_batch, checkpoint_steps=checkpoint_steps),
        resize=resize,
        labels=labels,
        group_by=group_by,
        skip_bad=skip_bad,
    )
    if swept:
        grid = parsed(swept)
        folder = out or Path("runs") / f"sweep-{default_run_name(network, data)}"

        def sweep_all(progress: Progress) -> Run:
            try:
                return sweep(request, grid, out=folder, storage=storage, progress=progress)
            except Signaled as stop:
                raise Stopped(stop.signal, "while nothing was trained") from stop

        _run(sweep_all, quiet, json, tensorboard)
    elif storage is not None:
        raise UserError("`storage` is where a sweep keeps its trials; name what to vary with `sweep`")
    else:
        _run(lambda progress: train_request(request, out, progress), quiet, json, tensorboard)


def parsed_class_weights(name: str | None) -> ClassWeights | None:
    """
    Raises:
        UserError: there are no such class weights.
    """
    if name not in (None, "balanced"):
        raise UserError(f"`class_weights` {name!r} is unknown; the only choice is balanced")
    return "balanced" if name else None


def find_lr(
    network: Network,
    data: Data = "digits",
    labels: Labels = None,
    group_by: GroupBy = None,
    batch_size: BatchSize = None,
    seed: Seed = 0,
    skip_bad: SkipBad = False,
    width: Width = Scale.width,
    depth: Depth = Scale.depth,
    resolution: TrainingResolution = Scale.resolution,
    out: Annotated[Path | None, typer.Option(help="Plot loss against learning rate into this SVG file.")] = None,
    json: Json = False,
) -> None:
    """Learning rate range test: raise the learning rate until the loss diverges, and suggest one."""
    from convatlas import draw
    from convatlas.cli.progress import progress_on
    from convatlas.data import check_outside
    from convatlas.files import write
    from convatlas.training import Request
    from convatlas.training.lr_finder import find_lr

    if out is not None:
        check_outside(out, data)
    finding = find_lr(
        Request(
            network=network,
            data=data,
            labels=labels,
            group_by=group_by,
            batch_size=batch_size,
            seed=seed,
            scale=Scale(width=width, depth=depth, resolution=resolution),
            skip_bad=skip_bad,
        ),
        progress_on(quiet=False),
    )
    if out is not None:
        title = f"{network} on {Path(data).name}"
        write(out, draw.lr_finder_curve(title, finding.lrs, finding.losses, finding.suggestion))
    if json:
        print_json({"lr": finding.suggestion, "lrs": finding.lrs, "losses": finding.losses})
        return
    tried = f"{len(finding.lrs)} steps from {finding.lrs[0]:.0e} to {finding.lrs[-1]:.0e}"
    facts = [("learning rate", f"{finding.suggestion:.1e}"), ("tried", tried)]
    print_facts([*facts, ("plot", str(out))] if out is not None else facts)


@together
def resume(
    run: Annotated[Path, typer.Argument(help="A run folder.")],
    data: Annotated[
        str | None, typer.Option(help="Where the data set is now, if it was moved; the run remembers it.")
    ] = None,
    tensorboard: TensorBoard = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Continue a run that was stopped or killed. The weights are the same as without the interruption."""
    from convatlas.training import resume

    _run(lambda progress: resume(run, data=data, progress=progress), quiet, json, tensorboard)


def _run(work: Callable[[Progress], Run], quiet: bool, json: bool, tensorboard: bool) -> None:
    from convatlas.cli.progress import progress_on
    from convatlas.training import Interrupted, Stopped
    from convatlas.training.tensorboard import TensorBoardProgress

    progress, is_main = progress_on(quiet), Worker.from_env().is_main
    if tensorboard and is_main:
        progress = TensorBoardProgress(progress)
    try:
        run = work(progress)
    except Interrupted as stop:
        if not is_main:
            raise typer.Exit(128 + stop.signal) from stop
        raise signal_exit(stop.signal, f"continue with: convatlas resume {stop.run.folder}") from stop
    except Stopped as stop:
        raise signal_exit(stop.signal, "what was done is kept; the same command continues") from stop
    if not is_main:
        return
    results, score, card = run.results, run.score, run.card
    if json:
        print_json(
            {
                "run": str(run.folder),
                "test_accuracy": score.accuracy,
                "test_interval": score.interval,
                "test_errors": score.num_errors,
                "test_images": score.num_images,
                **asdict(results),
                "params": card.params,
                "macs": card.macs,
                "weights_sha256": card.weights_sha256,
            }
        )
        return
    low, high = score.interval
    correct = score.num_images - score.num_errors
    trained = f"{plural(results.train_images, 'training image')}, {plural(results.epochs, 'epoch')}"
    if results.best_epoch is not None:
        trained += f", epoch {results.best_epoch} kept" if results.best_epoch else ", the head alone kept"
    if results.skipped_images:
        trained += f", {plural(results.skipped_images, 'unusable image')} left out"
    if results.unused_files:
        trained += f", {plural(results.unused_files, 'other file')} not used"
    print_line()
    print_facts(
        [
            ("network", card.variant),
            ("data", f"{run.record.data}: {trained}"),
            ("test accuracy", f"{percent(score.accuracy)} ({count(correct)} of {count(score.num_images)})"),
            ("95 % interval", f"{percent(low)} to {percent(high)}"),
            ("training time", duration(results.seconds)),
            ("parameters", count(card.params)),
            ("MACs", count(card.macs)),
            ("run folder", str(run.folder)),
        ]
    )
    print_line()
    print_line(f"Try an image of your own:  convatlas predict {run.folder} IMAGE")
