"""convatlas compress, convatlas update"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from convatlas.cli.console import (
    Column,
    Device,
    Json,
    Quiet,
    count,
    percent,
    print_json,
    print_table,
    size,
    stopped_by,
)
from convatlas.errors import UserError

Runnable = Annotated[Path, typer.Argument(help="A run folder, or a compressed file.")]


def compress(
    run: Runnable,
    to: Annotated[str | None, typer.Option(help="What it is to need: '30 M macs', '5 ms' or '2 MB'.")] = None,
    prune: Annotated[float | None, typer.Option(help="The part of the MACs that goes, with whole channels.")] = None,
    sparse: Annotated[
        str | None, typer.Option(help="The part of single weights that goes, as 0.9, or 2:4; smaller, not faster.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder of all stages; beside the run by default.")] = None,
    by: Annotated[str, typer.Option(help="What channels go by: magnitude, taylor or batch-norm.")] = "taylor",
    rounds: Annotated[int, typer.Option(help="Of pruning, each followed by training.")] = 3,
    int8: Annotated[bool, typer.Option("--int8", help="8 bits for weights and for what layers read.")] = False,
    bits: Annotated[float | None, typer.Option(help="Of a weight, 8 to 2; 3.5 is the mean of mixed bits.")] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="A run whose answers are learned too; the network as it was, for example.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Of the training after each change.")] = None,
    lr: Annotated[float | None, typer.Option(help="Its highest learning rate.")] = None,
    device: Device = None,
    autotune: Annotated[bool, typer.Option(help="Measure first which way of computing is fastest here.")] = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a trained network smaller or faster; what is done already is not done again."""
    from convatlas.cli.progress import progress_on
    from convatlas.compression.channels import Importance
    from convatlas.compression.compress import STAGES, compress
    from convatlas.compression.stages import FineTuning
    from convatlas.recipe import Distillation
    from convatlas.training import Stopped

    if by not in tuple(Importance):
        raise UserError(f"channels are not pruned by {by!r}; choose {', '.join(Importance)}")
    folder = out or beside(run)
    fine_tuning = FineTuning(
        epochs=epochs,
        lr=lr,
        distillation=None if teacher is None else Distillation(teacher=str(teacher)),
        device=device,
        autotune=autotune,
        progress=progress_on(quiet),
    )
    try:
        made = compress(
            run,
            to,
            folder,
            prune=prune,
            sparse=sparse,
            importance=Importance(by),
            rounds=rounds,
            int8=int8,
            bits=bits,
            fine_tuning=fine_tuning,
        )
    except Stopped as stop:
        raise stopped_by(stop.signal, "what was done is kept; the same command goes on") from stop
    if json:
        print_json({"run": str(made.run.folder), "stages": [asdict(stage) for stage in made.stages]})
        return
    typer.echo()
    print_table(
        (
            Column("stage", wrap=True),
            Column("size", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("an image", right=True),
            Column("accuracy", right=True),
        ),
        [
            (
                stage.name,
                size(stage.num_bytes),
                count(stage.params),
                count(stage.macs),
                f"{1000 * stage.seconds:.2f} ms",
                percent(stage.test_accuracy),
            )
            for stage in made.stages
        ],
    )
    if made.run.folder.is_file() and not made.run.record.low_bits:
        typer.echo("Weights that are 0 or share values make a smaller file; an image takes as long as before.")
    if made.stages[-1].compiled:
        typer.echo("Times are of compiled networks; those of 8 bits compute in 8 bits.")
    elif made.run.record.low_bits:
        typer.echo("Few bits are computed in 32 here: sizes and accuracies are theirs, times are not.")
    typer.echo(f"\n{made.run.folder} is the last of them; figures in {folder / STAGES}, charts beside it")


def beside(run: Path) -> Path:
    """Where the stages of a run go."""
    # "." and ".." have no name of their own.
    named = run if run.name.strip(".") else run.resolve()
    return named.with_name(f"{named.stem if named.is_file() else named.name}-compressed")


def unpack(
    file: Annotated[Path, typer.Argument(help="A compressed file.")],
    out: Annotated[
        Path | None, typer.Option(help="The run folder; the file's name without its ending by default.")
    ] = None,
) -> None:
    """Make a run folder of a compressed file, to train on from it or to learn from it."""
    from convatlas.models.codec.container import load_file, unpack

    typer.echo(unpack(load_file(file), out or file.with_suffix("")).folder)


def update(
    old: Annotated[Path, typer.Argument(help="The compressed file that is there.")],
    new: Annotated[Path, typer.Argument(help="The compressed file to come, or an update of the old one to apply.")],
    out: Annotated[Path, typer.Option(help="The update, or the new file that it makes.")],
    json: Json = False,
) -> None:
    """Write the difference between two compressed files, or apply one."""
    from convatlas.models.codec.update import apply_update, is_update, write_update

    made = apply_update(old, new, out).folder if is_update(new) else write_update(old, new, out)
    num_bytes = made.stat().st_size
    if json:
        print_json({"file": str(made), "bytes": num_bytes})
        return
    part = "" if is_update(new) else f", {percent(num_bytes / new.stat().st_size)} of {new}"
    typer.echo(f"{made}: {size(num_bytes)}{part}")
