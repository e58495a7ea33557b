"""convatlas claims"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.completion import network_names
from convatlas.cli.console import Column, Json, print_heading, print_json, print_line, print_table, print_text
from convatlas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from convatlas.measure import ClaimCheck

COLUMNS = (
    Column("figure", wrap=True),
    Column("paper", right=True),
    Column("here", right=True),
    Column("verdict", wrap=True),
    Column("source", wrap=True, optional=True),
)


def claims(
    network: Annotated[
        str | None,
        typer.Argument(help="Name of a network; without one, all networks.", autocompletion=network_names),
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown page, as docs/claims.md.")] = False,
    json: Json = False,
) -> None:
    """Check the figures that the papers print against the networks built here."""
    from convatlas import atlas, measure

    if markdown and json:
        raise UserError("--markdown and --json exclude each other; choose one")
    checked = measure.check_variants(atlas.variants() if network is None else (atlas.find(network),))
    if json:
        print_json(
            {"claims": [{"network": one.variant.name, **entry(check)} for one in checked for check in one.checks]}
        )
        return
    if markdown:
        for line in measure.claims_page(checked).splitlines():
            print_line(line)
        return
    if not checked:
        print_line(f"The paper prints no figures of {network}.")
    for number, one in enumerate(checked):
        if number:
            print_line()
        print_heading(f"{one.variant.name} ({one.variant.paper.year})")
        print_checks(one.checks)
    if network is None:
        print_line()
        print_line(measure.verdict_line([check for one in checked for check in one.checks]))


def print_checks(checks: Sequence[ClaimCheck]) -> None:
    """The checked claims of one network, with the arithmetic where they differ."""
    from convatlas import measure

    print_table(
        COLUMNS,
        [
            (check.claim.title, check.claim.printed, check.counted_text, check.verdict, check.claim.source)
            for check in checks
        ],
    )
    for check in measure.differences(checks):
        print_text(check.explanation)


def entry(check: ClaimCheck) -> dict[str, Any]:
    """A checked claim as JSON."""
    claim, counted = check.claim, check.counted
    return {
        "figure": claim.title,
        "paper": claim.printed,
        "source": claim.source,
        "here": float(counted) if isinstance(counted, Fraction) else counted,
        "verdict": check.verdict,
        "contradicts": claim.contradicts,
        "arithmetic": check.arithmetic,
    }
