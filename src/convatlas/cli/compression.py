"""convatlas compress, convatlas unpack, convatlas update"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.console import (
    Autotune,
    Column,
    Device,
    Json,
    MovedData,
    Quiet,
    Trained,
    count,
    percent,
    print_facts,
    print_json,
    print_line,
    print_table,
    signal_exit,
    size,
)
from convatlas.cli.signals import Signaled
from convatlas.errors import UserError

if TYPE_CHECKING:
    from convatlas.compression.target import Engine


def compress(
    model: Trained,
    to: Annotated[
        str | None, typer.Option(help="Target MACs, CPU latency or file size: '30 M macs', '5 ms' or '2 MB'.")
    ] = None,
    prune: Annotated[float | None, typer.Option(help="Channel pruning: fraction of the MACs to remove.")] = None,
    sparse: Annotated[
        str | None,
        typer.Option(help="Unstructured pruning: fraction of weights, such as 0.9; or 2:4. Smaller, not faster."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The model folder to make, or one .cva file; by default MODEL-compressed beside the model."),
    ] = None,
    data: MovedData = None,
    importance: Annotated[
        str, typer.Option(help="Importance of channels: taylor, magnitude or batch-norm.")
    ] = "taylor",
    rounds: Annotated[int, typer.Option(help="Rounds of pruning, each followed by fine-tuning.")] = 3,
    int8: Annotated[bool, typer.Option("--int8", help="Quantize weights and activations to 8 bits.")] = False,
    bits: Annotated[
        float | None, typer.Option(help="Bits per weight, 2 to 8; 3.5: mixed precision with that mean.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="What a target in ms is measured in: onnx or openvino; by default eager PyTorch."),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Distill from this run or model, such as the original one."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of fine-tuning after each change.")] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate of fine-tuning.")] = None,
    device: Device = None,
    autotune: Autotune = True,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make a trained model smaller or faster. Finished stages are not repeated."""
    from convatlas.cli.progress import progress_on
    from convatlas.compression.channels import Importance
    from convatlas.compression.compress import compress
    from convatlas.compression.stages import FineTuning
    from convatlas.compression.target import SizeTarget, parse_target
    from convatlas.runs.options import Distillation, Runtime
    from convatlas.training import Stopped

    if importance not in tuple(Importance):
        raise UserError(f"`importance` {importance!r} is unknown; choose {', '.join(Importance)}")
    measured_in = None if engine is None else engine_of(engine)
    fine_tuning = FineTuning(
        epochs=epochs,
        lr=lr,
        distillation=None if teacher is None else Distillation(teacher=str(teacher)),
        runtime=Runtime(device=device, autotune=autotune),
        progress=progress_on(quiet),
    )
    try:
        made = compress(
            model,
            to,
            out or beside(model, "compressed"),
            data=data,
            prune=prune,
            sparse=sparse,
            importance=Importance(importance),
            rounds=rounds,
            int8=int8,
            bits=bits,
            fine_tuning=fine_tuning,
            engine=measured_in,
        )
    except (Stopped, Signaled) as stop:
        raise signal_exit(stop.signal, "what was done is kept; the same command continues") from stop
    if json:
        print_json(
            {
                "model": str(made.model.path),
                "file": None if made.file is None else str(made.file),
                "stages_folder": str(made.folder),
                "stages": [asdict(stage) for stage in made.stages],
            }
        )
        return
    print_line()
    print_table(
        (
            Column("stage", wrap=True),
            Column("size", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("latency", right=True),
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
    quantized = made.model.card.quantization
    if sparse is not None or (to is not None and isinstance(parse_target(to), SizeTarget)):
        print_line("Weights that are 0 or shared make a smaller file; the latency stays.")
    for line in about_latencies(measured_in, compiled=made.stages[-1].compiled, quantized=bool(quantized)):
        print_line(line)
    print_line()
    facts = {"model": str(made.model.path)}
    if made.file is not None:
        facts["model" if made.file == made.model.path else "one file"] = (
            f"{made.file} ({size(made.file.stat().st_size)})"
        )
    print_facts([*facts.items(), ("stages", str(made.folder))])
    print_line()
    print_line(f"Try an image of your own:  convatlas predict {made.model.path} IMAGE")


def about_latencies(engine: Engine | None, *, compiled: bool, quantized: bool) -> Iterator[str]:
    """What the latencies of the stages are of.

    Args:
        engine: what the target is measured in; None: as they are.
    """
    if engine is not None:
        yield f"The target is measured in {engine}; the latencies above are those in PyTorch."
    if compiled:
        yield "Latencies are of compiled networks; 8-bit ones compute in 8 bits."
    elif quantized:
        yield "Quantized networks compute in 32 bits here: sizes and accuracies are theirs, latencies are not."


def engine_of(name: str) -> Engine:
    """The runtime of that name, to measure latencies in.

    Raises:
        UserError: there is none, or it is not installed.
    """
    from convatlas.deployment.latency import RuntimeEngine
    from convatlas.deployment.manifest import RuntimeName
    from convatlas.deployment.runtimes import check_packages
    from convatlas.images.resize import member

    runtime = member(RuntimeName, "`engine`", name)
    check_packages(runtime)
    return RuntimeEngine(runtime)


def beside(model: Path, ending: str) -> Path:
    """The folder for what is made of a model."""
    if not model.exists():
        # Published weights, whose names no folder can have everywhere.
        model = Path(str(model).replace(":", "-"))
    # "." and ".." have no name of their own.
    named = model if model.name.strip(".") else model.resolve()
    return named.with_name(f"{named.stem if named.is_file() else named.name}-{ending}")


def unpack(
    file: Annotated[Path, typer.Argument(help="A .cva file.")],
    out: Annotated[
        Path | None, typer.Option(help="The model folder; the file's name without its suffix by default.")
    ] = None,
) -> None:
    """Make a model folder of a compressed file."""
    from convatlas.models.model import open_model

    if not file.is_file():
        raise UserError(f"there is no file {file}")
    print_line(open_model(file).save(out or file.with_suffix("")).path)


def update(
    old: Annotated[Path, typer.Argument(help="The .cva file that is there.")],
    new: Annotated[Path, typer.Argument(help="The new .cva file, or an update (.cvu) to apply to the old one.")],
    out: Annotated[Path, typer.Option(help="The update, or the new file that it makes.")],
    json: Json = False,
) -> None:
    """Write the difference between two compressed files, or apply one."""
    from convatlas.models.codec.update import apply_update, is_update, write_update

    made = apply_update(old, new, out) if is_update(new) else write_update(old, new, out)
    num_bytes = made.stat().st_size
    if json:
        print_json({"file": str(made), "bytes": num_bytes})
        return
    part = "" if is_update(new) else f", {percent(num_bytes / new.stat().st_size)} of {new}"
    print_line(f"{made}: {size(num_bytes)}{part}")
