"""convatlas claims"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convatlas.cli.console import Column, Json, count, print_heading, print_json, print_table
from convatlas.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convatlas.measure import ClaimCheck
    from convatlas.spec import Claim, Variant

COLUMNS = (
    Column("figure", wrap=True),
    Column("paper", right=True),
    Column("here", right=True),
    Column("verdict"),
    Column("source", wrap=True),
)


def claims(
    network: Annotated[str | None, typer.Argument(help="A name from convatlas list; without it, all.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a page in Markdown.")] = False,
    json: Json = False,
) -> None:
    """What the papers claim of their networks, what the built networks give, and the verdict."""
    from convatlas import atlas, measure

    if markdown and json:
        raise UserError("--markdown and --json are two forms of the same; choose one")
    variants = atlas.variants() if network is None else (atlas.find(network),)
    ledger = {variant: found for variant in variants if (found := measure.check_claims(variant))}
    if json:
        print_json(
            {"claims": [{"network": v.name, **entry(finding)} for v, found in ledger.items() for finding in found]}
        )
        return
    if markdown:
        typer.echo("\n".join(page(ledger)), nl=False)
        return
    if not ledger:
        typer.echo(f"No paper prints a figure of {network}.")
    for number, (variant, found) in enumerate(ledger.items()):
        if number:
            typer.echo()
        print_heading(f"{variant.name} ({variant.paper.year})")
        print_findings(found)
    if network is None:
        typer.echo(f"\n{summary([finding for found in ledger.values() for finding in found])}")


def print_findings(found: Sequence[ClaimCheck]) -> None:
    """The ledger of one network, with the arithmetic of its errata."""
    print_table(COLUMNS, [cells(finding) for finding in found])
    for title, arithmetic in errata(found):
        typer.echo(f"Erratum, {title}: {arithmetic}")


def entry(finding: ClaimCheck) -> dict[str, Any]:
    """A finding for programs."""
    claim, counted = finding.claim, finding.counted
    return {
        "figure": claim.title,
        "paper": claim.printed,
        "source": claim.source,
        "here": float(counted) if isinstance(counted, Fraction) else counted,
        "verdict": finding.verdict,
        "arithmetic": finding.arithmetic,
    }


def cells(finding: ClaimCheck) -> tuple[str, str, str, str, str]:
    claim, counted = finding.claim, finding.counted
    here = "" if counted is None else describe(claim, counted)
    return claim.title, claim.printed, here, finding.verdict, claim.source


def describe(claim: Claim, counted: int | Fraction) -> str:
    """The figure that the network gives, in full or, where the paper's unit is none to count in, in that unit."""
    if claim.unit in ("K", "MB", "%", "times"):
        from convatlas.spec import UNITS

        return f"{float(counted) / UNITS[claim.unit]:,.2f} {claim.unit}"
    return count(int(counted))


def errata(found: Sequence[ClaimCheck]) -> list[tuple[str, str]]:
    """Title and arithmetic of each erratum."""
    return [(finding.claim.title, finding.arithmetic) for finding in found if finding.arithmetic]


def summary(found: Sequence[ClaimCheck]) -> str:
    """How often each verdict was given: 100 claims: 60 holds, ..."""
    from convatlas.spec import ClaimVerdict

    verdicts = [finding.verdict for finding in found]
    counts = [f"{verdicts.count(verdict)} {verdict}" for verdict in ClaimVerdict if verdict in verdicts]
    return f"{len(found)} claims{': ' if found else ''}{', '.join(counts)}."


def page(ledger: Mapping[Variant, Sequence[ClaimCheck]]) -> list[str]:
    """The ledger in Markdown, line by line."""
    lines = [
        "# What the papers claim, and what the networks say",
        "",
        "Figures that the papers print of the networks in this package, with what the built network gives.",
        "`holds`: it is less than one unit of the last printed digit away. `erratum`: it is further away, and equals",
        "the sum of the paper's own layer list. `not tested here`: it takes a training run. No verdict is written by",
        "hand: `convatlas claims --markdown > docs/claims.md` writes this page, and a test holds it fresh.",
        "",
        summary([finding for found in ledger.values() for finding in found]),
    ]
    for variant, found in ledger.items():
        paper = variant.paper
        lines += [
            "",
            f"## {variant.name}",
            "",
            f"{paper.authors}, [{paper.title}]({paper.url}), {paper.venue}.",
            "",
            "| figure | paper | here | verdict | source |",
            "|---|---:|---:|---|---|",
            *(f"| {' | '.join(cells(finding))} |" for finding in found),
        ]
        if explained := errata(found):
            lines += ["", *(f"- Erratum, {title}: {arithmetic}" for title, arithmetic in explained)]
    return [*lines, ""]
