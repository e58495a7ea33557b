"""convatlas export, convatlas bench"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convatlas.cli.compression import beside
from convatlas.cli.console import (
    Column,
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
    size,
)
from convatlas.errors import UserError
from convatlas.formatting import plural

if TYPE_CHECKING:
    from convatlas.deployment.bench import EngineTimes
    from convatlas.deployment.engine_process import EngineError
    from convatlas.deployment.export import Tried
    from convatlas.deployment.manifest import Manifest


def export(
    model: Trained,
    to: Annotated[str | None, typer.Option(help="The runtime: onnx or openvino.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 (the default) or int8; for OpenVINO also bfloat16, or mixed.")
    ] = None,
    fastest: Annotated[
        bool, typer.Option("--fastest", help="Try all runtimes and precisions, and keep the fastest that passes.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The folder to make; by default MODEL-RUNTIME-PRECISION beside the model.")
    ] = None,
    data: MovedData = None,
    outputs: Annotated[str, typer.Option(help="Layers whose feature maps are given too, such as c1,s2.")] = "",
    max_loss: Annotated[float, typer.Option(help="Points of accuracy that lower precision may cost.")] = 0.5,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ship a model: a folder for ONNX Runtime or OpenVINO that takes images itself and needs no torch.

    Nothing is written unless the folder, run in its own runtime, answers as the model does.
    """
    from convatlas.cli.progress import loading_progress
    from convatlas.deployment.export import export, export_fastest

    if fastest and precision is not None:
        raise UserError("`fastest` finds the precision too; leave `precision` out")
    if to is None and not fastest:
        raise UserError("say which runtime it is for with `to`, onnx or openvino, or find the `fastest`")
    kind = "fastest" if fastest else f"{to}-{precision or 'float32'}"
    folder = out or beside(model, kind)
    layers = [name for name in outputs.split(",") if name]
    progress = loading_progress(quiet or json)
    tried: tuple[Tried, ...] = ()
    if fastest:
        found = export_fastest(
            str(model), folder, to=to, data=data, outputs=layers, max_loss=max_loss, progress=progress
        )
        manifest, tried = found.manifest, found.tried
    else:
        assert to is not None, "checked above"
        manifest = export(
            str(model),
            to,
            folder,
            precision=precision or "float32",
            data=data,
            outputs=layers,
            max_loss=max_loss,
            progress=progress,
        )
    if json:
        from convatlas.files.typed_json import encoded

        print_json({"artefact": str(folder), **encoded(manifest), **({"tried": encoded(tried)} if fastest else {})})
        return
    if tried:
        print_table(
            [Column("runtime"), Column("precision"), Column("p50", right=True), Column("", wrap=True)],
            [
                (
                    one.runtime.label,
                    one.precision,
                    "" if one.latency_ms is None else f"{one.latency_ms:.2f} ms",
                    one.refused,
                )
                for one in sorted(tried, key=lambda one: one.latency_ms or float("inf"))
            ],
        )
        print_line()
    print_gate(manifest)
    print_facts([("artefact", str(folder))])
    print_line()
    print_line(f"Try an image of your own:  convatlas predict {folder} IMAGE")


def print_gate(manifest: Manifest) -> None:
    """What the gate found."""
    from convatlas.deployment.manifest import PAGE, Precision

    gate, sizes = manifest.gate, {file.name: file.num_bytes for file in manifest.files}
    facts = [
        ("runtime", f"{manifest.runtime.package} {manifest.versions[manifest.runtime.package]}, {manifest.precision}"),
        ("size", size(sum(sizes.values()))),
        ("compared on", f"{count(gate.num_images)} image files, in batches of {', '.join(map(str, gate.batch_sizes))}"),
        ("logits differ by", f"{gate.logit_difference:.1e} of the largest at most"),
        ("prepared values", f"{percent(gate.changed_values)} differ, by {gate.num_levels:.2g} levels of 255 at most"),
        ("from the files", f"logits differ by {gate.image_logit_difference:.1e} of the largest at most"),
    ]
    if manifest.precision != Precision.FLOAT32:
        facts.append(("products", gate.computed))
    if (loss := gate.loss) is not None:
        low, high = loss.interval
        facts += [
            (
                "accuracy",
                f"{percent(loss.model_accuracy)} becomes {percent(loss.artefact_accuracy)} of {count(loss.num_images)} "
                f"{loss.images}",
            ),
            ("points lost", f"{loss.loss:.2f} (95 % interval {low:.2f} to {high:.2f})"),
            ("same class", percent(loss.agreement)),
        ]
        if loss.unseen is not None:
            facts.append(("not shown", f"a loss of up to {loss.unseen:.2f} points: the images are too few for that"))
    if gate.num_calibration is not None:
        facts.append(("calibrated on", plural(gate.num_calibration, "other image")))
    if (latency := manifest.int8_latency) is not None:
        times = f"{latency.int8_ms:.2f} ms here, in float32 {latency.float32_ms:.2f} ms"
        facts.append(("an image takes", times if latency.is_faster else f"{times}: smaller, not faster"))
        if manifest.float_layers:
            kept = f"{count(len(manifest.float_layers))} layers, which {PAGE} lists"
            facts.append((f"in {manifest.precision.of_floats}", kept))
    print_facts(facts)


def bench(
    models: Annotated[list[str], typer.Argument(help="Runs, models, published weights or artefacts.")],
    batch: Annotated[str, typer.Option(help="Images that are computed together, such as 1,8.")] = "1",
    threads: Annotated[int | None, typer.Option(help="Of each engine; by default one for each core.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns of each engine; more make the figures steadier.")] = 10,
    plots: Annotated[
        Path | None, typer.Option(help="A folder for plots of accuracy against latency and size, as SVG.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Time models and artefacts in every engine that runs them here: each in a process of its own, in turns."""
    from dataclasses import asdict

    from convatlas import draw
    from convatlas.cli.progress import loading_progress
    from convatlas.deployment.bench import bench, pareto_charts
    from convatlas.files import write

    try:
        batch_sizes = [int(size) for size in batch.split(",")]
    except ValueError as error:
        raise UserError(f"`batch` {batch!r} does not work; it takes sizes such as 1,8") from error
    progress = loading_progress(quiet or json)
    errors: list[EngineError] = []
    found = bench(
        models, batch_sizes=batch_sizes, threads=threads, rounds=rounds, on_error=errors.append, progress=progress
    )
    if json:
        left_out = [
            {"model": one.engine.model, "engine": one.engine.name, "precision": one.engine.precision, "why": one.reason}
            for one in errors
        ]
        print_json({"measurements": [asdict(one) for one in found], "failed": left_out})
    else:
        print_times(found, with_models=len(models) > 1)
        for failure in errors:
            print_line(f"left out: {failure}")
    # After the figures, which it must not cost.
    if plots is not None:
        charts = pareto_charts(found)
        plots.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            write(plots / f"{chart.name}.svg", draw.render_chart(chart, "svg"))


def print_times(found: Sequence[EngineTimes], *, with_models: bool) -> None:
    """A row for each engine and batch."""
    print_table(
        [
            *([Column("model", wrap=True)] if with_models else []),
            Column("engine", wrap=True),
            Column("precision"),
            Column("batch", right=True),
            Column("p50", right=True),
            Column("p90", right=True, optional=True),
            Column("p99", right=True, optional=True),
            Column("images/s", right=True),
            Column("load", right=True, optional=True),
            Column("first", right=True, optional=True),
            Column("memory", right=True, optional=True),
            Column("on disk", right=True),
            Column("accuracy", right=True),
        ],
        [
            (
                *([one.model] if with_models else []),
                one.engine,
                one.precision,
                count(one.batch_size),
                f"{one.p50_ms:.2f} ms",
                f"{one.p90_ms:.2f}",
                f"{one.p99_ms:.2f}",
                count(round(one.images_per_s)),
                f"{one.load_ms:.0f} ms",
                f"{one.first_ms:.0f} ms",
                size(one.peak_bytes),
                size(one.num_bytes),
                "" if one.accuracy is None else f"{'about ' * one.is_estimated}{percent(one.accuracy)}",
            )
            for one in found
        ],
    )
    print_line(f"{plural(found[0].threads, 'thread')}; each engine in a process of its own, in turns.")
