"""The checked claims as a page in Markdown: docs/claims.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from convatlas.measure.claims import CheckedVariant, ClaimCheck, count_verdicts, differences
from convatlas.spec import ClaimVerdict

RULES: Mapping[ClaimVerdict, str] = {
    ClaimVerdict.HOLDS: "The built network is less than one unit of the last printed digit away.",
    ClaimVerdict.ERRATUM: "It is further away, and equals the sum of layers that the paper itself prints.",
    ClaimVerdict.NOT_REPRODUCED: "It is further away, and rests on our reading of what the paper leaves open.",
    ClaimVerdict.NOT_TESTED_HERE: "Only a training run can tell.",
}


def claims_page(checked: Sequence[CheckedVariant]) -> str:
    """A Markdown page with a table for each variant, and the arithmetic where they differ."""
    counts = count_verdicts(check for one in checked for check in one.checks)
    lines = [
        "# What the papers claim, and what the networks say",
        "",
        "Figures that the papers print of the networks in this package, with what the built network gives.",
        "",
        f"| verdict | of {sum(counts.values())} claims | when |",
        "|---|---:|---|",
        *(f"| {verdict} | {counts.get(verdict, 0)} | {rule} |" for verdict, rule in RULES.items()),
        "",
        "No verdict is written by hand: `convatlas claims --markdown > docs/claims.md` writes this page, and a test",
        "holds it fresh. What is often told of these networks and stands in no paper ends the page of",
        "[experiments](experiments.md).",
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
        if different := differences(one.checks):
            lines += ["", *(f"- {check.explanation}" for check in different)]
    return "\n".join(lines) + "\n"


def _row(check: ClaimCheck) -> str:
    claim = check.claim
    return f"| {claim.title} | {claim.printed} | {check.counted_text} | {check.verdict} | {claim.source} |"
