"""convatlas list, convatlas show"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from convatlas.cli.console import Column, Json, count, print_heading, print_json, print_table


def list_variants(json: Json = False) -> None:
    """The atlas: every network with its year, size, cost and published error."""
    from convatlas import atlas, measure

    rows = [
        (family, variant, measure.layers_of(variant.network, variant.spec))
        for family in atlas.families()
        for variant in family.variants
    ]
    if json:
        print_json(
            {
                "variants": [
                    {
                        "name": variant.name,
                        "family": family.name,
                        "year": variant.paper.year,
                        "resolution": variant.spec.resolution,
                        "params": table.params,
                        "macs": table.macs,
                        "summary": variant.summary,
                    }
                    for family, variant, table in rows
                ]
            }
        )
        return
    print_table(
        [
            Column("family"),
            Column("network"),
            Column("year", right=True),
            Column("input", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("published error"),
        ],
        [
            (
                family.name,
                variant.name,
                str(variant.paper.year),
                f"{variant.spec.resolution} px",
                count(table.params),
                count(table.macs),
                next(
                    (
                        f"{claim.printed} {claim.figure.removeprefix('test error ')}"
                        for claim in variant.claims
                        if not claim.count
                    ),
                    "",
                ),
            )
            for family, variant, table in rows
        ],
    )


def show(
    network: Annotated[str, typer.Argument(help="A name from convatlas list.")],
    width: Annotated[float, typer.Option(help="Multiplier of every internal channel count.")] = 1.0,
    depth: Annotated[float, typer.Option(help="Multiplier of what the paper repeats.")] = 1.0,
    resolution: Annotated[int | None, typer.Option(help="Side of the input in pixels.")] = None,
    json: Json = False,
) -> None:
    """One network: its paper, its layers with their cost, and its paper's claims with verdicts."""
    from convatlas import atlas, measure

    variant = atlas.find(network)
    spec = atlas.scale(variant, width=width, depth=depth, resolution=resolution)
    table = measure.layers_of(variant.network, spec)
    findings = measure.findings(variant)
    if json:
        print_json(
            {
                "name": variant.name,
                "paper": dataclasses.asdict(variant.paper),
                "params": table.params,
                "macs": table.macs,
                "layers": [dataclasses.asdict(layer) for layer in table],
                "claims": [
                    {
                        "figure": finding.claim.figure,
                        "paper": finding.claim.printed,
                        "source": finding.claim.source,
                        "here": finding.counted,
                        "verdict": finding.verdict,
                    }
                    for finding in findings
                ],
            }
        )
        return
    paper = variant.paper
    print_heading(f"{variant.name}: {variant.summary}")
    typer.echo(f"{paper.authors}, “{paper.title}”, {paper.venue}, {paper.year}")
    typer.echo(f"{paper.url}\n")
    shape = f"{spec.in_channels}×{spec.resolution}×{spec.resolution}"
    print_table(
        [
            Column("layer"),
            Column("kind"),
            Column("output", right=True),
            Column("parameters", right=True),
            Column("MACs", right=True),
            Column("sees", right=True),
        ],
        [
            ("input", "", shape, "", "", ""),
            *(
                (
                    layer.name,
                    layer.kind,
                    "×".join(map(str, layer.output_shape)),
                    count(layer.params),
                    count(layer.macs),
                    f"{layer.receptive_field} px",
                )
                for layer in table
            ),
            ("sum", "", "", count(table.params), count(table.macs), ""),
        ],
    )
    if not findings:
        return
    typer.echo()
    print_heading("What the paper says of it" if spec == variant.spec else "What the paper says of it, unscaled")
    print_table(
        [
            Column("figure"),
            Column("paper", right=True),
            Column("here", right=True),
            Column("verdict"),
            Column("source"),
        ],
        [
            (
                finding.claim.figure,
                finding.claim.printed,
                "" if finding.counted is None else count(finding.counted),
                finding.verdict,
                finding.claim.source,
            )
            for finding in findings
        ],
    )
