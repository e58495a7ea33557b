"""convatlas list, convatlas show, convatlas compare"""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.claims import entry, print_checks
from convatlas.cli.console import (
    Column,
    Depth,
    Json,
    Phi,
    Resolution,
    Width,
    count,
    print_facts,
    print_heading,
    print_json,
    print_table,
    size,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convatlas.measure import Footprint


def list_variants(json: Json = False) -> None:
    """List every network with its year, size, cost and published result."""
    from convatlas import measure

    # What PyTorch's import left need not be searched for garbage again and again while networks come and go.
    gc.freeze()
    rows = measure.variant_costs()
    if json:
        print_json(
            {
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
                ]
            }
        )
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
            Column("published result", wrap=True),
        ],
        lines,
    )


def show(
    network: Annotated[str, typer.Argument(help="A name from convatlas list.")],
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    json: Json = False,
) -> None:
    """Show one network: its paper, its layers with their cost, the paper's claims with verdicts, and its recipe."""
    from convatlas import atlas, measure

    variant = atlas.find(network)
    spec = atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi)
    summary = measure.summarize(variant, spec)
    checks = measure.check_claims(variant)
    settings = measure.recipe_settings(variant.recipe)
    if json:
        print_json(
            {
                "name": variant.name,
                "paper": dataclasses.asdict(variant.paper),
                "resolution": spec.resolution,
                "small_below": spec.small_below,
                "small_image_stem": spec.num_skipped_downsamplings > 0,
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
    typer.echo(f"{paper.authors}, “{paper.title}”, {paper.venue}, {paper.year}")
    typer.echo(f"{paper.url}\n")
    if spec.small_limits:
        stem = zip(spec.small_limits, spec.small_stem, strict=True)
        typer.echo(f"Small images: {'; '.join(f'below {limit} px {what}' for limit, what in stem)}.\n")
    print_table(
        [
            Column("layer", wrap=True),
            Column("kind", wrap=True),
            Column("output", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("memory", right=True),
            Column("sees px", right=True),
            Column("stride px", right=True),
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
                    str(layer.receptive_field),
                    str(layer.stride),
                )
                for layer in summary.layers
            ),
            ("sum", "", "", count(summary.footprint.params), count(summary.footprint.macs), "", "", ""),
        ],
    )
    typer.echo()
    print_facts(memory(summary.footprint))
    if checks:
        typer.echo()
        print_heading("What the paper says of it" if spec == variant.spec else "What the paper says of it, unscaled")
        print_checks(checks)
    if settings:
        typer.echo()
        print_heading("How the paper trains it (--recipe paper)")
        print_table(
            [Column("what"), Column("value", wrap=True), Column("printed in", wrap=True)],
            [(setting.name.replace("_", " "), setting.text, setting.source or "not printed") for setting in settings],
        )


def compare(
    networks: Annotated[list[str], typer.Argument(help="Names from convatlas list.")],
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    json: Json = False,
) -> None:
    """Compare networks side by side, at their own scale or all at the given one."""
    from convatlas import atlas, measure

    variants = [atlas.find(name) for name in networks]
    specs = [atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi) for variant in variants]
    summaries = [measure.summarize(variant, spec) for variant, spec in zip(variants, specs, strict=True)]
    if json:
        print_json(
            {
                "networks": [
                    {
                        "name": summary.variant.name,
                        "year": summary.variant.paper.year,
                        "resolution": summary.spec.resolution,
                        **dataclasses.asdict(summary.footprint),
                    }
                    for summary in summaries
                ]
            }
        )
        return
    columns = [
        {
            "year": str(summary.variant.paper.year),
            "input": shape(summary.input_shape),
            "layers with weights": count(summary.num_weight_layers),
            "parameters": count(summary.footprint.params),
            "MACs": count(summary.footprint.macs),
            **dict(memory(summary.footprint)),
        }
        for summary in summaries
    ]
    facts = dict.fromkeys(fact for column in columns for fact in column)
    print_table(
        [Column(""), *(Column(variant.name, right=True) for variant in variants)],
        [(fact, *(column.get(fact, "") for column in columns)) for fact in facts],
    )
    if published := [(variant.name, variant.published) for variant in variants if variant.published]:
        typer.echo()
        print_heading("Published")
        print_facts(published)


def shape(sizes: Sequence[int]) -> str:
    """3×224×224"""
    return "×".join(map(str, sizes))


def memory(footprint: Footprint) -> list[tuple[str, str]]:
    """What a device must hold for an inference, as facts to print."""
    facts = [
        ("weights at 32 bits", size(footprint.weight_bytes_32_bits)),
        ("weights at 16 bits", size(footprint.weight_bytes_16_bits)),
        ("weights at 8 bits", size(footprint.weight_bytes_8_bits)),
        ("activations at 32 bits, at most", size(footprint.peak_activation_bytes)),
    ]
    if footprint.training_only_params:
        facts.append(("parameters that only training uses", count(footprint.training_only_params)))
    return facts


def json_value(value: Any) -> Any:
    """A recipe's value as JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **dataclasses.asdict(value)}
    return value
