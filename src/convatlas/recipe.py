"""Recipes: how a network is trained, as plain data."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random changes of a training image, drawn anew for every image in every epoch.

    First a part of the image is taken (`crop`, or what `shift` leaves of it) and changed by one affine map about its
    center, uniform in plus and minus what is given; then images of a batch are mixed.
    """

    crop: float = 0.0
    """The smallest part of the image's area that is cut out and enlarged, uniform up to all of it; 0: no such cut.
    One that would be wider than the image is as wide as it, and so smaller."""
    aspect: float = 1.0
    """Such a cut is up to so many times as wide as high, or as high as wide."""
    shift: float = 0.0
    """Translation in both directions, as a fraction of the side."""
    scale: float = 0.0
    """Size: 0.1 is from 90 % to 110 %."""
    squeeze: float = 0.0
    """Horizontal compression with vertical elongation, or the reverse: 0.1 is up to 10 %."""
    shear: float = 0.0
    """Horizontal shear: sideways shift for each unit of height."""
    rotation: float = 0.0
    """Degrees."""
    flip: bool = False
    """Mirror left and right, for half of the images."""
    lighting: float = 0.0
    """Deviation of the draws that move an image along the principal components of the training set's colors
    (Krizhevsky et al. 2012, section 4.1)."""
    side: float = 1.0
    """Side of the images that are learned, as a part of the network's resolution, in which it is tested. Cuts are
    enlarged and show things larger than whole images do; that undoes it (Touvron et al. 2019, section 3)."""
    mixup: float = 0.0
    """Part of the batches whose images are overlaid in pairs, by a share drawn from Beta(0.2, 0.2) (Zhang et al.
    2018)."""
    cutmix: float = 0.0
    """Part of the batches where a rectangle of each image shows its partner, uniform in area (Yun et al. 2019)."""

    def side_for(self, resolution: int) -> int:
        """Side in pixels of what a network of that resolution learns from."""
        return round(self.side * resolution)


class Optimizer(enum.StrEnum):
    SGD = "sgd"
    """With momentum; weight decay is part of the gradient."""
    RMSPROP = "rmsprop"
    """Tieleman and Hinton 2012, with momentum; weight decay is part of the gradient."""
    ADAMW = "adamw"
    """Loshchilov and Hutter 2019."""
    LEVENBERG_MARQUARDT = "levenberg-marquardt"
    """The stochastic diagonal form of LeCun et al. 1998, Appendix C."""


class Decayed(enum.StrEnum):
    """Which parameters weight decay draws towards 0."""

    ALL = "all"
    WEIGHTS = "weights"
    """Those that multiply inputs: no biases, norms and coefficients."""
    NOT_DEPTHWISE = "not depthwise"
    """Of these, none of depthwise convolutions (Howard et al. 2017, section 3.2)."""


class Schedule(Protocol):
    """The learning rate over training."""

    def rate(self, peak: float, step: int, num_steps: int) -> float:
        """Of a step, from 0; the highest is `peak`."""
        ...

    def describe(self, epochs: int) -> str:
        """For people, in a training of that length."""
        ...


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Half a wave from the peak to 0 (Loshchilov and Hutter 2017), after a warmup to it."""

    warmup: float = 0.0
    """Fraction of training in which the rate climbs."""

    def rate(self, peak: float, step: int, num_steps: int) -> float:
        done = step / num_steps
        if done < self.warmup:
            # The first step is one already.
            return peak * (step + 1) / (self.warmup * num_steps + 1)
        return peak * 0.5 * (1 + math.cos(math.pi * (done - self.warmup) / (1 - self.warmup)))

    def describe(self, epochs: int) -> str:
        warmup = f"a warmup of {self.warmup * epochs:.3g} epochs, then " if self.warmup else ""
        return f"{warmup}half a wave to 0"


@dataclass(frozen=True)
class LinearDecay:
    """A straight line from the peak to 0."""

    def rate(self, peak: float, step: int, num_steps: int) -> float:
        return peak * (1 - step / num_steps)

    def describe(self, epochs: int) -> str:
        return "a straight line to 0"


@dataclass(frozen=True)
class Steps:
    """Rates in turn, each for a part of training."""

    rates: tuple[tuple[int, float], ...]
    """(how long, rate), in the paper's own unit, be it epochs or iterations; in a training of another length each
    lasts the same part of it."""

    def rate(self, peak: float, step: int, num_steps: int) -> float:
        *ends, total = accumulate(length for length, _ in self.rates)
        # In whole numbers, the next rate begins at the very border.
        now = sum(step * total >= end * num_steps for end in ends)
        return self.rates[now][1] * (peak / max(rate for _, rate in self.rates))

    def describe(self, epochs: int) -> str:
        total = sum(length for length, _ in self.rates)
        return ", ".join(f"{rate:g} for {epochs * length / total:.3g} epochs" for length, rate in self.rates)


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """The rate times `factor` after every so many epochs of those that are printed."""

    factor: float
    every: float
    """Epochs."""
    of: float
    """Epochs; with another number, each stair lasts the same part of training."""
    warmup: float = 0.0
    """Epochs at the beginning in which the rate climbs to its highest, in a straight line."""

    def rate(self, peak: float, step: int, num_steps: int) -> float:
        epoch = step / num_steps * self.of
        if epoch < self.warmup:
            # The first step is one already.
            return peak * (step + 1) / (num_steps * self.warmup / self.of + 1)
        return peak * self.factor ** math.floor(epoch / self.every + 1e-9)

    def describe(self, epochs: int) -> str:
        scale = epochs / self.of
        warmup = f", after a warmup of {self.warmup * scale:.3g} epochs" if self.warmup else ""
        return f"times {self.factor:.3g} every {self.every * scale:.3g} epochs{warmup}"


SCHEDULES: dict[str, type[Cosine | LinearDecay | Steps | Staircase]] = {
    kind.__name__: kind for kind in (Cosine, LinearDecay, Steps, Staircase)
}
"""By the name that a record calls them."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained. The learning rate is a function of the fraction of training done."""

    name: str
    optimizer: Optimizer
    lr: float
    """The highest learning rate."""
    schedule: Cosine | LinearDecay | Steps | Staircase
    batch_size: int
    """Over all processes."""
    epochs: int
    epochs_of: int | None = None
    """The number of images for which `epochs` is meant; smaller sets get more passes, as 1/cbrt(n)."""
    momentum: float = 0.0
    """Of SGD and RMSprop."""
    alpha: float = 0.0
    """RMSprop's decay of the mean square."""
    eps: float = 1e-8
    """RMSprop's and AdamW's."""
    weight_decay: float = 0.0
    decayed: Decayed = Decayed.ALL
    label_smoothing: float = 0.0
    """Part of the target's probability that is spread over all classes (Szegedy et al. 2016)."""
    ema: float = 0.0
    """The weights that count are a moving average over about this fraction of training; 0: the last ones."""
    max_norm: float = 0.0
    """A longer gradient is shortened to this; 0: it is not."""
    augmentation: Augmentation = Augmentation()
    sources: tuple[tuple[str, str], ...] = ()
    """A paper's own recipe: (fields of it or of its augmentation, where they are printed). What no row names the paper
    does not print, and is ours."""

    def epochs_for(self, num_images: int) -> int:
        """Passes over a training set of that many images."""
        if self.epochs_of is None or num_images >= self.epochs_of:
            return self.epochs
        return math.ceil(self.epochs * math.cbrt(self.epochs_of / num_images))

    def rate(self, step: int, num_steps: int) -> float:
        """The learning rate of a step, from 0."""
        return self.schedule.rate(self.lr, step, num_steps)
