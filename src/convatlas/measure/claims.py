"""Verdicts on the papers' figures, computed from the built networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from convatlas.measure.table import layers_of
from convatlas.spec import Claim, ClaimVerdict, Layer, Layers, Scale, Variant


@dataclass(frozen=True)
class ClaimCheck:
    claim: Claim
    counted: int | Fraction | None
    """What the built network gives; None for what only a training run can give."""
    verdict: ClaimVerdict
    arithmetic: str = ""
    """Of an erratum: how the sum comes about."""


def check_claims(variant: Variant) -> tuple[ClaimCheck, ...]:
    """Every claim of the variant with what its network gives, at the scale that the claim is of."""
    tables: dict[Scale, Layers] = {}
    found = []
    for claim in variant.claims:
        if claim.count is None:
            found.append(ClaimCheck(claim, None, ClaimVerdict.NOT_TESTED_HERE))
            continue
        if claim.at not in tables:
            tables[claim.at] = layers_of(variant.network, variant.spec.at(claim.at))
        counted = claim.count(tables[claim.at])
        judged = verdict(claim, counted)
        arithmetic = ""
        if judged == ClaimVerdict.ERRATUM:
            arithmetic = claim.note or by_parts(claim.count, tables[claim.at])
        found.append(ClaimCheck(claim, counted, judged, arithmetic))
    return tuple(found)


def by_parts(count: Callable[[Layers], int | Fraction], table: Layers) -> str:
    """The sum that the network gives, part by part: a stage, or a layer that stands alone."""
    parts: dict[str, list[Layer]] = {}
    for layer in table:
        first, *rest = layer.name.split(".")
        parts.setdefault(f"{first}.{rest[0]}" if first == "stages" else first, []).append(layer)
    sums = {name: int(count(Layers(tuple(rows)))) for name, rows in parts.items()}
    words = " + ".join(f"{number:,} ({name})" for name, number in sums.items() if number)
    return f"{words} = {sum(sums.values()):,}"


def verdict(claim: Claim, counted: int | Fraction | None) -> ClaimVerdict:
    """Whether `counted` agrees with what is printed, to the printed precision."""
    if counted is None:
        return ClaimVerdict.NOT_TESTED_HERE
    if abs(counted - Fraction(claim.value)) < Fraction(claim.last_digit):
        return ClaimVerdict.HOLDS
    return ClaimVerdict.ERRATUM if counted == claim.sum else ClaimVerdict.DISAGREES
