"""Verdicts on the papers' figures, computed from the built networks."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from convatlas.measure.table import layers_of
from convatlas.spec import Claim, Layers, Scale, Variant, Verdict


@dataclass(frozen=True)
class Finding:
    claim: Claim
    counted: int | Fraction | None
    """What the built network gives; None for what only a training run can give."""
    verdict: Verdict


def findings(variant: Variant) -> tuple[Finding, ...]:
    """Every claim of the variant with what its network gives, at the scale that the claim is of."""
    tables: dict[Scale, Layers] = {}
    found = []
    for claim in variant.claims:
        counted = None
        if claim.count is not None:
            if claim.at not in tables:
                tables[claim.at] = layers_of(variant.network, variant.spec.at(claim.at))
            counted = claim.count(tables[claim.at])
        found.append(Finding(claim, counted, verdict(claim, counted)))
    return tuple(found)


def verdict(claim: Claim, counted: int | Fraction | None) -> Verdict:
    """Whether `counted` agrees with what is printed, to the printed precision."""
    if counted is None:
        return Verdict.NOT_TESTED_HERE
    if abs(counted - Fraction(claim.value)) < Fraction(claim.last_digit):
        return Verdict.HOLDS
    return Verdict.ERRATUM if counted == claim.sum else Verdict.DISAGREES
