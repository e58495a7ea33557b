"""convatlas list, convatlas show, convatlas compare"""

from __future__ import annotations

import dataclasses
import gc
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.claims import entry, print_findings
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
    from convatlas.recipe import Recipe
    from convatlas.spec import Layers


def list_variants(json: Json = False) -> None:
    """The atlas: every network with its year, size, cost and published result."""
    from convatlas import atlas, measure

    # What PyTorch's import left need not be searched for garbage again and again while networks come and go.
    gc.freeze()
    rows = [
        (family, variant, measure.cost_of(variant.network, variant.spec))
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
                        "params": cost.params,
                        "macs": cost.macs,
                        "published": variant.published,
                        "summary": variant.summary,
                    }
                    for family, variant, cost in rows
                ]
            }
        )
        return
    lines: list[tuple[str, ...]] = []
    for family, variant, cost in rows:
        if variant is family.variants[0]:
            lines.append((f"{family.name}:", "", "", "", "", ""))
        lines.append(
            (
                variant.name,
                str(variant.paper.year),
                f"{variant.spec.resolution} px",
                count(cost.params),
                count(cost.macs),
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
    """One network: its paper, its layers with their cost, its paper's claims with verdicts, and its paper's recipe."""
    from convatlas import atlas, measure

    variant = atlas.find(network)
    spec = atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi)
    table = measure.layers_of(variant.network, spec)
    check_claims = measure.check_claims(variant)
    if json:
        print_json(
            {
                "name": variant.name,
                "paper": dataclasses.asdict(variant.paper),
                "resolution": spec.resolution,
                "small_below": spec.small_below,
                "small_image_stem": spec.num_skipped_downsamplings > 0,
                **totals(table),
                "layers": [dataclasses.asdict(layer) for layer in table],
                "claims": [entry(finding) for finding in check_claims],
                "recipe": [
                    {"what": what, "value": plain(value), "printed_in": where}
                    for what, value, where in ingredients(variant.recipe)
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
    shape = f"{spec.in_channels}×{spec.resolution}×{spec.resolution}"
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
            ("input", "", shape, "", "", "", "", ""),
            *(
                (
                    layer.name,
                    layer.kind,
                    "×".join(map(str, layer.output_shape)),
                    count(layer.params),
                    count(layer.macs),
                    size(layer.activation_bytes),
                    str(layer.receptive_field),
                    str(layer.stride),
                )
                for layer in table
            ),
            ("sum", "", "", count(table.params), count(table.macs), "", "", ""),
        ],
    )
    typer.echo()
    print_facts(memory(table))
    if check_claims:
        typer.echo()
        print_heading("What the paper says of it" if spec == variant.spec else "What the paper says of it, unscaled")
        print_findings(check_claims)
    if variant.recipe:
        typer.echo()
        print_heading("How the paper trains it (--recipe paper)")
        print_table(
            [Column("what"), Column("value", wrap=True), Column("printed in", wrap=True)],
            [
                (what.replace("_", " "), describe(value, variant.recipe.epochs), where or "not printed")
                for what, value, where in ingredients(variant.recipe)
            ],
        )


def compare(
    networks: Annotated[list[str], typer.Argument(help="Names from convatlas list.")],
    width: Width = 1.0,
    depth: Depth = 1.0,
    resolution: Resolution = None,
    phi: Phi = 0.0,
    json: Json = False,
) -> None:
    """Networks side by side, at their own scale or all at another."""
    from convatlas import atlas, measure

    variants = [atlas.find(name) for name in networks]
    specs = [atlas.scale(variant, width=width, depth=depth, resolution=resolution, phi=phi) for variant in variants]
    tables = [measure.layers_of(variant.network, spec) for variant, spec in zip(variants, specs, strict=True)]
    if json:
        print_json(
            {
                "networks": [
                    {"name": variant.name, "year": variant.paper.year, "resolution": spec.resolution, **totals(table)}
                    for variant, spec, table in zip(variants, specs, tables, strict=True)
                ]
            }
        )
        return
    columns = [
        {
            "year": str(variant.paper.year),
            "input": f"{spec.in_channels}×{spec.resolution}×{spec.resolution}",
            "layers with weights": count(sum(layer.macs > 0 for layer in table)),
            "parameters": count(table.params),
            "MACs": count(table.macs),
            **dict(memory(table)),
        }
        for variant, spec, table in zip(variants, specs, tables, strict=True)
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


def ingredients(recipe: Recipe | None) -> list[tuple[str, Any, str | None]]:
    """What a recipe sets: the field of it or of its augmentation, the value, and where the paper prints it."""
    if recipe is None:
        return []
    where = {what: source for group, source in recipe.sources for what in group.split(", ")}
    return [
        (field.name, value, where.get(field.name))
        for part in (recipe, recipe.augmentation)
        for field in dataclasses.fields(part)
        if field.name not in ("name", "augmentation", "sources")
        and (value := getattr(part, field.name)) != field.default
    ]


def plain(value: Any) -> Any:
    """A value of a recipe for programs."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {"kind": type(value).__name__, **dataclasses.asdict(value)}
    return value


def describe(value: Any, epochs: int) -> str:
    """A value of a recipe for people; `epochs` is how long it trains."""
    if isinstance(value, bool):
        return "yes"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else value.describe(epochs)


def totals(table: Layers) -> dict[str, int]:
    """The sums of a layer table for programs."""
    return {
        "params": table.params,
        "training_only_params": table.training_only_params,
        "macs": table.macs,
        "peak_activation_bytes": table.peak_activation_bytes,
        **{f"weight_bytes_{bits}_bits": table.weight_bytes(bits) for bits in (32, 16, 8)},
    }


def memory(table: Layers) -> list[tuple[str, str]]:
    """What a device must hold for an inference, for people."""
    facts = [(f"weights at {bits} bits", size(table.weight_bytes(bits))) for bits in (32, 16, 8)]
    facts.append(("activations at 32 bits, at most", size(table.peak_activation_bytes)))
    if table.training_only_params:
        facts.append(("parameters that only training uses", count(table.training_only_params)))
    return facts
