"""The checked claims as a page in Markdown: docs/claims.md."""

from __future__ import annotations

from collections.abc import Sequence

from convatlas.measure.claims import CheckedVariant, ClaimCheck, errata, verdict_line


def claims_page(checked: Sequence[CheckedVariant]) -> str:
    """A Markdown page with a table for each variant, and the arithmetic of every erratum."""
    lines = [
        "# What the papers claim, and what the networks say",
        "",
        "Figures that the papers print of the networks in this package, with what the built network gives.",
        "`holds`: it is less than one unit of the last printed digit away. `erratum`: it is further away, and equals",
        "the sum of the paper's own layer list. `not tested here`: it takes a training run. No verdict is written by",
        "hand: `convatlas claims --markdown > docs/claims.md` writes this page, and a test holds it fresh.",
        "",
        verdict_line([check for one in checked for check in one.checks]),
    ]
    for one in checked:
        paper = one.variant.paper
        lines += [
            "",
            f"## {one.variant.name}",
            "",
            f"{paper.authors}, [{paper.title}]({paper.url}), {paper.venue}.",
            "",
            "| figure | paper | here | verdict | source |",
            "|---|---:|---:|---|---|",
            *map(_row, one.checks),
        ]
        if wrong := errata(one.checks):
            lines += ["", *(f"- Erratum, {check.claim.title}: {check.arithmetic}" for check in wrong)]
    return "\n".join(lines) + "\n"


def _row(check: ClaimCheck) -> str:
    claim = check.claim
    return f"| {claim.title} | {claim.printed} | {check.counted_text} | {check.verdict} | {claim.source} |"
