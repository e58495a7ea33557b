"""What a measurement found, and how certain that is.

A trained network's error varies twice: with the seed of its training, and with the images that happened to be in the
test set. An interval that leaves one of them out is too narrow. Every network sees every test image, so the variance of
a difference between networks is a sum (Searle, Casella and McCulloch 1992, section 4.3): each network's variance over
its seeds, and the variance over images that stays when seeds are averaged. The degrees of freedom are Satterthwaite's
(1946). Each network's seeds are its own, so with three seeds a difference of two networks has four degrees of freedom
from them (Welch 1947). Paired by seed it would have two, for no gain: equal seeds of different networks have nothing in
common. tests/experiments/engine/test_estimate.py measures how often the interval covers the truth.
"""

from __future__ import annotations

import enum
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from convatlas.experiments.engine import student

CONFIDENCE = 0.95
POWER = 0.8
"""Of the effect that could have been told: so often it would have been."""

Errors = npt.NDArray[np.bool_] | npt.NDArray[np.float64]
"""(seeds, images): whether a trained network's prediction of a test image is wrong, or how often if it has several."""


class Basis(enum.StrEnum):
    """What an estimate rests on, and so what its two ends are."""

    COUNT = "count"
    """A figure without chance: both ends are the figure."""
    SEEDS = "seeds"
    """Repetitions with other seeds: a 95 % confidence interval."""
    TIMINGS = "timings"
    """Medians in several processes: the lowest and the highest."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its uncertainty."""

    basis: Basis
    center: float
    """The mean over seeds; the median over processes."""
    values: tuple[float, ...]
    """One for each seed or process."""
    standard_error: float = 0.0
    df: float = 0.0
    """Degrees of freedom of the standard error; 0 with one seed, whose interval has no ends."""
    num_images: int = 0
    """Test images that it rests on; 0 if it rests on none."""
    is_ratio: bool = False
    """The ratio of two positive figures: standard error and tests are those of its logarithm."""

    @property
    def low(self) -> float:
        """The lower end of the interval or range."""
        return self._end(-1)

    @property
    def high(self) -> float:
        """The upper end of the interval or range."""
        return self._end(1)

    def _end(self, sign: int) -> float:
        match self.basis:
            case Basis.COUNT:
                return self.center
            case Basis.TIMINGS:
                return sign * max(sign * value for value in self.values)
        if not self.df:
            return 0.0 if self.is_ratio and sign < 0 else sign * math.inf
        margin = student.quantile((1 + CONFIDENCE) / 2, self.df) * self.standard_error
        return self.center * math.exp(sign * margin) if self.is_ratio else self.center + sign * margin

    def detectable(self, level: float) -> float:
        """The difference from a threshold that would have been told in 80 % of cases; of a ratio, the factor.

        Args:
            level: the p-value that its one-sided test may have.
        """
        if not self.df:
            return math.inf
        both = student.quantile(1 - level, self.df) + student.quantile(POWER, self.df)
        return math.exp(both * self.standard_error) if self.is_ratio else both * self.standard_error

    def p_above(self, edge: float) -> float:
        """The one-sided p-value of "it is above `edge`": small where it is clearly above."""
        if not self.df:
            return 1.0
        distance = math.log(self.center / edge) if self.is_ratio else self.center - edge
        if self.standard_error == 0:
            return 0.0 if distance > 0 else 1.0
        return student.cdf(-distance / self.standard_error, self.df)


def in_words(estimate: Estimate, unit: str = "") -> str:
    """ "1.23 points (0.45 to 2.01)", for figures beside the one that decides."""
    return f"{estimate.center:.2f}{unit and f' {unit}'} ({estimate.low:.2f} to {estimate.high:.2f})"


def counted(value: float) -> Estimate:
    """A figure without chance."""
    return Estimate(basis=Basis.COUNT, center=value, values=(value,))


def timed(values: Sequence[float]) -> Estimate:
    """Figures of several processes."""
    return Estimate(basis=Basis.TIMINGS, center=statistics.median(values), values=tuple(values))


def combined(*terms: tuple[float, Sequence[float]]) -> Estimate:
    """A weighted sum of networks' figures, in which no sample of images has a part.

    Args:
        terms: the weight of each network, and its figures, one for each seed.
    """
    return _combined(terms, image_variance=0.0, num_images=0)


def repeated(values: Sequence[float]) -> Estimate:
    """The mean of one network's figures."""
    return combined((1.0, values))


def ratio(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """The geometric mean of the first network's positive figures over that of the second's."""
    logs = combined((1.0, [math.log(value) for value in first]), (-1.0, [math.log(value) for value in second]))
    return replace(logs, center=math.exp(logs.center), values=tuple(map(math.exp, logs.values)), is_ratio=True)


def combined_errors(*terms: tuple[float, Errors]) -> Estimate:
    """A weighted sum of networks' error rates on the same test images, in points.

    Args:
        terms: the weight of each network, and which images it gets wrong with each seed.
    """
    num_seeds, num_images = terms[0][1].shape
    # What is left of the variance over images when that of single trainings is taken out: they flip images by chance.
    of_images = sum(weight * errors.mean(0) for weight, errors in terms).var(ddof=1)
    of_flips = 0.0
    if num_seeds > 1:
        of_flips = sum(weight**2 * errors.var(0, ddof=1).mean() for weight, errors in terms) / num_seeds
    return _combined(
        [(weight, (100 * errors.mean(1)).tolist()) for weight, errors in terms],
        image_variance=100**2 * max(float(of_images - of_flips), 0.0) / num_images,
        num_images=num_images,
    )


def _combined(terms: Sequence[tuple[float, Sequence[float]]], *, image_variance: float, num_images: int) -> Estimate:
    values = tuple(
        sum(weight * value for (weight, _), value in zip(terms, of_seed, strict=True))
        for of_seed in zip(*(each for _, each in terms), strict=True)
    )
    num_seeds = len(values)
    estimate = Estimate(basis=Basis.SEEDS, center=statistics.fmean(values), values=values, num_images=num_images)
    if num_seeds == 1:
        return estimate
    of_terms = [weight**2 * statistics.variance(each) / num_seeds for weight, each in terms]
    variance = sum(of_terms) + image_variance
    squares = sum(each**2 for each in of_terms) / (num_seeds - 1)
    if image_variance:
        squares += image_variance**2 / (num_images - 1)
    df = variance**2 / squares if squares else num_seeds - 1
    return replace(estimate, standard_error=math.sqrt(variance), df=df)
