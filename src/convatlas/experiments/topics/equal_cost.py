"""Networks of equal cost, for comparisons at equal MACs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TypeVar

from convatlas import measure
from convatlas.spec import Spec, Variant

S = TypeVar("S", bound=Spec)
NUM_BISECTIONS = 16


# A bisection comes back to the same rounded numbers of channels and pixels.
@cache
def macs(variant: Variant, spec: Spec) -> int:
    return measure.cost_of(variant.network, spec).macs


def at_cost(variant: Variant, target: float, spec_at: Callable[[float], S], low: float, high: float) -> S:
    """The spec whose MACs are nearest to the target, by bisection.

    Args:
        target: MACs.
        spec_at: the spec at a factor; a larger factor costs more.
        low, high: the factors to search between.
    """
    nearest = spec_at(low)
    distance = abs(macs(variant, nearest) - target)
    for _ in range(NUM_BISECTIONS):
        factor = (low + high) / 2
        spec = spec_at(factor)
        cost = macs(variant, spec)
        if abs(cost - target) < distance:
            nearest, distance = spec, abs(cost - target)
        low, high = (factor, high) if cost < target else (low, factor)
    return nearest
