"""Networks of one cost: what to compare at equal MACs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from convatlas import measure
from convatlas.spec import Spec, Variant

S = TypeVar("S", bound=Spec)
HALVINGS = 16


def macs(variant: Variant, spec: Spec) -> int:
    return measure.cost_of(variant.network, spec).macs


def at_cost(variant: Variant, wanted: float, spec_at: Callable[[float], S], low: float, high: float) -> S:
    """Of the specs between two factors, of which a larger one costs more, the one whose MACs are nearest."""
    best = spec_at(low)
    off = abs(macs(variant, best) - wanted)
    for _ in range(HALVINGS):
        factor = (low + high) / 2
        tried = spec_at(factor)
        cost = macs(variant, tried)
        if abs(cost - wanted) < off:
            best, off = tried, abs(cost - wanted)
        low, high = (factor, high) if cost < wanted else (low, factor)
    return best
