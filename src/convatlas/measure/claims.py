"""Verdicts on the papers' figures, computed from the built networks."""

from __future__ import annotations

from dataclasses import dataclass

from convatlas.measure.table import layers_of
from convatlas.spec import Claim, Layers, Variant, Verdict


@dataclass(frozen=True)
class Finding:
    claim: Claim
    counted: int | None
    """What the built network gives; None for what only a training run can give."""
    verdict: Verdict


def findings(variant: Variant) -> tuple[Finding, ...]:
    """Every claim of the variant with what its network gives."""
    table = layers_of(variant.network, variant.spec)
    return tuple(_finding(claim, table) for claim in variant.claims)


def _finding(claim: Claim, table: Layers) -> Finding:
    counted = claim.count(table) if claim.count else None
    return Finding(claim, counted, verdict(claim, counted))


def verdict(claim: Claim, counted: int | None) -> Verdict:
    """Whether `counted` agrees with what is printed, to the printed precision."""
    if counted is None:
        return Verdict.NOT_TESTED_HERE
    if abs(counted - claim.value) < claim.last_digit:
        return Verdict.HOLDS
    return Verdict.ERRATUM if counted == claim.sum else Verdict.DISAGREES
