"""How fast models and artefacts are on this machine, in every engine that runs them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convatlas.deployment.engine_process import (
    COMPILED,
    EAGER,
    EngineError,
    EngineProcess,
    TimedNetwork,
    engine_process,
)
from convatlas.deployment.forms import check_keeps_floats, in_form_of, write_network
from convatlas.deployment.manifest import Manifest, Precision, RuntimeName, is_artefact
from convatlas.deployment.runtimes import check_packages
from convatlas.draw import Lines, Series
from convatlas.errors import UserError
from convatlas.files import SILENT, ProgressCallback
from convatlas.images.parallel import available_cores
from convatlas.models.card import Card
from convatlas.models.device import computes_bfloat16
from convatlas.runs.run import load_model

ROUNDS = 10


@dataclass(frozen=True, kw_only=True)
class EngineTimes:
    """An engine's times for batches of one size."""

    model: str
    engine: str
    precision: str
    threads: int
    batch_size: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    num_runs: int
    load_ms: float
    """Until the network can be called, imports included."""
    first_ms: float
    """Of the first answer, which some engines compile for."""
    peak_bytes: int
    """Memory that loading and computing added to the process."""
    num_bytes: int
    accuracy: float | None
    """On test images. Of an artefact in lower precision an estimate: the model's, less what the gate found lost on
    held-out images. None: not known."""

    @property
    def is_estimated(self) -> bool:
        """Whether the accuracy is."""
        return self.precision != Precision.FLOAT32


def bench(
    sources: Sequence[str | Path],
    *,
    batch_sizes: Sequence[int] = (1,),
    threads: int | None = None,
    rounds: int = ROUNDS,
    on_error: Callable[[EngineError], None] | None = None,
    progress: ProgressCallback = SILENT,
) -> list[EngineTimes]:
    """Time models and artefacts, each engine in a process of its own, turn by turn.

    A model is timed in PyTorch, eager and compiled, and exported to the runtimes that are installed, in float32 and
    bfloat16 where this processor has it. Int8 takes images to calibrate on: export it and time the artefact. Of a model
    that was trained in 8 bits, the time in eager PyTorch alone says something.

    Args:
        sources: runs, models, published weights or artefacts.
        batch_sizes: images that are computed together.
        threads: of each engine; None: one for each core.
        rounds: turns of each engine.
        on_error: called with each engine that fails, which is then left out; without it, the first is an error.

    Raises:
        UserError: a source cannot be opened, or an engine fails, or all.
    """
    if not batch_sizes or any(size < 1 for size in batch_sizes):
        raise UserError("`batch` takes sizes from 1 on, as 1,8")
    if rounds < 1:
        raise UserError(f"`rounds` {rounds} does not work; it must be at least 1")
    if threads is not None and threads < 1:
        raise UserError(f"`threads` {threads} does not work; it must be at least 1")
    threads = threads or available_cores()
    # Each once, however often it is named.
    batch_sizes = list(dict.fromkeys(batch_sizes))
    with tempfile.TemporaryDirectory(prefix="convatlas-bench-") as folder, ExitStack() as stack:
        engines: list[TimedNetwork] = []
        for number, source in enumerate(sources):
            engines += engines_of(str(source), Path(folder) / str(number), progress)
        processes: dict[int, EngineProcess] = {}
        errors: list[EngineError] = []

        @contextmanager
        def left_out(number: int) -> Iterator[None]:
            """If the engine fails, it is one of them no more."""
            try:
                yield
            except EngineError as error:
                if on_error is None:
                    raise
                on_error(error)
                errors.append(error)
                processes.pop(number, None)

        for number, engine in enumerate(engines):
            progress.say(f"loading {engine.model} in {engine.name}, {engine.precision}")
            with left_out(number):
                processes[number] = stack.enter_context(engine_process(engine, threads, batch_sizes))
        repeats: dict[tuple[int, int], int] = {}
        for number, process in list(processes.items()):
            with left_out(number):
                repeats |= {(number, size): process.repeats_for(size) for size in batch_sizes}
        seconds: dict[tuple[int, int], list[float]] = {key: [] for key in repeats}
        order = list(seconds)
        generator = random.Random(0)
        for _ in range(rounds):
            # No engine always comes after the same other one.
            generator.shuffle(order)
            for number, size in order:
                if number in processes:
                    with left_out(number):
                        seconds[number, size] += processes[number].run(size, repeats[number, size])
        if errors and not processes:
            raise errors[0]
        return [
            times_of(process, threads, size, seconds[number, size])
            for number, process in processes.items()
            for size in batch_sizes
        ]


def engines_of(source: str, folder: Path, progress: ProgressCallback) -> Iterator[TimedNetwork]:
    """The engines that run a model, or the one of an artefact.

    Args:
        folder: where the model's other forms are written.
    """
    if is_artefact(source):
        manifest = Manifest.read(Path(source))
        manifest.check_files(Path(source))
        yield of_artefact(source, manifest)
        return
    model = load_model(source)
    card = model.card
    path = model.path or folder / "model"
    folder.mkdir()
    if model.path is None:
        model.save(path)
    weights = sum(file.stat().st_size for file in ([path] if path.is_file() else path.glob("*.safetensors")))

    def timed(name: str, precision: Precision, path: Path, num_bytes: int, runtime: RuntimeName | None) -> TimedNetwork:
        return TimedNetwork(
            model=source, name=name, precision=precision, path=path, runtime=runtime, num_bytes=num_bytes,
            accuracy=test_accuracy(card) if precision is Precision.FLOAT32 else None, shape=shape_of(card),
        )  # fmt: skip

    try:
        check_keeps_floats(model)
    except UserError as error:
        progress.say(f"in eager {EAGER} alone: {error}")
        yield timed(EAGER, Precision.FLOAT32, path, weights, None)
        return
    precisions = (Precision.FLOAT32, Precision.BFLOAT16) if computes_bfloat16("cpu") else (Precision.FLOAT32,)
    for precision in precisions:
        yield timed(EAGER, precision, path, weights, None)
        yield timed(COMPILED, precision, path, weights, None)
    for runtime in RuntimeName:
        place = folder / runtime
        place.mkdir()
        try:
            check_packages(runtime)
            file = in_form_of(write_network(model.network, model.variant, place), runtime)
        except UserError as error:
            progress.say(f"without {runtime.label}: {error}")
            continue
        size = sum(part.stat().st_size for part in place.iterdir())
        for precision in precisions if runtime is RuntimeName.OPENVINO else (Precision.FLOAT32,):
            yield timed(runtime.label, precision, file, size, runtime)


def of_artefact(source: str, manifest: Manifest) -> TimedNetwork:
    loss, accuracy = manifest.gate.loss, test_accuracy(manifest.card)
    return TimedNetwork(
        model=source,
        name=manifest.runtime.label,
        precision=manifest.precision,
        path=Path(source) / manifest.network,
        runtime=manifest.runtime,
        num_bytes=sum(file.num_bytes for file in manifest.files),
        accuracy=accuracy if accuracy is None or loss is None else accuracy - loss.loss / 100,
        shape=shape_of(manifest.card),
    )


def test_accuracy(card: Card) -> float | None:
    """As measured here or, of imported weights, as published."""
    if card.score is not None:
        return card.score.accuracy
    imported = card.provenance.imported
    return None if imported is None else imported.top1


def shape_of(card: Card) -> tuple[int, ...]:
    side = card.preprocessing.crop
    return card.preprocessing.channels, side, side


def times_of(process: EngineProcess, threads: int, size: int, seconds: list[float]) -> EngineTimes:
    engine = process.engine
    p50, p90, p99 = (1000 * float(value) for value in np.percentile(seconds, (50, 90, 99)))
    return EngineTimes(
        model=engine.model,
        engine=engine.name,
        precision=str(engine.precision),
        threads=threads,
        batch_size=size,
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        images_per_s=1000 * size / p50,
        num_runs=len(seconds),
        load_ms=1000 * process.loaded["load_s"],
        first_ms=1000 * process.loaded["first_s"][str(size)],
        peak_bytes=process.peak_bytes,
        num_bytes=engine.num_bytes,
        accuracy=engine.accuracy,
    )


ESTIMATED = "in lower precision: the model's test accuracy less the points lost on held-out images"


def pareto_charts(measurements: Sequence[EngineTimes]) -> tuple[Lines, Lines]:
    """Accuracy against latency, and against size, of what was measured for the smallest batch.

    Raises:
        UserError: nothing is known of any accuracy.
    """
    smallest = min(one.batch_size for one in measurements)
    shown = [one for one in measurements if one.batch_size == smallest and one.accuracy is not None]
    if not shown:
        raise UserError("no test accuracy of these is known, so there is nothing to plot")

    def against(name: str, x: str, values: Sequence[float]) -> Lines:
        return Lines(
            name=name,
            title=f"Accuracy against {name}",
            subtitle=ESTIMATED if any(one.is_estimated for one in shown) else "",
            x=x,
            y="test accuracy, %",
            series=tuple(
                Series(f"{Path(one.model).name}, {one.engine} {one.precision}", (value,), (100 * (one.accuracy or 0),))
                for one, value in zip(shown, values, strict=True)
            ),
            log_x=True,
            highest_y=100.0,
            points=True,
        )

    return (
        against("latency", f"ms for a batch of {smallest}", [one.p50_ms for one in shown]),
        against("size", "MB on disk", [one.num_bytes / 1e6 for one in shown]),
    )
