"""Verdicts on the papers' figures, computed from the built networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from convatlas.formatting import count
from convatlas.measure.table import layers_of
from convatlas.spec import UNITS, Claim, ClaimVerdict, Layer, Layers, Scale, Variant

SHOWN_UNITS = {"K": "K", "MB": "MiB", "%": "%", "times": "times"}
"""The paper's units in which a computed figure is shown, and their names; in all others it is shown in full. An MB of
these papers is 2^20 bytes, which we call MiB."""

DIFFERS = (ClaimVerdict.ERRATUM, ClaimVerdict.NOT_REPRODUCED)


@dataclass(frozen=True)
class ClaimCheck:
    """A claim, what the built network gives, and the verdict."""

    claim: Claim
    counted: int | Fraction | None
    """What the built network gives; None for what only a training run can give."""
    verdict: ClaimVerdict
    arithmetic: str = ""
    """The sum that the network gives, written out, where it is not the printed figure."""

    @property
    def explanation(self) -> str:
        """What the verdict rests on, as "Erratum, parameters of conv1, against Table 1: 64 + 9,408 = 9,472"."""
        against = f", against {self.claim.contradicts}" if self.claim.contradicts else ""
        return f"{self.verdict.capitalize()}, {self.claim.title}{against}: {self.arithmetic}"

    @property
    def counted_text(self) -> str:
        """What the built network gives, for people: in full, or in the paper's unit; empty where there is nothing."""
        if self.counted is None:
            return ""
        unit = self.claim.unit
        if unit in SHOWN_UNITS:
            return f"{float(self.counted) / UNITS[unit]:,.2f} {SHOWN_UNITS[unit]}"
        return count(self.counted.numerator) if self.counted.denominator == 1 else f"{float(self.counted):,.2f}"


@dataclass(frozen=True)
class CheckedVariant:
    """A variant with its claims checked."""

    variant: Variant
    checks: tuple[ClaimCheck, ...]


def check_claims(variant: Variant) -> tuple[ClaimCheck, ...]:
    """Check every claim of a variant, each at the scale that the paper states it for."""
    tables: dict[Scale, Layers] = {}
    checks = []
    for claim in variant.claims:
        if claim.count is None:
            checks.append(ClaimCheck(claim, None, ClaimVerdict.NOT_TESTED_HERE))
            continue
        if claim.at not in tables:
            tables[claim.at] = layers_of(variant.network, variant.spec.at(claim.at))
        counted = claim.count(tables[claim.at])
        judged = verdict(claim, counted)
        arithmetic = ""
        if judged in DIFFERS:
            arithmetic = claim.note or sum_by_part(claim.count, tables[claim.at])
        checks.append(ClaimCheck(claim, counted, judged, arithmetic))
    return tuple(checks)


def check_variants(variants: Iterable[Variant]) -> tuple[CheckedVariant, ...]:
    """Check the claims of several variants; those without claims are left out."""
    return tuple(CheckedVariant(variant, check_claims(variant)) for variant in variants if variant.claims)


def differences(checks: Iterable[ClaimCheck]) -> tuple[ClaimCheck, ...]:
    """The claims that the built network does not give: errata, and what is not reproduced by our reading."""
    return tuple(check for check in checks if check.verdict in DIFFERS)


def count_verdicts(checks: Iterable[ClaimCheck]) -> dict[ClaimVerdict, int]:
    """How many claims have each verdict; verdicts that none has are left out."""
    given = [check.verdict for check in checks]
    return {verdict: given.count(verdict) for verdict in ClaimVerdict if verdict in given}


def verdict_line(checks: Sequence[ClaimCheck]) -> str:
    """The counts in one line, as "100 claims: 60 holds, 10 erratum, 30 not tested here."."""
    counts = [f"{number} {verdict}" for verdict, number in count_verdicts(checks).items()]
    return f"{len(checks)} claims{': ' if counts else ''}{', '.join(counts)}."


def sum_by_part(count: Callable[[Layers], int | Fraction], table: Layers) -> str:
    """The sum that the network gives, written out: a summand for each stage, or for a layer outside of stages."""
    parts: dict[str, list[Layer]] = {}
    for layer in table:
        first, *rest = layer.name.split(".")
        parts.setdefault(f"{first}.{rest[0]}" if first == "stages" else first, []).append(layer)
    sums = {name: int(count(Layers(tuple(rows)))) for name, rows in parts.items()}
    terms = " + ".join(f"{number:,} ({name})" for name, number in sums.items() if number)
    return f"{terms} = {sum(sums.values()):,}"


def verdict(claim: Claim, counted: int | Fraction | None) -> ClaimVerdict:
    """Whether `counted` agrees with what is printed, to the printed precision."""
    if counted is None:
        return ClaimVerdict.NOT_TESTED_HERE
    if abs(counted - Fraction(claim.value)) < Fraction(claim.last_digit):
        return ClaimVerdict.HOLDS
    if counted != claim.sum:
        return ClaimVerdict.DISAGREES
    return ClaimVerdict.ERRATUM if claim.contradicts else ClaimVerdict.NOT_REPRODUCED
