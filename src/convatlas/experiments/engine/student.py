"""Student's t distribution, with any number of degrees of freedom (Student 1908)."""

from __future__ import annotations

import math

import numpy as np

POINTS, WEIGHTS = np.polynomial.legendre.leggauss(64)
NUM_BISECTIONS = 100


def cdf(t: float, df: float) -> float:
    """The probability of a value below `t`.

    With t = sqrt(df) tan(angle), the density becomes a power of the cosine, which few points integrate exactly.

    Args:
        df: degrees of freedom, above 0; infinity is the normal distribution.
    """
    if math.isinf(df):
        return 0.5 * math.erfc(-t / math.sqrt(2))
    half = math.atan(abs(t) / math.sqrt(df)) / 2
    scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    area = scale * half * float(WEIGHTS @ np.cos(half * (POINTS + 1)) ** (df - 1))
    return 0.5 + math.copysign(min(area, 0.5), t)


def quantile(p: float, df: float) -> float:
    """The value below which the probability is `p`, from 0.5 to below 1."""
    low, high = 0.0, 1.0
    while cdf(high, df) < p:
        high *= 2
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle, df) < p else (low, middle)
    return high
