"""convatlas list, convatlas show, convatlas compare"""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.claims import entry, print_checks
from convatlas.cli.completion import network_names
from convatlas.cli.console import (
    Column,
    Depth,
    Json,
    Network,
    Phi,
    Resolution,
    Width,
    count,
    fitting_groups,
    print_facts,
    print_heading,
    print_json,
    print_line,
    print_table,
    print_text,
    size,
)
from convatlas.cli.drawings import (
    DRAWING,
    Drawings,
    Level,
    Pdf,
    Svg,
    Tikz,
    as_values,
    print_paths,
    write_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from convatlas.draw import DrawingFormat
    from convatlas.measure import Footprint, NetworkSummary


def list_variants(
    everything: Annotated[
        bool, typer.Option("--all", help="List also what libraries released and no paper prints, as resnet50-keras.")
    ] = False,
    svg: Annotated[
        Path | None,
        typer.Option(
            "--svg",
            metavar="FILE",
            help="Write a chart of published accuracy against MACs as SVG.",
            rich_help_panel=DRAWING,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """List the papers' networks with their year, input size, parameters, MACs and published result."""
    from convatlas import atlas, measure

    # What PyTorch's import left need not be searched for garbage again and again while networks come and go.
    gc.freeze()
    rows = measure.variant_costs(released=everything)
    drawings = []
    if svg is not None:
        from convatlas import draw

        write_file(svg, draw.accuracy_chart(rows))
        drawings.append(svg)
    if json:
        print_json(
            {
                **as_values(drawings),
                "variants": [
                    {
                        "name": row.variant.name,
                        "family": row.family.name,
                        "year": row.variant.paper.year,
                        "resolution": row.variant.spec.resolution,
                        "params": row.params,
                        "macs": row.macs,
                        "published": row.variant.published,
                        "summary": row.variant.summary,
                    }
                    for row in rows
                ],
            }
        )
        return
    if drawings:
        print_paths(drawings)
        return
    lines: list[tuple[str, ...]] = []
    for row in rows:
        variant = row.variant
        if variant is row.family.variants[0]:
            lines.append((f"{row.family.name}:", "", "", "", "", ""))
        lines.append(
            (
                variant.name,
                str(variant.paper.year),
                f"{variant.spec.resolution} px",
                count(row.params),
                count(row.macs),
                variant.published,
            )
        )
    print_table(
        [
            Column("network"),
            Column("year", right=True),
            Column("input", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("published result", wrap=True, below=True),
        ],
        lines,
    )
    if num := len(atlas.variants()) - len(rows):
        print_line()
        print_text(f"and {num} as libraries released them, with --all; convatlas weights lists their weights")


def show(
    network: Network,
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    svg: Svg = None,
    pdf: Pdf = None,
    tikz: Tikz = None,
    level: Level = None,
    json: Json = False,
) -> None:
    """Show one network: its paper, a table of its layers, the paper's claims with verdicts, and the paper's recipe.

    With --svg, --pdf or --tikz, draw it instead.
    """
    from convatlas import atlas, measure

    variant = atlas.find(network)
    spec = atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi)
    summary = measure.summarize(variant, spec)
    drawings = Drawings(svg, pdf, tikz, level).write(draws([summary]))
    if drawings and not json:
        print_paths(drawings)
        return
    checks = measure.check_claims(variant)
    settings = measure.recipe_settings(variant.recipe)
    if json:
        print_json(
            {
                **as_values(drawings),
                "name": variant.name,
                "paper": dataclasses.asdict(variant.paper),
                "resolution": spec.resolution,
                "small_below": spec.small_below,
                "small_image_stem": spec.num_skipped_downsamplings > 0,
                "depth": summary.layers.depth,
                **dataclasses.asdict(summary.footprint),
                "layers": [dataclasses.asdict(layer) for layer in summary.layers],
                "claims": [entry(check) for check in checks],
                "recipe": [
                    {"what": setting.name, "value": json_value(setting.value), "printed_in": setting.source}
                    for setting in settings
                ],
            }
        )
        return
    paper = variant.paper
    print_heading(f"{variant.name}: {variant.summary}")
    # Most venues have the year in them.
    venue = paper.venue if str(paper.year) in paper.venue else f"{paper.venue}, {paper.year}"
    print_text(f"{paper.authors}, “{paper.title}”, {venue}")
    print_line(paper.url)
    print_line()
    if spec.small_limits:
        stem = zip(spec.small_limits, spec.small_stem, strict=True)
        print_text(f"Small images: {'; '.join(f'below {limit} px {what}' for limit, what in stem)}.")
        print_line()
    print_table(
        [
            Column("layer"),
            Column("kind", wrap=True, optional=True),
            Column("output", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("activation", right=True, optional=True),
            Column("receptive field", right=True, optional=True),
            Column("stride", right=True, optional=True),
        ],
        [
            ("input", "", shape(summary.input_shape), "", "", "", "", ""),
            *(
                (
                    layer.name,
                    layer.kind,
                    shape(layer.output_shape),
                    count(layer.params),
                    count(layer.macs),
                    size(layer.activation_bytes),
                    f"{layer.receptive_field} px",
                    f"{layer.stride} px",
                )
                for layer in summary.layers
            ),
            ("total", "", "", count(summary.footprint.params), count(summary.footprint.macs), "", "", ""),
        ],
    )
    print_line()
    print_facts(memory(summary.footprint))
    if checks:
        print_line()
        scale = "" if spec == variant.spec else ", at the paper's scale"
        print_heading(f"Claims of the paper{scale}")
        print_checks(checks)
    if settings:
        print_line()
        print_heading("Recipe of the paper (--recipe paper)")
        print_table(
            [Column("setting"), Column("value", wrap=True), Column("source", wrap=True)],
            [(setting.name.replace("_", " "), setting.text, setting.source or "not printed") for setting in settings],
        )


def compare(
    networks: Annotated[
        list[str], typer.Argument(help="Names of networks; convatlas list shows all.", autocompletion=network_names)
    ],
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    svg: Svg = None,
    pdf: Pdf = None,
    tikz: Tikz = None,
    level: Level = None,
    chart: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a chart of their figures as SVG, as docs/families.svg.", rich_help_panel=DRAWING
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Compare networks side by side, each at its own scale or all at the given one.

    With --svg, --pdf, --tikz or --chart, draw them instead, at one scale.
    """
    from convatlas import atlas, measure

    variants = [atlas.find(name) for name in networks]
    specs = [atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi) for variant in variants]
    summaries = [measure.summarize(variant, spec) for variant, spec in zip(variants, specs, strict=True)]
    drawings = Drawings(svg, pdf, tikz, level).write(draws(summaries))
    if chart is not None:
        from convatlas import draw

        write_file(chart, draw.comparison(summaries))
        drawings.append(chart)
    if json:
        print_json(
            {
                **as_values(drawings),
                "networks": [
                    {
                        "name": summary.variant.name,
                        "year": summary.variant.paper.year,
                        "resolution": summary.spec.resolution,
                        "depth": summary.layers.depth,
                        **dataclasses.asdict(summary.footprint),
                    }
                    for summary in summaries
                ],
            }
        )
        return
    if drawings:
        print_paths(drawings)
        return
    facts_of_each = [
        {
            "year": str(summary.variant.paper.year),
            "input": shape(summary.input_shape),
            "depth": count(summary.layers.depth),
            "parameters": count(summary.footprint.params),
            "MACs": count(summary.footprint.macs),
            **dict(memory(summary.footprint)),
        }
        for summary in summaries
    ]
    facts = dict.fromkeys(fact for column in facts_of_each for fact in column)
    columns = [Column(""), *(Column(variant.name, right=True) for variant in variants)]
    rows = [(fact, *(column.get(fact, "") for column in facts_of_each)) for fact in facts]
    for number, group in enumerate(fitting_groups(columns, rows)):
        if number:
            print_line()
        print_table(
            [columns[i] for i in (0, *group)],
            [[row[i] for i in (0, *group)] for row in rows if any(row[i] for i in group)],
        )
    if published := [(variant.name, variant.published) for variant in variants if variant.published]:
        print_line()
        print_heading("Published")
        print_facts(published)


def draws(summaries: Sequence[NetworkSummary]) -> Callable[[Any, DrawingFormat], bytes]:
    """Draws networks at a level in a format; what that takes is loaded when something is drawn."""

    def content(level: Any, file_format: DrawingFormat) -> bytes:
        from convatlas import draw

        return draw.architectures(summaries, level=level, file_format=file_format)

    return content


def shape(sizes: Sequence[int]) -> str:
    """3×224×224"""
    return "×".join(map(str, sizes))


def memory(footprint: Footprint) -> list[tuple[str, str]]:
    """What a device must hold for an inference, as facts to print."""
    facts = [
        ("weights at 32 bits", size(footprint.weight_bytes_32_bits)),
        ("weights at 16 bits", size(footprint.weight_bytes_16_bits)),
        ("weights at 8 bits", size(footprint.weight_bytes_8_bits)),
        ("peak activations at 32 bits", size(footprint.peak_activation_bytes)),
    ]
    if footprint.training_only_params:
        facts.append(("training-only parameters", count(footprint.training_only_params)))
    return facts


def json_value(value: Any) -> Any:
    """A recipe's value as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **dataclasses.asdict(value)}
    return value
